//! The call that is measured: a port goes in, a request of revision 2026-07-28 comes out as bytes; and its answer, checked.
//! Beside it the messages of a handshake revision.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

const REVISION: &str = "2026-07-28";
/// Our server has it repeated in a header; the others ignore that one.
const STATE: &str = "CA";
/// Every system's text has it, once for each alert.
const EXPECTED: &str = "Event: ";

pub const REVISION_WITH_HANDSHAKE: &str = "2025-11-25";
pub const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;
pub const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
pub const ALERTS: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_alerts","arguments":{"state":"CA"}}}"#;

/// The part of an answer that all systems must have in common; when it was fetched differs.
#[derive(Debug, PartialEq, Eq)]
pub struct Weather {
    text: String,
    alerts: Value,
}

/// Whether these bytes tell of alerts, without reading them.
pub fn contains_alerts(body: &[u8]) -> bool {
    body.windows(EXPECTED.len())
        .any(|window| window == EXPECTED.as_bytes())
}

/// Head and body as an agent's client would send them.
pub fn request(port: u16) -> Vec<u8> {
    let body = json!({
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": REVISION,
                "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {},
            },
            "name": "get_alerts",
            "arguments": {"state": STATE},
        },
    })
    .to_string();
    format!(
        "POST /mcp HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\nmcp-protocol-version: {REVISION}\r\nmcp-method: tools/call\r\nmcp-name: get_alerts\r\nmcp-param-state: {STATE}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// An answer with alerts, both as text and structured, and nothing else.
pub fn check(status: u16, body: &[u8]) -> Result<Weather> {
    ensure!(
        status == 200,
        "status {status}: {}",
        String::from_utf8_lossy(body)
    );
    ensure!(contains_alerts(body), "an answer without alerts");
    let answer: Value = serde_json::from_slice(body).context("an answer that is not JSON")?;
    let result = &answer["result"];
    let text = result["content"][0]["text"].as_str().unwrap_or_default();
    let alerts = result["structuredContent"]["alerts"].as_array();
    let told = text.matches(EXPECTED).count();
    ensure!(
        told > 0 && alerts.is_some_and(|alerts| alerts.len() == told),
        "an answer without alerts, or not the same ones in both forms: {answer}"
    );
    ensure!(result["isError"] != true, "an error: {answer}");
    let structure = &result["structuredContent"];
    ensure!(
        structure["stale"] == false && structure["asOf"].is_string(),
        "an answer that does not say how old it is: {answer}"
    );
    Ok(Weather {
        text: text.to_owned(),
        alerts: structure["alerts"].clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_says_its_own_length() {
        let request = String::from_utf8(request(8000)).unwrap();
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{head}"
        );
        assert_eq!(
            serde_json::from_str::<Value>(body).unwrap()["method"],
            "tools/call"
        );
    }

    #[test]
    fn only_weather_counts_as_an_answer() {
        let alerts =
            json!({"alerts": [{"event": "Wind Advisory"}], "asOf": "2026-07-28T00:00:00Z", "stale": false});
        let good =
            json!({"result": {"content": [{"text": "Event: Wind Advisory"}], "structuredContent": alerts}});
        let weather = check(200, good.to_string().as_bytes()).unwrap();
        assert_eq!(weather.text, "Event: Wind Advisory");
        assert!(check(500, good.to_string().as_bytes()).is_err());
        let empty = json!({"result": {"content": [{"text": "No active alerts"}], "structuredContent": {"alerts": []}}});
        assert!(check(200, empty.to_string().as_bytes()).is_err());
    }
}
