//! Gate, second half: a parsed body goes in, one JSON-RPC message comes out, or the reason why it is none.
//!
//! The envelope is closed: `jsonrpc`, `id`, `method`, `params`, and `result` or `error` in a response. Anything else, so also
//! `Method` or `ID`, is refused rather than ignored, since a reader that folds case would see another message.

use super::json::{Json, JsonError, Object};
use std::borrow::Cow;

/// Longest id that is echoed.
const MAX_ID_BYTES: usize = 256;

/// One JSON-RPC message (MCP basic protocol, all revisions; batches existed in 2025-03-26 only and are refused).
#[derive(Debug, PartialEq)]
pub enum Message<'a> {
    /// Wants an answer.
    Request {
        /// To be echoed.
        id: Id<'a>,
        /// Method name.
        method: Cow<'a, str>,
        /// Empty when absent.
        params: Object<'a>,
    },
    /// Wants none.
    Notification {
        /// Method name.
        method: Cow<'a, str>,
        /// Empty when absent.
        params: Object<'a>,
    },
    /// An answer to a request that we never sent.
    Response,
}

/// A request id: a string or an integer, as written.
#[derive(Debug, Clone, PartialEq)]
pub enum Id<'a> {
    /// The digits.
    Number(&'a str),
    /// The text.
    String(Cow<'a, str>),
}

/// Why a body is not a message. The id is known when only the rest is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// -32700
    #[error(transparent)]
    Json(#[from] JsonError),
    /// -32600
    #[error("batches are not supported: send one message per request")]
    Batch,
    /// -32600
    #[error("a message is a JSON object")]
    NotAnObject,
    /// -32600
    #[error("\"jsonrpc\" must be \"2.0\"")]
    Version,
    /// -32600
    #[error("unknown member {0:?}: a message has jsonrpc, id, method and params, in lower case")]
    UnknownMember(String),
    /// -32600
    #[error("\"id\" must be a string or an integer of at most {MAX_ID_BYTES} bytes")]
    Id,
    /// -32600
    #[error("\"method\" must be a string")]
    Method,
    /// -32600
    #[error("\"params\" must be an object")]
    Params,
    /// -32600
    #[error("a message has either a method or a result or an error")]
    Shape,
}

/// Turn a parsed body into a message.
pub fn open(body: Json<'_>) -> Result<Message<'_>, EnvelopeError> {
    let members = match body {
        Json::Object(object) => object.0,
        Json::Array(_) => return Err(EnvelopeError::Batch),
        _ => return Err(EnvelopeError::NotAnObject),
    };
    let (mut version, mut id, mut method, mut params) = (None, None, None, None);
    let mut answers = 0;
    for (name, value) in members {
        match name.as_ref() {
            "jsonrpc" => version = Some(value),
            "id" => id = Some(value),
            "method" => method = Some(value),
            "params" => params = Some(value),
            "result" | "error" => answers += 1,
            other => return Err(EnvelopeError::UnknownMember(other.chars().take(40).collect())),
        }
    }
    if version.as_ref().and_then(Json::as_str) != Some("2.0") {
        return Err(EnvelopeError::Version);
    }
    let id = id.map(read_id).transpose();
    match (method, answers) {
        (Some(Json::String(method)), 0) => {
            let params = match params {
                None => Object::default(),
                Some(Json::Object(object)) => object,
                Some(_) => return Err(EnvelopeError::Params),
            };
            Ok(match id? {
                Some(id) => Message::Request { id, method, params },
                None => Message::Notification { method, params },
            })
        }
        (Some(_), 0) => Err(EnvelopeError::Method),
        // An error that answers an unreadable request has no id, or null.
        (None, 1) if params.is_none() => Ok(Message::Response),
        _ => Err(EnvelopeError::Shape),
    }
}

fn read_id(value: Json<'_>) -> Result<Id<'_>, EnvelopeError> {
    match value {
        Json::Number(digits)
            if digits.len() <= MAX_ID_BYTES
                && digits.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit()) =>
        {
            Ok(Id::Number(digits))
        }
        Json::String(text) if text.len() <= MAX_ID_BYTES => Ok(Id::String(text)),
        _ => Err(EnvelopeError::Id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::json::parse;

    fn read(body: &str) -> Result<Message<'_>, EnvelopeError> {
        open(parse(body.as_bytes())?)
    }

    #[test]
    fn tells_requests_notifications_and_responses_apart() {
        assert!(matches!(
            read(r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#),
            Ok(Message::Request {
                id: Id::Number("7"),
                ..
            })
        ));
        assert!(matches!(
            read(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#),
            Ok(Message::Notification { .. })
        ));
        assert_eq!(
            read(r#"{"jsonrpc":"2.0","id":"a","result":{}}"#),
            Ok(Message::Response)
        );
    }

    #[test]
    fn refuses_every_other_shape() {
        use EnvelopeError as E;
        for (body, error) in [
            ("[]", E::Batch),
            (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, E::Batch),
            ("1", E::NotAnObject),
            (r#"{"id":1,"method":"ping"}"#, E::Version),
            (r#"{"jsonrpc":2.0,"id":1,"method":"ping"}"#, E::Version),
            (
                r#"{"jsonrpc":"2.0","id":1,"Method":"ping"}"#,
                E::UnknownMember("Method".into()),
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"ping","METHOD":"x"}"#,
                E::UnknownMember("METHOD".into()),
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method\u0000":"ping"}"#,
                E::UnknownMember("method\0".into()),
            ),
            (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, E::Id),
            (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, E::Id),
            (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, E::Id),
            (r#"{"jsonrpc":"2.0","id":1,"method":1}"#, E::Method),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#,
                E::Params,
            ),
            (r#"{"jsonrpc":"2.0","id":1}"#, E::Shape),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#,
                E::Shape,
            ),
            (r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#, E::Shape),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}"#,
                E::Json(JsonError::DuplicateKey),
            ),
        ] {
            assert_eq!(read(body), Err(error), "{body}");
        }
    }
}
