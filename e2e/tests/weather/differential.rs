//! The same requests to the weather server and to the same tools on plain rmcp: both answer alike, but for what a table says.
//!
//! In: requests. Out: status and body of both, compared as values. What names the server (`_meta` serverInfo and its like) is left out.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use mcp_fleet_e2e::bench::weather::rmcp_server;
use mcp_fleet_e2e::clients::MODERN;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::Test;
use crate::session::client;
use crate::world::World;

/// The last revision with a handshake.
const HANDSHAKE: &str = "2025-11-25";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Era {
    Handshake,
    Modern,
}

/// A request: a name for people, a method, its parameters.
type Case = (&'static str, &'static str, Value);

/// How the weather server's answer differs from rmcp's, on purpose.
struct Difference {
    era: Era,
    case: &'static str,
    why: &'static str,
    /// Whether both answers are as this entry knows them.
    known: fn(&Answer, &Answer) -> bool,
}

/// What came back.
#[derive(Debug, Clone, PartialEq)]
struct Answer {
    status: u16,
    body: Value,
}

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "differential::handshake_answers_are_those_of_plain_rmcp",
            |world| compare(world, Era::Handshake),
        ),
        Test::new("differential::modern_answers_are_those_of_plain_rmcp", |world| {
            compare(world, Era::Modern)
        }),
    ]
}

/// What both eras know.
fn shared() -> Vec<Case> {
    let call = |name: &str, arguments: Value| json!({"name": name, "arguments": arguments});
    vec![
        ("list", "tools/list", json!({})),
        ("alerts", "tools/call", call("get_alerts", json!({"state": "WA"}))),
        (
            "no alerts",
            "tools/call",
            call("get_alerts", json!({"state": "VT"})),
        ),
        (
            "forecast",
            "tools/call",
            call("get_forecast", json!({"latitude": 47.603, "longitude": -122.33})),
        ),
        (
            "forecast of whole degrees",
            "tools/call",
            call("get_forecast", json!({"latitude": 41, "longitude": -96})),
        ),
        ("unknown tool", "tools/call", call("get_tides", json!({}))),
        ("call without a name", "tools/call", json!({"arguments": {}})),
        (
            "arguments in a list",
            "tools/call",
            call("get_alerts", json!(["WA"])),
        ),
        ("missing argument", "tools/call", call("get_alerts", json!({}))),
        (
            "argument of a wrong type",
            "tools/call",
            call("get_forecast", json!({"latitude": "47.6", "longitude": -122.33})),
        ),
        (
            "state that is none",
            "tools/call",
            call("get_alerts", json!({"state": "XX"})),
        ),
        ("unknown method", "tides/list", json!({})),
    ]
}

fn cases(era: Era) -> Vec<Case> {
    let mut cases = shared();
    let initialize = |revision: &str| json!({"protocolVersion": revision, "capabilities": {}, "clientInfo": {"name": "differential", "version": "1"}});
    match era {
        Era::Handshake => cases.extend([
            ("initialize", "initialize", initialize(HANDSHAKE)),
            (
                "initialize with an older revision",
                "initialize",
                initialize("2025-03-26"),
            ),
            (
                "initialize with an unknown revision",
                "initialize",
                initialize("2020-01-01"),
            ),
            ("ping", "ping", json!({})),
            ("discover without its era", "server/discover", json!({})),
        ]),
        Era::Modern => cases.extend([
            ("discover", "server/discover", json!({})),
            ("ping without its era", "ping", json!({})),
        ]),
    }
    cases
}

fn differences() -> Vec<Difference> {
    Vec::new()
}

async fn compare(world: Arc<World>, era: Era) -> Result<()> {
    let plain = Plain::start(&world.nws.url).await?;
    let ours = world.replicas.servers[0].url();
    let differences = differences();
    let mut wrong = Vec::new();
    for (case, method, parameters) in cases(era) {
        let ours = ask(&ours, era, method, &parameters).await.context(case)?;
        let theirs = ask(&plain.url, era, method, &parameters).await.context(case)?;
        let same = ours == theirs;
        let difference = differences
            .iter()
            .find(|entry| entry.era == era && entry.case == case);
        match difference {
            None if !same => wrong.push(format!("{case}\n  ours: {ours:?}\n  rmcp: {theirs:?}")),
            Some(entry) if same => wrong.push(format!("{case}: not different any more: {}", entry.why)),
            Some(entry) if !(entry.known)(&ours, &theirs) => wrong.push(format!(
                "{case}: different, but not as \"{}\" says\n  ours: {ours:?}\n  rmcp: {theirs:?}",
                entry.why
            )),
            _ => {}
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Asks, as a client of the era does.
async fn ask(url: &str, era: Era, method: &str, parameters: &Value) -> Result<Answer> {
    let mut parameters = parameters.clone();
    let mut request = client()?
        .post(url)
        .header("Accept", "application/json, text/event-stream");
    if era == Era::Modern {
        parameters["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientInfo": {"name": "differential", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        request = request
            .header("MCP-Protocol-Version", MODERN)
            .header("Mcp-Method", method);
        if let Some(name) = parameters["name"].as_str() {
            request = request.header("Mcp-Name", name);
        }
    } else if method != "initialize" {
        request = request.header("MCP-Protocol-Version", HANDSHAKE);
    }
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters});
    let response = request.json(&message).send().await?;
    let (status, text) = (response.status().as_u16(), response.text().await?);
    let mut body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    unname(&mut body);
    Ok(Answer { status, body })
}

/// Takes out what names the server.
fn unname(body: &mut Value) {
    let Some(result) = body["result"].as_object_mut() else {
        return;
    };
    result.remove("serverInfo");
    result.remove("instructions");
    let Some(meta) = result.get_mut("_meta").and_then(Value::as_object_mut) else {
        return;
    };
    meta.remove("io.modelcontextprotocol/serverInfo");
    if meta.is_empty() {
        result.remove("_meta");
    }
}

/// The tools on plain rmcp, in this process. It serves until this is dropped.
struct Plain {
    url: String,
    serving: AbortHandle,
}

impl Plain {
    async fn start(nws: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/mcp", listener.local_addr()?);
        let nws = nws.to_owned();
        let serving = tokio::spawn(async move { rmcp_server::serve(listener, &nws).await }).abort_handle();
        Ok(Self { url, serving })
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
