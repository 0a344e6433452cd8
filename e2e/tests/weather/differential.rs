//! The same requests to the weather server and to the same tools on plain rmcp: both answer alike, but for what a table says.
//!
//! In: requests. Out: status and body of both, compared as values, but for what names the server (`_meta` serverInfo and its
//! like), what an error says to people, and when the weather service was asked.

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
    eras: &'static [Era],
    cases: &'static [&'static str],
    why: &'static str,
    /// Whether ours and theirs are as this entry knows them.
    known: fn(&Answer, &Answer) -> bool,
}

const BOTH: &[Era] = &[Era::Handshake, Era::Modern];

const DIFFERENCES: [Difference; 7] = [
    Difference {
        eras: &[Era::Handshake],
        cases: &["list"],
        why: "words of 2026-07-28 have no place in an older revision",
        known: |ours, theirs| {
            let mut theirs = theirs.body["result"].clone();
            let state = theirs.pointer_mut("/tools/0/inputSchema/properties/state");
            let words = [
                state.and_then(|state| state.as_object_mut()?.remove("x-mcp-header")),
                remove(&mut theirs, "ttlMs"),
                remove(&mut theirs, "cacheScope"),
            ];
            words.iter().all(Option::is_some) && ours.body["result"] == theirs
        },
    },
    Difference {
        eras: BOTH,
        cases: &["call without a name", "arguments in a list"],
        why: "the method is there, its parameters are wrong",
        known: |ours, theirs| {
            (ours.status, ours.code()) == (200, Some(-32602)) && theirs.code() == Some(-32601)
        },
    },
    Difference {
        eras: BOTH,
        cases: &["missing argument", "argument of a wrong type"],
        why: "a model can mend its call when the tool says what is wrong (tools, Error Handling)",
        known: |ours, theirs| ours.is_tool_error() && theirs.code() == Some(-32602),
    },
    Difference {
        eras: BOTH,
        cases: &["state that is none"],
        why: "the weather service is not asked for a state that is none, so the text is another",
        known: |ours, theirs| ours.is_tool_error() && theirs.is_tool_error(),
    },
    Difference {
        eras: &[Era::Handshake],
        cases: &[
            "initialize",
            "initialize with an older revision",
            "initialize with an unknown revision",
        ],
        why: "the plain server has the tools alone",
        known: |ours, theirs| {
            let (mut ours, mut theirs) = (ours.body["result"].clone(), theirs.body["result"].clone());
            has_more(&mut ours, &mut theirs) && ours == theirs
        },
    },
    Difference {
        eras: &[Era::Handshake],
        cases: &["discover without its era"],
        why: "a handshake revision has no such method",
        known: |ours, theirs| ours.code() == Some(-32601) && theirs.code() == Some(-32602),
    },
    Difference {
        eras: &[Era::Modern],
        cases: &["discover"],
        why: "the plain server has the tools alone, gives no caching hints, and names 2024-11-05, which has no streamable HTTP",
        known: |ours, theirs| {
            let (mut ours, mut theirs) = (ours.body["result"].clone(), theirs.body["result"].clone());
            let versions = |result: &mut Value| {
                let mut versions = remove(result, "supportedVersions")?.as_array()?.clone();
                versions.sort_by_key(ToString::to_string);
                Some(versions)
            };
            let (our_versions, their_versions) = (versions(&mut ours), versions(&mut theirs));
            let older = their_versions.map(|versions| versions.split_first().map(|(_, rest)| rest.to_vec()));
            for hint in ["ttlMs", "cacheScope"] {
                remove(&mut ours, hint);
                remove(&mut theirs, hint);
            }
            has_more(&mut ours, &mut theirs) && ours == theirs && Some(our_versions) == older
        },
    },
];

fn remove(object: &mut Value, name: &str) -> Option<Value> {
    object.as_object_mut()?.remove(name)
}

/// Takes the capabilities out of both; whether ours are more, and theirs among them.
fn has_more(ours: &mut Value, theirs: &mut Value) -> bool {
    let capabilities = (remove(ours, "capabilities"), remove(theirs, "capabilities"));
    let (Some(Value::Object(ours)), Some(Value::Object(theirs))) = capabilities else {
        return false;
    };
    ours.len() > theirs.len() && theirs.iter().all(|(name, value)| ours.get(name) == Some(value))
}

/// What came back.
#[derive(Debug, Clone, PartialEq)]
struct Answer {
    status: u16,
    body: Value,
}

impl Answer {
    fn code(&self) -> Option<i64> {
        self.body["error"]["code"].as_i64()
    }

    fn is_tool_error(&self) -> bool {
        self.body["result"]["isError"] == true
    }
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

async fn compare(world: Arc<World>, era: Era) -> Result<()> {
    let plain = Plain::start(&world.nws.url).await?;
    let ours = world.replicas.servers[0].url();
    let mut wrong = Vec::new();
    for (case, method, parameters) in cases(era) {
        let ours = ask(&ours, era, method, &parameters).await.context(case)?;
        let theirs = ask(&plain.url, era, method, &parameters).await.context(case)?;
        let same = ours == theirs;
        let difference = DIFFERENCES
            .iter()
            .find(|entry| entry.eras.contains(&era) && entry.cases.contains(&case));
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
        if let Some(state) = parameters.pointer("/arguments/state").and_then(Value::as_str) {
            request = request.header("Mcp-Param-State", state);
        }
    } else if method != "initialize" {
        request = request.header("MCP-Protocol-Version", HANDSHAKE);
    }
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters});
    let response = request.json(&message).send().await?;
    let (status, text) = (response.status().as_u16(), response.text().await?);
    let mut body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    unname(&mut body);
    undate(&mut body)?;
    Ok(Answer { status, body })
}

/// Takes out when the weather service was asked, which each server did for itself.
fn undate(body: &mut Value) -> Result<()> {
    if let Some(time) = body.pointer_mut("/result/structuredContent/asOf") {
        time.as_str().context("a time")?.parse::<jiff::Timestamp>()?;
        *time = Value::Null;
    }
    Ok(())
}

/// Takes out what names the server, and what an error says to people.
fn unname(body: &mut Value) {
    if let Some(error) = body.get_mut("error") {
        remove(error, "message");
    }
    let Some(result) = body.get_mut("result").and_then(Value::as_object_mut) else {
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
