//! subscriptions/listen: a stream that says what it will carry, stays quiet, and ends well.

use crate::harness::{Events, META, Server, request};
use crate::sse::wait_for_streams;
use serde_json::{Value, json};

const UNUSED: &str = "http://127.0.0.1:9";

async fn ask(server: &Server, id: u64, notifications: &Value) -> reqwest::Response {
    let meta: Value = serde_json::from_str(META).unwrap();
    let params = json!({"_meta": meta, "notifications": notifications});
    let request = crate::harness::http()
        .post(format!("{}/mcp", server.url))
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "subscriptions/listen")
        .json(&request(id, "subscriptions/listen", &params));
    request.send().await.unwrap()
}

async fn listen(server: &Server, id: u64) -> Events {
    let all = json!({"toolsListChanged": true, "promptsListChanged": true, "resourceSubscriptions": ["weather://alerts/CA"]});
    Events::of(ask(server, id, &all).await)
}

#[tokio::test]
async fn a_subscription_is_acknowledged_kept_alive_and_ended_when_the_server_drains() {
    let mut server = Server::start(UNUSED, &["--keep-alive=0.05"]).await;
    let mut events = listen(&server, 7).await;
    assert_eq!(
        events.message().await,
        json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": {
            "_meta": {"io.modelcontextprotocol/subscriptionId": 7}, "notifications": {}}})
    );
    assert_eq!(events.next().await.unwrap(), ": keep-alive");
    server.ask_to_stop();
    let last = events.message().await;
    assert_eq!(
        (&last["id"], &last["result"]["resultType"]),
        (&json!(7), &json!("complete"))
    );
    assert_eq!(
        last["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"],
        7
    );
    assert_eq!(events.next().await, None);
    assert!(server.stopped().await, "everything was finished in time");
}

#[tokio::test]
async fn subscriptions_count_as_streams_until_their_client_goes() {
    let server = Server::start(UNUSED, &["--max-streams=2"]).await;
    let first = listen(&server, 1).await;
    let _stream = server.open().await;
    let refused = ask(&server, 2, &json!({})).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    let body: Value = refused.json().await.unwrap();
    assert_eq!(body["error"]["code"], -32603);
    drop(first);
    wait_for_streams(&server, 1).await;
    let mut again = listen(&server, 3).await;
    assert_eq!(
        again.message().await["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"],
        3
    );
}

#[tokio::test]
async fn a_filter_that_does_not_fit_opens_no_stream() {
    let server = Server::start(UNUSED, &[]).await;
    let refused = ask(&server, 1, &json!({"toolsListChanged": "yes"})).await;
    assert_eq!(refused.headers()["content-type"], "application/json");
    let body: Value = refused.json().await.unwrap();
    assert_eq!((&body["id"], &body["error"]["code"]), (&json!(1), &json!(-32602)));
    assert_eq!(server.app.streams.count(), 0);
}
