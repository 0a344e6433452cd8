//! MCP's JSON-RPC messages. In: method and parameters, or a text read from the wire; out: the body to send, or what
//! the server meant. Pure.

use serde_json::{Map, Value, json};

/// The revision of 2026-07-28 works without a handshake (MCP specification, basic/versioning).
pub(super) const MODERN: &str = "2026-07-28";
/// The newest revision with a handshake.
pub(super) const LEGACY: &str = "2025-11-25";

const META: &str = "io.modelcontextprotocol";

/// A JSON-RPC response.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Response {
    Result(Value),
    Error { code: i64, message: String },
}

pub(super) fn request(id: u64, method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

pub(super) fn notification(method: &str) -> Value {
    json!({"jsonrpc": "2.0", "method": method})
}

pub(super) fn client_info() -> Value {
    json!({"name": "mcp-fleet-operator", "version": env!("CARGO_PKG_VERSION")})
}

pub(super) fn initialize() -> Value {
    json!({"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": client_info()})
}

/// Parameters of a request in the modern era, where every request carries what the handshake used to.
pub(super) fn modern(params: Value) -> Value {
    let mut params = object(params);
    params.insert(
        "_meta".to_owned(),
        json!({
            format!("{META}/protocolVersion"): MODERN,
            format!("{META}/clientCapabilities"): {},
            format!("{META}/clientInfo"): client_info(),
        }),
    );
    Value::Object(params)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// The response to request `id`, or `None` for anything else: requests and notifications of the server, responses
/// to others, and what is not JSON-RPC.
pub(super) fn response(text: &str, id: u64) -> Option<Response> {
    let message: Value = serde_json::from_str(text).ok()?;
    if message.get("jsonrpc")?.as_str()? != "2.0" {
        return None;
    }
    if let Some(error) = message.get("error") {
        // A server that could not read the id answers with null.
        let for_us = message
            .get("id")
            .is_none_or(|found| found.is_null() || *found == json!(id));
        return for_us.then(|| Response::Error {
            code: error.get("code").and_then(Value::as_i64).unwrap_or_default(),
            message: error
                .get("message")
                .and_then(Value::as_str)
                .unwrap_or("no message")
                .to_owned(),
        });
    }
    let result = message.get("result")?;
    (message.get("id") == Some(&json!(id))).then(|| Response::Result(result.clone()))
}

/// `name` and `version` of the server: in `serverInfo` of the result, or since 2026-07-28 in its `_meta`.
pub(super) fn server_info(result: &Value) -> (Option<String>, Option<String>) {
    let info = result
        .get("serverInfo")
        .or_else(|| result.get("_meta")?.get(format!("{META}/serverInfo")));
    let text = |member: &str| {
        let text = info?.get(member)?.as_str()?;
        Some(text.chars().take(256).collect())
    };
    (text("name"), text("version"))
}

/// Revisions of a `server/discover` result, newest first; `None` when it is not such a result.
pub(super) fn supported_versions(result: &Value) -> Option<Vec<String>> {
    let listed = result.get("supportedVersions")?.as_array()?;
    let mut versions: Vec<String> = listed
        .iter()
        .filter_map(Value::as_str)
        .filter(|text| text.len() <= 64)
        .map(str::to_owned)
        .collect();
    // Revisions are dates, so their order is the order of the texts.
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.dedup();
    Some(versions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_response_to_the_request_counts() {
        let cases = [
            (
                r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
                Some(Response::Result(json!({}))),
            ),
            (r#"{"jsonrpc":"2.0","id":2,"result":{}}"#, None),
            (r#"{"jsonrpc":"2.0","id":"1","result":{}}"#, None),
            (r#"{"jsonrpc":"2.0","method":"notifications/message"}"#, None),
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, None),
            (r#"{"id":1,"result":{}}"#, None),
            ("<html>", None),
            (
                r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no"}}"#,
                Some(Response::Error {
                    code: -32600,
                    message: "no".into(),
                }),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(response(text, 1), expected, "{text}");
        }
    }

    #[test]
    fn versions_are_sorted_newest_first() {
        let result = json!({"supportedVersions": ["2025-11-25", "2026-07-28", 7, "2025-11-25"]});
        assert_eq!(
            supported_versions(&result),
            Some(vec!["2026-07-28".into(), "2025-11-25".into()])
        );
        assert_eq!(supported_versions(&json!({})), None);
    }

    #[test]
    fn server_info_is_found_in_both_eras() {
        let info = json!({"name": "weather", "version": "1.2"});
        let expected = (Some("weather".to_owned()), Some("1.2".to_owned()));
        assert_eq!(server_info(&json!({"serverInfo": info})), expected);
        assert_eq!(
            server_info(&json!({"_meta": {"io.modelcontextprotocol/serverInfo": info}})),
            expected
        );
        assert_eq!(server_info(&json!({})), (None, None));
    }
}
