//! Gate, first half: bytes of a body go in, a JSON value whose every object has distinct keys comes out.
//!
//! `serde_json` keeps the last of two equal keys and turns numbers into floats, so a gateway in front of us could read another
//! message than we do. This reader refuses duplicate keys, deep nesting and floods of values in the same pass that parses,
//! and it keeps numbers as written: an id is echoed digit by digit, and `1e309` is a bad argument, not a broken body (RFC 8259).

use std::borrow::Cow;
use std::collections::HashSet;

/// Nesting that no MCP message needs; it also bounds the recursion of this reader.
pub const MAX_DEPTH: usize = 32;
/// Values in one message. A value costs about 56 bytes, so a body of small values cannot grow into hundreds of megabytes.
pub const MAX_VALUES: usize = 4096;
/// Up to this many keys, comparing each with each is faster than hashing.
const FEW_KEYS: usize = 12;

/// A parsed value. Strings without escapes borrow from the body; numbers are the text of a valid JSON number.
#[derive(Debug, Clone, PartialEq)]
pub enum Json<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as written.
    Number(&'a str),
    /// A string, unescaped.
    String(Cow<'a, str>),
    /// An array.
    Array(Vec<Json<'a>>),
    /// An object with distinct keys, in the order of the body.
    Object(Object<'a>),
}

/// Members of an object, keys distinct, in the order of the body.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Object<'a>(pub Vec<(Cow<'a, str>, Json<'a>)>);

impl<'a> Object<'a> {
    /// The value of `key`; keys are compared byte by byte.
    pub fn get(&self, key: &str) -> Option<&Json<'a>> {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value)
    }
}

impl<'a> Json<'a> {
    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Json::String(text) => Some(text),
            _ => None,
        }
    }

    /// The object, if it is one.
    pub fn as_object(&self) -> Option<&Object<'a>> {
        match self {
            Json::Object(object) => Some(object),
            _ => None,
        }
    }
}

/// Why a body is not a JSON text that we read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// RFC 8259, section 8.1.
    #[error("the body is not UTF-8")]
    NotUtf8,
    /// Not a JSON text.
    #[error("the body is not JSON: error at byte {at}")]
    Syntax {
        /// Offset of the first byte that cannot be.
        at: usize,
    },
    /// More than [`MAX_DEPTH`] levels.
    #[error("the body nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// More than [`MAX_VALUES`] values.
    #[error("the body holds more than {MAX_VALUES} values")]
    TooMany,
    /// An object names a key twice.
    #[error("an object in the body has the same key twice")]
    DuplicateKey,
}

/// Parse a whole body.
pub fn parse(body: &[u8]) -> Result<Json<'_>, JsonError> {
    let text = std::str::from_utf8(body).map_err(|_| JsonError::NotUtf8)?;
    let mut reader = Reader {
        text,
        bytes: text.as_bytes(),
        at: 0,
        values: 0,
    };
    reader.skip_space();
    let value = reader.value(0)?;
    reader.skip_space();
    if reader.at == reader.bytes.len() {
        Ok(value)
    } else {
        Err(reader.syntax())
    }
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    values: usize,
}

impl<'a> Reader<'a> {
    fn syntax(&self) -> JsonError {
        JsonError::Syntax { at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(self.syntax())
        }
    }

    fn value(&mut self, depth: usize) -> Result<Json<'a>, JsonError> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(JsonError::TooMany);
        }
        match self.peek() {
            Some(b'"') => Ok(Json::String(self.string()?)),
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            _ => Err(self.syntax()),
        }
    }

    fn word(&mut self, word: &str, value: Json<'a>) -> Result<Json<'a>, JsonError> {
        if self.bytes[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(value)
        } else {
            Err(self.syntax())
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json<'a>, JsonError> {
        if depth > MAX_DEPTH {
            return Err(JsonError::TooDeep);
        }
        self.at += 1;
        let mut members: Vec<(Cow<'a, str>, Json<'a>)> = Vec::new();
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Json::Object(Object(members)));
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(self.syntax());
            }
            let key = self.string()?;
            if members.len() < FEW_KEYS && members.iter().any(|(name, _)| *name == key) {
                return Err(JsonError::DuplicateKey);
            }
            self.skip_space();
            self.expect(b':')?;
            self.skip_space();
            let value = self.value(depth)?;
            members.push((key, value));
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(self.syntax()),
            }
        }
        self.at += 1;
        if members.len() > FEW_KEYS {
            let mut seen = HashSet::with_capacity(members.len());
            if !members.iter().all(|(name, _)| seen.insert(name.as_ref())) {
                return Err(JsonError::DuplicateKey);
            }
        }
        Ok(Json::Object(Object(members)))
    }

    fn array(&mut self, depth: usize) -> Result<Json<'a>, JsonError> {
        if depth > MAX_DEPTH {
            return Err(JsonError::TooDeep);
        }
        self.at += 1;
        let mut items = Vec::new();
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Json::Array(items));
        }
        loop {
            self.skip_space();
            items.push(self.value(depth)?);
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(self.syntax()),
            }
        }
        self.at += 1;
        Ok(Json::Array(items))
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.syntax());
        }
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Json<'a>, JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Json::Number(&self.text[start..self.at]))
    }

    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.at += 1;
        let start = self.at;
        loop {
            match self.peek() {
                Some(b'"') => {
                    let text = &self.text[start..self.at];
                    self.at += 1;
                    return Ok(Cow::Borrowed(text));
                }
                Some(b'\\') => return self.escaped_string(start),
                Some(0x20..) => self.at += 1,
                _ => return Err(self.syntax()),
            }
        }
    }

    fn escaped_string(&mut self, start: usize) -> Result<Cow<'a, str>, JsonError> {
        let mut text = String::from(&self.text[start..self.at]);
        loop {
            let plain = self.at;
            while matches!(self.peek(), Some(byte) if byte >= 0x20 && byte != b'"' && byte != b'\\') {
                self.at += 1;
            }
            text.push_str(&self.text[plain..self.at]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(text));
                }
                Some(b'\\') => text.push(self.escape()?),
                _ => return Err(self.syntax()),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        self.at += 1;
        let escaped = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return Err(self.syntax()),
        };
        self.at += 1;
        Ok(escaped)
    }

    fn unicode_escape(&mut self) -> Result<char, JsonError> {
        let first = self.four_hex()?;
        let code = match first {
            0xd800..=0xdbff => {
                if !self.bytes[self.at..].starts_with(b"\\u") {
                    return Err(self.syntax());
                }
                self.at += 1;
                let second = self.four_hex()?;
                if !(0xdc00..=0xdfff).contains(&second) {
                    return Err(self.syntax());
                }
                0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            other => other,
        };
        char::from_u32(code).ok_or_else(|| self.syntax())
    }

    /// At `u`: reads it and four hexadecimal digits.
    fn four_hex(&mut self) -> Result<u32, JsonError> {
        let digits = self
            .bytes
            .get(self.at + 1..self.at + 5)
            .ok_or_else(|| self.syntax())?;
        let mut code = 0;
        for digit in digits {
            code = code * 16 + char::from(*digit).to_digit(16).ok_or_else(|| self.syntax())?;
        }
        self.at += 5;
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn as_serde(value: &Json<'_>) -> serde_json::Value {
        match value {
            Json::Null => serde_json::Value::Null,
            Json::Bool(flag) => (*flag).into(),
            // serde_json may be off by one unit in the last place when it reads a float; the standard library is not.
            Json::Number(text) => text
                .parse::<i64>()
                .map_or_else(|_| text.parse::<f64>().unwrap().into(), serde_json::Value::from),
            Json::String(text) => text.as_ref().into(),
            Json::Array(items) => items.iter().map(as_serde).collect(),
            Json::Object(object) => serde_json::Value::Object(
                object
                    .0
                    .iter()
                    .map(|(name, value)| (name.to_string(), as_serde(value)))
                    .collect(),
            ),
        }
    }

    #[test]
    fn refuses_what_two_readers_could_read_differently() {
        assert_eq!(parse(br#"{"a":1,"a":2}"#), Err(JsonError::DuplicateKey));
        assert_eq!(
            parse(br#"{"a":{"b":1,"\u0062":2}}"#),
            Err(JsonError::DuplicateKey)
        );
        let many: String = (0..20).map(|n| format!(r#""k{n}":0,"#)).collect();
        assert_eq!(
            parse(format!(r#"{{{many}"k19":1}}"#).as_bytes()),
            Err(JsonError::DuplicateKey)
        );
        assert!(parse(format!(r#"{{{many}"k20":1}}"#).as_bytes()).is_ok());
        for bad in [
            "",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "01",
            "1.",
            "-",
            "NaN",
            "+1",
            "\"\t\"",
            "\"\\x\"",
            "1 2",
            "'a'",
        ] {
            assert!(
                matches!(parse(bad.as_bytes()), Err(JsonError::Syntax { .. })),
                "{bad}"
            );
        }
        assert!(parse(br#""\ud800""#).is_err());
        assert!(parse(br#""\ud800\u0041""#).is_err());
        assert_eq!(parse(b"\"\xff\""), Err(JsonError::NotUtf8));
        assert!(
            parse("\u{feff}{}".as_bytes()).is_err(),
            "a byte order mark is not JSON"
        );
    }

    #[test]
    fn bounds_depth_and_values() {
        assert!(parse(&[b"[".repeat(MAX_DEPTH), b"]".repeat(MAX_DEPTH)].concat()).is_ok());
        assert_eq!(parse(&b"[".repeat(100_000)), Err(JsonError::TooDeep));
        assert_eq!(parse(&b"{\"a\":".repeat(10_000)), Err(JsonError::TooDeep));
        let flood = format!("[{}0]", "0,".repeat(MAX_VALUES));
        assert_eq!(parse(flood.as_bytes()), Err(JsonError::TooMany));
    }

    #[test]
    fn keeps_numbers_as_written_and_unescapes() {
        assert_eq!(parse(b" 1e309 "), Ok(Json::Number("1e309")));
        assert_eq!(
            parse(b"12345678901234567890123"),
            Ok(Json::Number("12345678901234567890123"))
        );
        assert_eq!(
            parse(br#""a\n\u00e9\ud83d\ude00""#),
            Ok(Json::String("a\né😀".into()))
        );
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            (-1e9..1e9f64).prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::hash_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn reads_what_serde_writes(value in any_json()) {
            for body in [serde_json::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()] {
                prop_assert_eq!(as_serde(&parse(body.as_bytes()).unwrap()), value.clone());
            }
        }

        #[test]
        fn accepts_nothing_that_serde_refuses(body in prop::collection::vec(
            prop::sample::select(b"{}[]\",:\\u0019.eE+-tfn al\xc3\xa9".to_vec()), 0..24)) {
            if parse(&body).is_ok() {
                // Lone escapes and huge exponents aside, both readers agree on the grammar.
                let serde: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(&body);
                prop_assert!(serde.is_ok());
            }
        }
    }
}
