//! The .NET types that policy expressions make and call, as far as they are needed to derive and to sign: `Convert`,
//! `Encoding.UTF8`, `HMACSHA256` and the present time. All of them are among those that the service allows.
//! In: a name with its arguments; out: a value, or nothing where C# would throw or the stand-in does not know it.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::expression::Value;

/// `System.` may be left out: the service's expressions import it.
fn short(path: &str) -> &str {
    path.strip_prefix("System.").unwrap_or(path)
}

/// A static property.
pub(super) fn property(path: &str) -> Option<Value> {
    match short(path) {
        "DateTimeOffset.UtcNow" => {
            let now = std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .ok()?;
            Some(Value::Time(i64::try_from(now.as_secs()).ok()?))
        }
        _ => None,
    }
}

/// A static method.
pub(super) fn call(path: &str, arguments: &[Value]) -> Option<Value> {
    let [argument] = arguments else { return None };
    match (short(path), argument) {
        ("Convert.FromBase64String", Value::Text(text)) => STANDARD.decode(text).ok().map(Value::Bytes),
        ("Convert.ToBase64String", Value::Bytes(bytes)) => Some(Value::Text(STANDARD.encode(bytes))),
        ("Text.Encoding.UTF8.GetBytes" | "Encoding.UTF8.GetBytes", Value::Text(text)) => {
            Some(Value::Bytes(text.clone().into_bytes()))
        }
        _ => None,
    }
}

/// `new`.
pub(super) fn make(path: &str, arguments: &[Value]) -> Option<Value> {
    match (short(path), arguments) {
        ("Security.Cryptography.HMACSHA256", [Value::Bytes(key)]) => Some(Value::Hmac(key.clone())),
        _ => None,
    }
}

/// A method of one of these types.
pub(super) fn method(value: &Value, name: &str, arguments: &[Value]) -> Option<Value> {
    match (value, name, arguments) {
        (Value::Hmac(key), "ComputeHash", [Value::Bytes(bytes)]) => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, key);
            Some(Value::Bytes(hmac::sign(&key, bytes).as_ref().to_vec()))
        }
        (Value::Time(seconds), "ToUnixTimeSeconds", []) => Some(Value::Number(*seconds)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apim::policy::expression::{Context, evaluate, evaluate_text};

    struct Named;

    impl Context for Named {
        fn property(&self, _: &str) -> Option<Value> {
            None
        }

        fn call(&self, path: &str, _: &[Value]) -> Option<Value> {
            (path == "context.Variables").then(|| Value::Text("a key".into()))
        }

        fn named_value(&self, name: &str) -> Option<String> {
            // The key of RFC 4231, section 4.2, in base64: twenty bytes 0x0b.
            (name == "key").then(|| "CwsLCwsLCwsLCwsLCwsLCwsLCws=".into())
        }
    }

    #[test]
    fn a_secret_is_derived_from_a_named_value() {
        let expression = r#"@(System.Convert.ToBase64String(new System.Security.Cryptography.HMACSHA256(System.Convert.FromBase64String("{{key}}")).ComputeHash(System.Text.Encoding.UTF8.GetBytes("Hi There"))))"#;
        let derived = evaluate_text(expression, &Named).unwrap();
        assert_eq!(
            STANDARD.decode(derived).unwrap(),
            [
                0xb0, 0x34, 0x4c, 0x61, 0xd8, 0xdb, 0x38, 0x53, 0x5c, 0xa8, 0xaf, 0xce, 0xaf, 0x0b, 0xf1,
                0x2b, 0x88, 0x1d, 0xc2, 0x00, 0xc9, 0x83, 0x3d, 0xa7, 0x26, 0xe9, 0x37, 0x6c, 0x2e, 0x32,
                0xcf, 0xf7
            ],
            "RFC 4231, test case 1"
        );
    }

    #[test]
    fn a_text_is_signed_with_a_variable_as_key() {
        let expression = r#"@(System.Convert.ToBase64String(new System.Security.Cryptography.HMACSHA256(System.Text.Encoding.UTF8.GetBytes((string)context.Variables["k"])).ComputeHash(System.Text.Encoding.UTF8.GetBytes(("a" ?? "") + "\n" + "1"))))"#;
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"a key");
        let expected = STANDARD.encode(hmac::sign(&key, b"a\n1"));
        assert_eq!(evaluate_text(expression, &Named).unwrap(), expected);
    }

    #[test]
    fn the_time_is_now() {
        let Value::Text(seconds) = evaluate(
            "@(System.DateTimeOffset.UtcNow.ToUnixTimeSeconds().ToString())",
            &Named,
        )
        .unwrap() else {
            panic!("no text");
        };
        assert!(seconds.parse::<i64>().unwrap() > 1_700_000_000);
    }

    #[test]
    fn what_does_not_compile_or_throws_is_an_error() {
        for wrong in [
            r#"@(System.Convert.FromBase64String("not base64!"))"#,
            r#"@(System.Convert.ToBase64String("text"))"#,
            r#"@(new System.Security.Cryptography.HMACSHA256("text").ComputeHash("text"))"#,
            r"@(new System.Security.Cryptography.HMACSHA256())",
            r#"@(new System.IO.File("x"))"#,
            r"@(System.Text.Encoding.UTF8.GetBytes(1))",
        ] {
            assert!(evaluate(wrong, &Named).is_err(), "{wrong}");
        }
    }
}
