//! JSON-RPC answers as bytes. Built by hand from prebuilt parts: the hot path copies, it does not serialise.

use super::envelope::{EnvelopeError, Id};
use super::revision::Era;
use bytes::Bytes;

/// JSON-RPC and MCP error codes that we send (2026-07-28, basic protocol, Error Codes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The body is not JSON.
    Parse,
    /// The body is not a message, or not one for this endpoint.
    InvalidRequest,
    /// No such method.
    MethodNotFound,
    /// Parameters that do not fit the method.
    InvalidParams,
    /// Our fault.
    Internal,
    /// No such resource, up to 2025-11-25. Since then that is [`Code::InvalidParams`].
    ResourceNotFound,
    /// A header is missing or differs from the body.
    HeaderMismatch,
    /// A revision that we do not speak.
    UnsupportedVersion,
}

impl Code {
    /// As on the wire.
    pub fn number(self) -> i32 {
        match self {
            Code::Parse => -32700,
            Code::InvalidRequest => -32600,
            Code::MethodNotFound => -32601,
            Code::InvalidParams => -32602,
            Code::Internal => -32603,
            Code::ResourceNotFound => -32002,
            Code::HeaderMismatch => -32020,
            Code::UnsupportedVersion => -32022,
        }
    }
}

impl From<&EnvelopeError> for Code {
    fn from(error: &EnvelopeError) -> Code {
        match error {
            EnvelopeError::Json(_) => Code::Parse,
            _ => Code::InvalidRequest,
        }
    }
}

/// The id of the request, rendered and ready to be put into an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedId(Vec<u8>);

impl RenderedId {
    /// Render once; the answer may be written after the body that it borrows from is gone.
    pub fn from_id(id: &Id<'_>) -> RenderedId {
        match id {
            Id::Number(digits) => RenderedId(digits.as_bytes().to_vec()),
            Id::String(text) => {
                let mut bytes = Vec::with_capacity(text.len() + 2);
                push_string(&mut bytes, text);
                RenderedId(bytes)
            }
        }
    }
}

/// Append `text` as a JSON string.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, byte) in bytes.iter().copied().enumerate() {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x00..=0x1f => 0,
            _ => continue,
        };
        out.extend_from_slice(&bytes[from..at]);
        from = at + 1;
        if short == 0 {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
        } else {
            out.extend_from_slice(&[b'\\', short]);
        }
    }
    out.extend_from_slice(&bytes[from..]);
    out.push(b'"');
}

const HEAD: &[u8] = br#"{"jsonrpc":"2.0","id":"#;

const ACKNOWLEDGED: &[u8] = br#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"#;

/// What ends the result of a modern answer: its kind, and who sent it.
const MODERN_TAIL: &str = concat!(
    r#""resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"mcp-weather","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#""}}"#
);

/// An answer whose result has the members `members` (JSON text without braces, possibly empty).
pub fn result(id: &RenderedId, era: Era, members: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(HEAD.len() + id.0.len() + members.len() + MODERN_TAIL.len() + 16);
    out.extend_from_slice(HEAD);
    out.extend_from_slice(&id.0);
    out.extend_from_slice(br#","result":{"#);
    out.extend_from_slice(members);
    if era == Era::Modern {
        if !members.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(MODERN_TAIL.as_bytes());
    }
    out.extend_from_slice(b"}}");
    out.into()
}

/// The first message on the stream of a subscription: of the notifications asked for we send none
/// (2026-07-28, basic/patterns/subscriptions, Acknowledgment).
pub fn subscription_acknowledged(id: &RenderedId) -> Bytes {
    let mut out = Vec::with_capacity(ACKNOWLEDGED.len() + id.0.len() + 24);
    out.extend_from_slice(ACKNOWLEDGED);
    out.extend_from_slice(&id.0);
    out.extend_from_slice(br#"},"notifications":{}}}"#);
    out.into()
}

/// The last one, when it is we who end it: the result of the request that opened the subscription.
pub fn subscription_ended(id: &RenderedId) -> Bytes {
    let mut out = Vec::with_capacity(HEAD.len() + 2 * id.0.len() + MODERN_TAIL.len() + 64);
    out.extend_from_slice(HEAD);
    out.extend_from_slice(&id.0);
    out.extend_from_slice(br#","result":{"#);
    out.extend_from_slice(MODERN_TAIL.as_bytes());
    // One more member of the `_meta` that the tail has just closed.
    out.pop();
    out.extend_from_slice(br#","io.modelcontextprotocol/subscriptionId":"#);
    out.extend_from_slice(&id.0);
    out.extend_from_slice(b"}}}");
    out.into()
}

/// An error answer. Without an id (the request could not be read) the member is left out, as the MCP schema wants it.
pub fn error(id: Option<&RenderedId>, code: Code, message: &str, data: Option<&serde_json::Value>) -> Bytes {
    let mut out = Vec::with_capacity(96 + message.len());
    out.extend_from_slice(br#"{"jsonrpc":"2.0","#);
    if let Some(id) = id {
        out.extend_from_slice(br#""id":"#);
        out.extend_from_slice(&id.0);
        out.push(b',');
    }
    out.extend_from_slice(br#""error":{"code":"#);
    out.extend_from_slice(code.number().to_string().as_bytes());
    out.extend_from_slice(br#","message":"#);
    push_string(&mut out, message);
    if let Some(data) = data {
        out.extend_from_slice(br#","data":"#);
        out.extend_from_slice(data.to_string().as_bytes());
    }
    out.extend_from_slice(b"}}");
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::revision::Transport;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn only_modern_answers_carry_modern_words() {
        let id = RenderedId::from_id(&Id::String("a\"b".into()));
        let modern: Value = serde_json::from_slice(&result(&id, Era::Modern, b"\"x\":1")).unwrap();
        assert_eq!(modern["id"], "a\"b");
        assert_eq!(modern["result"]["resultType"], "complete");
        assert_eq!(
            modern["result"]["_meta"]["io.modelcontextprotocol/serverInfo"]["name"],
            "mcp-weather"
        );
        let era = Era::Handshake(Transport::StreamableHttp);
        let old: Value = serde_json::from_slice(&result(&id, era, b"")).unwrap();
        assert_eq!(old, json!({"jsonrpc": "2.0", "id": "a\"b", "result": {}}));
    }

    #[test]
    fn messages_of_a_subscription_carry_the_id_of_its_request() {
        for (id, value) in [
            (Id::Number("7"), json!(7)),
            (Id::String("a\"b".into()), json!("a\"b")),
        ] {
            let id = RenderedId::from_id(&id);
            let first: Value = serde_json::from_slice(&subscription_acknowledged(&id)).unwrap();
            assert_eq!(
                first,
                json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": {
                    "_meta": {"io.modelcontextprotocol/subscriptionId": value}, "notifications": {}}})
            );
            let last: Value = serde_json::from_slice(&subscription_ended(&id)).unwrap();
            assert_eq!(last["id"], value);
            assert_eq!(last["result"]["resultType"], "complete");
            let meta = &last["result"]["_meta"];
            assert_eq!(meta["io.modelcontextprotocol/subscriptionId"], value);
            assert_eq!(meta["io.modelcontextprotocol/serverInfo"]["name"], "mcp-weather");
        }
    }

    #[test]
    fn an_error_without_id_leaves_the_member_out() {
        let answer: Value =
            serde_json::from_slice(&error(None, Code::Parse, "no\n", Some(&json!([1])))).unwrap();
        assert_eq!(
            answer,
            json!({"jsonrpc": "2.0", "error": {"code": -32700, "message": "no\n", "data": [1]}})
        );
    }

    proptest! {
        #[test]
        fn strings_survive(text in any::<String>()) {
            let mut out = Vec::new();
            push_string(&mut out, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
