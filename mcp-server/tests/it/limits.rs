//! A tool that is called too often: 429 on whatever POST brought the call.

use crate::fake_nws::FakeNws;
use crate::harness::{META, Server, app, post, read, request, send};
use crate::process::free_port;
use crate::replicas::{KEY, replica_with};
use axum::body::Body;
use serde_json::{Value, json};
use tower::ServiceExt as _;

fn alerts(id: u64) -> Value {
    request(
        id,
        "tools/call",
        &json!({"name": "get_alerts", "arguments": {"state": "OR"}}),
    )
}

fn expect_refusal(answer: &Value, id: u64) {
    assert_eq!(answer["id"], id);
    assert_eq!(answer["error"]["code"], -32603);
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("too many calls of get_alerts at this server: try again in "),
        "{message}"
    );
    let seconds = answer["error"]["data"]["retryAfterSeconds"].as_u64().unwrap();
    assert!((1..=30).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn both_eras_share_the_limit_of_a_tool() {
    let nws = FakeNws::good().await;
    let (app, router) = app(&nws.url, &["--tool-calls-per-minute=2"]);
    let mut modern = alerts(2);
    modern["params"]["_meta"] = serde_json::from_str(META).unwrap();
    let headers = [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "get_alerts"),
        ("mcp-param-state", "OR"),
    ];
    assert_eq!(send(&router, &[], &alerts(1).to_string()).await.0, 200);
    assert_eq!(send(&router, &headers, &modern.to_string()).await.0, 200);
    let (status, answer) = send(&router, &headers, &modern.to_string()).await;
    assert_eq!(status, 429, "{answer}");
    expect_refusal(&answer, 2);
    let request_3 = post("/mcp").body(Body::from(alerts(3).to_string())).unwrap();
    let response = router.clone().oneshot(request_3).await.unwrap();
    let retry_after = response.headers()["retry-after"].to_str().unwrap().parse::<u64>();
    assert!((1..=30).contains(&retry_after.unwrap()));
    let (status, answer) = read(response).await;
    assert_eq!(status, 429);
    expect_refusal(&answer, 3);

    let forecast = json!({"name": "get_forecast", "arguments": {"latitude": 30, "longitude": -85}});
    for (method, params) in [
        ("tools/call", forecast),
        ("tools/list", json!({})),
        ("ping", json!({})),
    ] {
        let (status, _) = send(&router, &[], &request(4, method, &params).to_string()).await;
        assert_eq!(status, 200, "{method} has a limit of its own or none");
    }
    let metrics = app.metrics.render();
    for line in [
        r#"mcp_weather_tool_calls_total{tool="get_alerts",era="modern",outcome="limited"} 1"#,
        r#"mcp_weather_tool_calls_total{tool="get_alerts",era="handshake",outcome="limited"} 1"#,
        r#"mcp_weather_tool_call_seconds_count{tool="get_alerts",era="modern"} 1"#,
        r#"mcp_weather_tool_call_seconds_count{tool="get_alerts",era="handshake"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[tokio::test]
async fn without_a_limit_there_is_none() {
    let nws = FakeNws::good().await;
    let (_, router) = app(&nws.url, &["--tool-calls-per-minute=0"]);
    for id in 0..200 {
        assert_eq!(send(&router, &[], &alerts(id).to_string()).await.0, 200);
    }
}

#[tokio::test]
async fn an_unknown_tool_is_limited_too() {
    let (_, router) = app("http://127.0.0.1:9", &["--tool-calls-per-minute=1"]);
    let unknown = |name: &str| request(1, "tools/call", &json!({"name": name})).to_string();
    assert_eq!(send(&router, &[], &unknown("a")).await.0, 200);
    assert_eq!(send(&router, &[], &unknown("b")).await.0, 429);
}

#[tokio::test]
async fn on_a_stream_the_post_is_told() {
    let nws = FakeNws::good().await;
    let server = Server::start(&nws.url, &["--tool-calls-per-minute=1"]).await;
    let mut events = server.open().await;
    assert_eq!(events.post(&alerts(1)).await, 202);
    let response = events.post_to(&server.url, alerts(2).to_string()).await;
    assert_eq!(response.status(), 429);
    assert!(response.headers().contains_key("retry-after"));
    // With one call a minute the wait is up to a minute.
    let answer: Value = response.json().await.unwrap();
    assert_eq!(
        (&answer["id"], &answer["error"]["code"]),
        (&json!(2), &json!(-32603))
    );
    assert_eq!(events.post(&request(3, "ping", &json!({}))).await, 202);
    assert_eq!(events.message().await["id"], 1);
    assert_eq!(
        events.message().await["id"],
        3,
        "nothing comes on the stream for the second"
    );
}

#[tokio::test]
async fn a_message_that_was_passed_on_is_told_too() {
    let (nws, directory, port) = (FakeNws::good().await, tempfile::tempdir().unwrap(), free_port());
    let key = directory.path().join("current");
    std::fs::write(&key, KEY).unwrap();
    let limit = ["--tool-calls-per-minute=1"];
    let first = replica_with(&limit, "127.0.0.1", port, &nws.url, &key).await;
    let second = replica_with(&limit, "127.0.0.2", port, &nws.url, &key).await;
    let events = first.open().await;
    let response = events.post_to(&second.url, alerts(1).to_string()).await;
    assert_eq!(response.status(), 202);
    let response = events.post_to(&second.url, alerts(2).to_string()).await;
    assert_eq!(response.status(), 429);
    let retry_after = response.headers()["retry-after"].to_str().unwrap().parse::<u64>();
    assert!((1..=60).contains(&retry_after.unwrap()));
}
