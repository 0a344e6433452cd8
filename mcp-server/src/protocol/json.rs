//! Gate, first half: bytes of a body go in, a JSON value whose every object has distinct keys comes out.
//!
//! `serde_json` keeps the last of two equal keys and turns numbers into floats, so a gateway in front of us could read another
//! message than we do. This reader refuses duplicate keys, deep nesting and floods of values in the same pass that parses,
//! and it keeps numbers as written: an id is echoed digit by digit, and `1e309` is a bad argument, not a broken body (RFC 8259).

mod reader;

use reader::Reader;
use std::borrow::Cow;

/// Nesting that no MCP message needs; it also bounds the recursion of this reader.
pub const MAX_DEPTH: usize = 32;
/// Values in one message. A value costs about 56 bytes, so a body of small values cannot grow into hundreds of megabytes.
pub const MAX_VALUES: usize = 4096;

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
    Reader::of(text).whole()
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
        let many = (0..20)
            .map(|n| format!(r#""k{n}":0,"#))
            .collect::<Vec<_>>()
            .concat();
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
