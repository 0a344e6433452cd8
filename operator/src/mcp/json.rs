//! JSON from outside, looked at in place. In: a text of any size; out: its members and strings, as views of it.
//!
//! Never a tree: `[0,0,..]` grows to sixteen times its size as one, `[{"a":0},..]` to eighty times.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A member that has not been looked into. `None` for one that is absent or null.
pub(super) type Member<'a> = Option<&'a RawValue>;

/// A member that is there, even as null.
pub(super) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Member<'de>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// An object's members. `None` for what is no object: derived types would take arrays, too.
pub(super) fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    let text = text.trim_start();
    text.starts_with('{').then(|| serde_json::from_str(text).ok())?
}

/// One member of an object, by its name; of equal names the last, as parsers have it.
pub(super) fn member<'a>(object: &'a str, name: &str) -> Member<'a> {
    struct Find<'b>(&'b str);

    impl<'de> Visitor<'de> for Find<'_> {
        type Value = Member<'de>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
            let mut found = None;
            while let Some((name, value)) = members.next_entry::<&RawValue, &RawValue>()? {
                if string(Some(name), name.get().len()).as_deref() == Some(self.0) {
                    found = Some(value);
                }
            }
            Ok(found)
        }
    }

    serde_json::Deserializer::from_str(object)
        .deserialize_map(Find(name))
        .unwrap_or_default()
}

/// A member that is a list, as it was sent. Asked for before a parser is, which would copy anything else into its error.
pub(super) fn list(member: Member<'_>) -> Option<&str> {
    member.map(RawValue::get).filter(|text| text.starts_with('['))
}

/// A string that takes at most `limit` bytes as it was sent. `None` for anything else.
pub(super) fn string(member: Member<'_>, limit: usize) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    let text = member?.get();
    let fits = text.starts_with('"') && text.len() <= limit + 2;
    fits.then(|| serde_json::from_str::<Text<'_>>(text).ok())?
        .map(|text| text.0)
}

/// At most `limit` characters; what is cut ends with an ellipsis.
pub(super) fn shortened(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text.to_owned(),
        Some(_) => text.chars().take(limit - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize)]
    struct Both<'a> {
        #[serde(borrow, default)]
        a: Member<'a>,
        #[serde(borrow, default, deserialize_with = "present")]
        b: Member<'a>,
    }

    #[test]
    fn members_are_views_and_null_is_told_from_absent_where_asked() {
        let text = r#" {"a": null, "b": null, "c": [[[]]]}"#;
        let both: Both<'_> = object(text).unwrap();
        assert!(both.a.is_none());
        assert_eq!(both.b.unwrap().get(), "null");
        let both: Both<'_> = object(r#"{"a": {"x": [1 ,2]}}"#).unwrap();
        assert_eq!(both.a.unwrap().get(), r#"{"x": [1 ,2]}"#);
        assert!(both.b.is_none());
        for none in ["", "[1,2]", "null", "{", r#"{"a":1}{"#] {
            assert!(object::<Both<'_>>(none).is_none(), "{none}");
        }
    }

    #[test]
    fn a_member_is_found_by_its_name() {
        let find = |text: &'static str| member(text, "a").map(RawValue::get);
        assert_eq!(find(r#"{"b":1,"\u0061":[2],"c":{"a":3}}"#), Some("[2]"));
        assert_eq!(find(r#"{"a":1,"a":2}"#), Some("2"));
        assert_eq!(find(r#"{"b":1}"#), None);
        assert_eq!(find(r#"["a",1]"#), None);
    }

    #[test]
    fn strings_are_read_up_to_a_limit() {
        let read = |text: &str| {
            let member: &RawValue = serde_json::from_str(text).unwrap();
            string(Some(member), 8).map(Cow::into_owned)
        };
        assert_eq!(read(r#""12345678""#).as_deref(), Some("12345678"));
        assert_eq!(read(r#""a\n\u00e9""#).as_deref(), None);
        assert_eq!(read(r#""\u00e9""#).as_deref(), Some("é"));
        assert_eq!(read(r#""123456789""#), None);
        assert_eq!(read("7"), None);
        assert_eq!(shortened("äöü", 3), "äöü");
        assert_eq!(shortened("äöüß", 3), "äö…");
    }
}
