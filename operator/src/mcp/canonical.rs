//! The canonical text of a JSON value: members sorted by name, no white space, one spelling for each string and number.
//! In: a value as it was sent; out: the text, piece by piece. Of an object only the places of its members are held, of
//! an array nothing, so that a value costs no more than the longest of its paths. Pure.

use std::fmt::{self, Write};

use serde::de::{Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// Objects and arrays within each other. Deeper ones are no definition that a model could read.
const DEPTH: usize = 64;
/// Members of all objects on one path. Schemas have some dozens.
const MEMBERS: usize = 4_096;

/// A value that has no canonical text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Nested too deep, or with too many members in one object.
    TooLarge,
    /// A number or a string that stands for nothing.
    Invalid,
}

/// Writes the canonical text of an object without the member `left_out`, or of any other value.
pub(super) fn write(out: &mut impl Write, value: &RawValue, left_out: &str) -> Result<(), Refusal> {
    // First, since a parser remembers what encloses it, and there is one for each level.
    if depth(value.get()) > DEPTH {
        return Err(Refusal::TooLarge);
    }
    let mut writer = Writer {
        out,
        members: 0,
        refusal: None,
    };
    writer.value(value.get(), Some(left_out)).map_err(|error| {
        let told = writer.refusal;
        told.unwrap_or(error)
    })
}

/// A member's name and value, as sent.
type Span<'a> = (&'a str, &'a str);

struct Writer<'a, W> {
    out: &'a mut W,
    members: usize,
    /// What a visitor could not tell as itself.
    refusal: Option<Refusal>,
}

impl<W: Write> Writer<'_, W> {
    fn value(&mut self, text: &str, left_out: Option<&str>) -> Result<(), Refusal> {
        match text.as_bytes().first() {
            Some(b'{') => self.object(text, left_out),
            Some(b'[') => self.array(text),
            Some(b'"') => self.string(text),
            _ => {
                let scalar: Value = serde_json::from_str(text).map_err(|_| Refusal::Invalid)?;
                self.put(format_args!("{scalar}"))
            }
        }
    }

    fn object(&mut self, text: &str, left_out: Option<&str>) -> Result<(), Refusal> {
        let room = MEMBERS - self.members;
        let mut members = spans(text, room)?;
        let held = members.len();
        self.members += held;
        // Stable, so that of equal names the last stays the last, which is the one that counts.
        members.sort_by(|(one, _), (other, _)| unescaped(one).cmp(unescaped(other)));
        self.text("{")?;
        let mut first = true;
        for (index, (name, value)) in members.iter().enumerate() {
            let again = members
                .get(index + 1)
                .is_some_and(|(next, _)| unescaped(next).eq(unescaped(name)));
            let unwanted = left_out.is_some_and(|left_out| unescaped(name).eq(left_out.chars().map(Some)));
            if again || unwanted {
                continue;
            }
            self.text(if first { "" } else { "," })?;
            first = false;
            self.string(name)?;
            self.text(":")?;
            self.value(value, None)?;
        }
        self.members -= held;
        self.text("}")
    }

    fn array(&mut self, text: &str) -> Result<(), Refusal> {
        self.text("[")?;
        serde_json::Deserializer::from_str(text)
            .deserialize_seq(Items(self))
            .map_err(|_| Refusal::Invalid)?;
        self.text("]")
    }

    fn string(&mut self, text: &str) -> Result<(), Refusal> {
        if !text.contains('\\') {
            // Whatever would have to be escaped was.
            return self.text(text);
        }
        self.text("\"")?;
        for character in unescaped(text) {
            match character.ok_or(Refusal::Invalid)? {
                '"' => self.text("\\\"")?,
                '\\' => self.text("\\\\")?,
                '\u{8}' => self.text("\\b")?,
                '\u{9}' => self.text("\\t")?,
                '\u{a}' => self.text("\\n")?,
                '\u{c}' => self.text("\\f")?,
                '\u{d}' => self.text("\\r")?,
                control if u32::from(control) < 0x20 => {
                    self.put(format_args!("\\u{:04x}", u32::from(control)))?;
                }
                other => self.out.write_char(other).map_err(|_| Refusal::Invalid)?,
            }
        }
        self.text("\"")
    }

    fn text(&mut self, text: &str) -> Result<(), Refusal> {
        self.out.write_str(text).map_err(|_| Refusal::Invalid)
    }

    fn put(&mut self, arguments: fmt::Arguments<'_>) -> Result<(), Refusal> {
        self.out.write_fmt(arguments).map_err(|_| Refusal::Invalid)
    }
}

/// Writes items as they come.
struct Items<'a, 'b, W>(&'a mut Writer<'b, W>);

impl<'de, W: Write> Visitor<'de> for Items<'_, '_, W> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut first = true;
        while let Some(item) = items.next_element::<&RawValue>()? {
            let comma = if first { "" } else { "," };
            first = false;
            let written = self.0.text(comma).and_then(|()| self.0.value(item.get(), None));
            if let Err(refusal) = written {
                self.0.refusal.get_or_insert(refusal);
                return Err(serde::de::Error::custom("refused"));
            }
        }
        Ok(())
    }
}

/// How deep objects and arrays are within each other, in a text that is known to be JSON.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => loop {
                match bytes.next() {
                    Some(b'\\') => _ = bytes.next(),
                    Some(b'"') | None => break,
                    Some(_) => {}
                }
            },
            _ => {}
        }
    }
    deepest
}

/// The members of an object; at most `room`.
fn spans(text: &str, room: usize) -> Result<Vec<Span<'_>>, Refusal> {
    struct Members {
        room: usize,
    }

    impl<'de> Visitor<'de> for Members {
        type Value = Option<Vec<Span<'de>>>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some((name, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                if members.len() == self.room {
                    // The rest is read over, so that what is too large is not called broken.
                    while map.next_entry::<&RawValue, &RawValue>()?.is_some() {}
                    return Ok(None);
                }
                members.push((name.get(), value.get()));
            }
            Ok(Some(members))
        }
    }

    serde_json::Deserializer::from_str(text)
        .deserialize_map(Members { room })
        .map_err(|_| Refusal::Invalid)?
        .ok_or(Refusal::TooLarge)
}

/// The characters of a string as it was sent, quotes included; `None` for one that is none (a lone surrogate), which
/// is the last.
fn unescaped(text: &str) -> Unescaped<'_> {
    let inner = text.strip_prefix('"').unwrap_or(text);
    Unescaped {
        rest: inner.strip_suffix('"').unwrap_or(inner),
    }
}

struct Unescaped<'a> {
    rest: &'a str,
}

impl Iterator for Unescaped<'_> {
    type Item = Option<char>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut characters = self.rest.chars();
        let first = characters.next()?;
        if first != '\\' {
            self.rest = characters.as_str();
            return Some(Some(first));
        }
        let escape = characters.next();
        self.rest = characters.as_str();
        let character = match escape {
            Some('b') => Some('\u{8}'),
            Some('t') => Some('\u{9}'),
            Some('n') => Some('\u{a}'),
            Some('f') => Some('\u{c}'),
            Some('r') => Some('\u{d}'),
            Some('u') => self.code_point(),
            other => other,
        };
        if character.is_none() {
            self.rest = "";
        }
        Some(character)
    }
}

impl Unescaped<'_> {
    /// What follows `\u`, and the second half of a pair (RFC 8259, section 7).
    fn code_point(&mut self) -> Option<char> {
        let first = self.unit()?;
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(first);
        }
        self.rest = self.rest.strip_prefix("\\u")?;
        let second = self.unit()?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
        char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + second)
    }

    fn unit(&mut self) -> Option<u32> {
        let digits = self.rest.get(..4)?;
        let unit = u32::from_str_radix(digits, 16).ok()?;
        self.rest = self.rest.get(4..)?;
        Some(unit)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> Result<String, Refusal> {
        let mut out = String::new();
        write(&mut out, serde_json::from_str(text).unwrap(), "_meta").map(|()| out)
    }

    /// The same from a tree.
    fn reference(value: &Value) -> String {
        match value {
            Value::Object(members) => {
                let sorted: BTreeMap<_, _> = members.iter().collect();
                let members = sorted
                    .into_iter()
                    .map(|(name, member)| format!("{}:{}", Value::String(name.clone()), reference(member)));
                format!("{{{}}}", members.collect::<Vec<_>>().join(","))
            }
            Value::Array(items) => format!("[{}]", items.iter().map(reference).collect::<Vec<_>>().join(",")),
            scalar => scalar.to_string(),
        }
    }

    #[test]
    fn there_is_one_text_for_one_meaning() {
        let cases = [
            (
                r#"{ "b" : [ 1 , null,true ] , "a" : "x" }"#,
                r#"{"a":"x","b":[1,null,true]}"#,
            ),
            (r#"{"\u0061":1,"A":2}"#, r#"{"A":2,"a":1}"#),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            (r#"{"a":1,"_meta":{"b":2}}"#, r#"{"a":1}"#),
            (r#"{"a":{"_meta":1}}"#, r#"{"a":{"_meta":1}}"#),
            (r#"["\/\u00E9\ud83d\ude00\u0001\"\\"]"#, r#"["/é😀\u0001\"\\"]"#),
            (
                "[1.0,1e3,-0,12345678901234567890]",
                "[1.0,1000.0,-0.0,12345678901234567890]",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(canonical(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_definition_is_refused() {
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(canonical(&deep(64)).is_ok());
        assert!(canonical(&format!(r#"["\"{}",{}]"#, "[".repeat(99), deep(63))).is_ok());
        assert_eq!(canonical(&deep(65)), Err(Refusal::TooLarge));
        assert_eq!(canonical(&deep(200_000)), Err(Refusal::TooLarge));
        let wide = |members: usize| {
            let members: Vec<_> = (0..members).map(|index| format!("\"{index}\":0")).collect();
            format!("[{{{}}}]", members.join(","))
        };
        assert!(canonical(&wide(4_096)).is_ok());
        assert_eq!(canonical(&wide(4_097)), Err(Refusal::TooLarge));
        for invalid in [r#"["\ud800"]"#, r#"["\ud800\u0061"]"#, r#"["\udc00"]"#, "[1e999]"] {
            assert_eq!(canonical(invalid), Err(Refusal::Invalid), "{invalid}");
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[a-c\"\\\\\n\u{1}é😀/]{0,5}".prop_map(Value::from),
        ];
        scalar.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("[a-c\"\\\\\n\u{1}é😀]{0,3}", inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_is_what_a_tree_gives(value in values(), spaced: bool) {
            let text = if spaced { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            // As a parser sees it: numbers may come back in another form.
            let text = text.unwrap();
            let parsed: Value = serde_json::from_str(&text).unwrap();
            let mut out = String::new();
            write(&mut out, serde_json::from_str(text.trim()).unwrap(), "no such member").unwrap();
            prop_assert_eq!(out, reference(&parsed));
        }

        #[test]
        fn escapes_are_read_as_a_parser_reads_them(text in r#"(\\u[0-9a-fA-F]{4}|\\[bfnrt"\\/]|[a-z é😀]){0,8}"#) {
            let text = format!("\"{text}\"");
            let raw: &RawValue = serde_json::from_str(&text).unwrap();
            let mut out = String::new();
            let written = write(&mut out, raw, "");
            if let Ok(parsed) = serde_json::from_str::<String>(&text) {
                prop_assert_eq!(written, Ok(()));
                prop_assert_eq!(out, serde_json::to_string(&parsed).unwrap());
            } else {
                prop_assert_eq!(written, Err(Refusal::Invalid));
            }
        }
    }
}
