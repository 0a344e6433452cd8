//! A client that goes away: its work stops, and nobody else's does.

use crate::fake_nws::{FakeNws, Gate, good};
use crate::harness::{META, Server, request, text, until};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// A call of 2026-07-28 on its way; aborting the task closes its connection.
fn call(server: &Server, tool: &'static str, arguments: &Value) -> JoinHandle<reqwest::Result<Value>> {
    let meta: Value = serde_json::from_str(META).unwrap();
    let state = arguments["state"].as_str().map(str::to_owned);
    let params = json!({"_meta": meta, "name": tool, "arguments": arguments});
    let mut call = crate::harness::http()
        .post(format!("{}/mcp", server.url))
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/call")
        .header("mcp-name", tool)
        .json(&request(1, "tools/call", &params));
    if let Some(state) = state {
        call = call.header("mcp-param-state", state);
    }
    tokio::spawn(async move { call.send().await?.json().await })
}

async fn until_running(server: &Server, count: usize) {
    let line = format!("mcp_weather_tool_calls_running {count}\n");
    until(&format!("{count} calls run"), async || {
        server.app.metrics.render().contains(&line)
    })
    .await;
}

#[tokio::test]
async fn a_closed_connection_ends_its_call_and_not_the_fetch() {
    let gate = Gate::closed();
    let held = gate.clone();
    let nws = FakeNws::start(move |path, _| good(path).behind(&held)).await;
    let server = Server::start(&nws.url, &[]).await;
    let forecast = call(
        &server,
        "get_forecast",
        &json!({"latitude": 30, "longitude": -85}),
    );
    until("the first request is upstream", async || nws.seen().len() == 1).await;
    until_running(&server, 1).await;
    forecast.abort();
    until_running(&server, 0).await;
    let metrics = server.app.metrics.render();
    let line = r#"mcp_weather_tool_calls_total{tool="get_forecast",era="modern",outcome="cancelled"} 1"#;
    assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    gate.open();
    // What was asked for is not thrown away: the next caller finds it.
    until("the fetch has come to its end", async || nws.seen().len() == 2).await;
    let arguments = json!({"latitude": 30, "longitude": -85});
    let again = call(&server, "get_forecast", &arguments).await.unwrap().unwrap();
    assert_eq!(again["result"]["isError"], false);
    assert_eq!(nws.seen(), ["/points/30,-85", "/gridpoints/TAE/58,65/forecast"]);
}

#[tokio::test]
async fn others_that_wait_for_the_same_answer_get_it() {
    let gate = Gate::closed();
    let held = gate.clone();
    let nws = FakeNws::start(move |path, _| good(path).behind(&held)).await;
    let server = Server::start(&nws.url, &[]).await;
    let first = call(&server, "get_alerts", &json!({"state": "OR"}));
    until("the request is upstream", async || nws.seen().len() == 1).await;
    let second = call(&server, "get_alerts", &json!({"state": "OR"}));
    until_running(&server, 2).await;
    first.abort();
    until_running(&server, 1).await;
    gate.open();
    let answer = second.await.unwrap().unwrap();
    assert!(
        text(&answer["result"]).starts_with("Event: Flood Watch"),
        "{answer}"
    );
    assert_eq!(nws.seen().len(), 1, "whoever goes away takes no request along");
}
