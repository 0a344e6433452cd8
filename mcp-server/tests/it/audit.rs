//! Who called what: every call leaves a line, and no line holds what it should not.

use crate::fake_nws::{FakeNws, good};
use crate::harness::{META, Server, app, config, post, request, send, until};
use crate::process::free_port;
use crate::replicas::{KEY, replica_with};
use axum::body::Body;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tower::ServiceExt as _;

const END: Duration = Duration::from_secs(10);

struct File {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl File {
    fn new() -> File {
        let folder = tempfile::tempdir().unwrap();
        File {
            path: folder.path().join("audit.jsonl"),
            _folder: folder,
        }
    }

    fn flag(&self) -> String {
        format!("--audit-log={}", self.path.display())
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn calls(path: &Path) -> Vec<Value> {
    let mut lines = lines(path);
    lines.retain(|line| line["audit"] == "tool_call");
    lines
}

fn call(tool: &str, arguments: &Value) -> String {
    request(1, "tools/call", &json!({"name": tool, "arguments": arguments})).to_string()
}

#[tokio::test]
async fn each_call_over_mcp_leaves_a_line() {
    let (nws, file) = (FakeNws::good().await, File::new());
    let (server, router) = app(&nws.url, &[&file.flag()]);
    let key = "k3y-that-must-not-be-seen";
    let headers = [
        ("x-mcp-caller", "tools/agents"),
        ("ocp-apim-subscription-key", key),
        ("authorization", key),
    ];
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":"{key}","method":"tools/call","params":{{"name":"get_alerts","arguments":{{"state":"Oregon"}},"_meta":{META}}}}}"#
    );
    let modern = [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "get_alerts"),
        ("mcp-param-state", "Oregon"),
    ];
    assert_eq!(
        send(&router, &[&headers[..], &modern[..]].concat(), &body)
            .await
            .0,
        200
    );
    for (tool, arguments) in [
        (
            "get_forecast",
            json!({"latitude": 30.4383, "longitude": -84.2807}),
        ),
        ("get_alerts", json!({"state": key})),
        (key, json!({})),
    ] {
        assert_eq!(send(&router, &headers, &call(tool, &arguments)).await.0, 200);
    }
    // No call, so no line.
    assert_eq!(
        send(
            &router,
            &headers,
            &request(1, "tools/list", &json!({})).to_string()
        )
        .await
        .0,
        200
    );
    assert!(server.audit.close(END));
    let text = std::fs::read_to_string(&file.path).unwrap();
    assert!(!text.contains(key), "{text}");
    let calls = calls(&file.path);
    let told: Vec<_> = calls
        .iter()
        .map(|line| json!([line["tool"], line["arguments"], line["era"], line["result"]]))
        .collect();
    assert_eq!(
        told,
        [
            json!(["get_alerts", {"state": "OR"}, "modern", "ok"]),
            json!(["get_forecast", {"latitude": 30.4, "longitude": -84.3}, "handshake", "ok"]),
            json!(["get_alerts", null, "handshake", "tool_error"]),
            json!(["other", null, "handshake", "refused"]),
        ]
    );
    for line in &calls {
        assert_eq!(line["caller"], json!({"claimed": "tools/agents"}));
        assert!(line.get("session").is_none());
        assert!(line["seconds"].as_f64().unwrap() < 10.0);
        assert!(line["time"].as_str().unwrap().ends_with('Z'));
    }
}

#[tokio::test]
async fn a_caller_who_gives_up_is_told_of() {
    let nws = FakeNws::start(|path, _| good(path).after(Duration::from_mins(1))).await;
    let file = File::new();
    let (server, router) = app(&nws.url, &[&file.flag(), "--audit-caller-header="]);
    let body = Body::from(call("get_alerts", &json!({"state": "OR"})));
    let request = post("/mcp").header("x-mcp-caller", "me").body(body).unwrap();
    let running = tokio::spawn(router.clone().oneshot(request));
    until("the call is on its way upstream", async || !nws.seen().is_empty()).await;
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    assert!(server.audit.close(END));
    let calls = calls(&file.path);
    assert_eq!(
        (&calls[0]["result"], &calls[0]["caller"]),
        (&json!("cancelled"), &Value::Null)
    );
}

#[tokio::test]
async fn a_session_is_shown_as_a_hash_and_its_caller_is_known_on_every_replica() {
    let (nws, file, other) = (FakeNws::good().await, File::new(), File::new());
    let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
    let key = directory.path().join("current");
    std::fs::write(&key, KEY).unwrap();
    let mut first = replica_with(&[&file.flag()], "127.0.0.1", port, &nws.url, &key).await;
    let second = replica_with(&[&other.flag()], "127.0.0.2", port, &nws.url, &key).await;
    let mut events = first.open().await;
    let id = events.id().to_owned();
    let long = "x".repeat(95);
    let cut_at_a_space = format!("{long} {long}");
    for (url, caller) in [
        (&first.url, "team a"),
        (&second.url, "team b"),
        (&second.url, ""),
        (&second.url, &*cut_at_a_space),
    ] {
        let message = crate::harness::http()
            .post(format!("{url}/{}", events.reference))
            .header("content-type", "application/json")
            .header("x-mcp-caller", caller)
            .body(call("get_alerts", &json!({"state": "OR"})));
        assert_eq!(message.send().await.unwrap().status(), 202);
        events.message().await;
    }
    first.ask_to_stop();
    assert!(first.stopped().await);
    let text = std::fs::read_to_string(&file.path).unwrap();
    assert!(!text.contains(&id), "{text}");
    let calls = calls(&file.path);
    let callers: Vec<_> = calls.iter().map(|line| &line["caller"]).collect();
    assert_eq!(
        callers,
        [
            &json!({"claimed": "team a"}),
            &json!({"claimed": "team b"}),
            &Value::Null,
            &json!({"claimed": long})
        ]
    );
    let hash = mcp_weather::audit::SessionHash::of(&id).to_string();
    assert!(
        calls
            .iter()
            .all(|line| line["session"] == hash && line["era"] == "sse"),
        "{calls:?}"
    );
    assert_eq!(lines(&file.path).last().unwrap()["audit"], "closed");
    assert!(second.app.audit.close(END));
    assert!(
        crate::audit::calls(&other.path).is_empty(),
        "who ran the call tells of it, and nobody else"
    );
}

#[tokio::test]
async fn calls_beyond_the_limit_of_a_tool_are_told_of() {
    let (nws, file) = (FakeNws::good().await, File::new());
    let (server, router) = app(&nws.url, &[&file.flag(), "--tool-calls-per-minute=1"]);
    let body = call("get_alerts", &json!({"state": "OR"}));
    for status in [200, 429] {
        assert_eq!(send(&router, &[("x-mcp-caller", "me")], &body).await.0, status);
    }
    assert!(server.audit.close(END));
    let calls = calls(&file.path);
    let told: Vec<_> = calls
        .iter()
        .map(|line| {
            json!([
                line["arguments"],
                line["caller"]["claimed"],
                line["result"],
                line["limit"]
            ])
        })
        .collect();
    assert_eq!(
        told,
        [
            json!([{"state": "OR"}, "me", "ok", null]),
            json!([{"state": "OR"}, "me", "limited", "calls_of_a_tool"]),
        ]
    );
}

#[tokio::test]
async fn calls_beyond_the_limit_of_a_session_are_told_of() {
    let nws = FakeNws::start(|path, _| good(path).after(Duration::from_mins(1))).await;
    let file = File::new();
    let server = Server::start_at("127.0.0.1", None, &config(&nws.url, &[&file.flag()])).await;
    let events = server.open().await;
    let mut refused = 0;
    for state in ["OR", "WA"].iter().cycle().take(34) {
        let body = request(
            1,
            "tools/call",
            &json!({"name": "get_alerts", "arguments": {"state": state}}),
        );
        refused += usize::from(events.post(&body).await == 503);
    }
    assert!(server.app.audit.close(END));
    let calls = calls(&file.path);
    let limited: Vec<_> = calls.iter().filter(|line| line["result"] == "limited").collect();
    assert_eq!((refused, limited.len()), (2, 2), "{calls:?}");
    assert_eq!(limited[0]["limit"], "calls_of_a_session");
    assert_eq!(lines(&file.path).last().unwrap()["unfinished"], 32);
}

#[tokio::test]
async fn who_the_gateway_has_signed_is_asserted_and_anybody_else_is_claimed() {
    const SECRET: &str = "the-secret-of-the-gateway";
    let (nws, file) = (FakeNws::good().await, File::new());
    let secret = file.path.with_file_name("current");
    std::fs::write(&secret, SECRET).unwrap();
    let secret = format!("--gateway-secret-file={}", secret.display());
    let (server, router) = app(&nws.url, &[&file.flag(), &secret]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let time = now.unwrap().as_secs().to_string();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET.as_bytes());
    let tag = aws_lc_rs::hmac::sign(&key, format!("team-a\n{time}").as_bytes());
    let signature = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, tag);
    let body = call("get_alerts", &json!({"state": "OR"}));
    for (caller, signature) in [
        ("team-a", signature.as_str()),
        ("team-b", &signature),
        ("team-a", ""),
    ] {
        let headers = [
            ("x-gateway-secret", SECRET),
            ("x-mcp-caller", caller),
            ("x-mcp-caller-time", &time),
            ("x-mcp-caller-signature", signature),
        ];
        assert_eq!(send(&router, &headers, &body).await.0, 200);
    }
    assert!(server.audit.close(END));
    let calls = calls(&file.path);
    let callers: Vec<_> = calls.iter().map(|line| &line["caller"]).collect();
    assert_eq!(
        callers,
        [
            &json!({"asserted": "team-a"}),
            &json!({"claimed": "team-b"}),
            &json!({"claimed": "team-a"}),
        ]
    );
    let written = std::fs::read_to_string(&file.path).unwrap();
    assert!(!written.contains(SECRET) && !written.contains(&signature));
}
