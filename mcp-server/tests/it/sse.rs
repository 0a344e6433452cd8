//! GET /sse with POST /messages, over real sockets.

use crate::fake_nws::{FakeNws, good};
use crate::harness::{Server, request, text, until};
use crate::raw::Raw;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::{Duration, Instant};

const UNUSED: &str = "http://127.0.0.1:9";

fn alerts() -> Value {
    json!({"name": "get_alerts", "arguments": {"state": "OR"}})
}

#[tokio::test]
async fn a_whole_conversation() {
    let nws = FakeNws::good().await;
    let server = Server::start(&nws.url, &[]).await;
    let mut events = server.open().await;
    assert_eq!(
        events.reference,
        format!("messages/{0}?session_id={0}", events.id())
    );
    let hello = json!({"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    assert_eq!(events.post(&request(0, "initialize", &hello)).await, 202);
    let answer = events.message().await;
    assert_eq!(answer["result"]["protocolVersion"], "2024-11-05");
    assert_eq!(
        events
            .post(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
            .await,
        202
    );
    assert_eq!(events.post(&request(1, "tools/list", &json!({}))).await, 202);
    assert_eq!(
        events.message().await["result"]["tools"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(events.post(&request(2, "tools/call", &alerts())).await, 202);
    let answer = events.message().await;
    assert_eq!(answer["id"], 2);
    assert!(text(&answer["result"]).starts_with("Event: Flood Watch"));
    assert_eq!(events.post(&request(3, "server/discover", &json!({}))).await, 202);
    assert_eq!(events.message().await["error"]["code"], -32601);
    let metrics = crate::harness::get(&server.metrics)
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(metrics.contains("mcp_weather_sse_streams 1\n"), "{metrics}");
    assert!(metrics.contains(r#"mcp_weather_tool_calls_total{tool="get_alerts",era="sse",outcome="ok"} 1"#));
    drop(events);
    wait_for_streams(&server, 0).await;
}

pub(crate) async fn wait_for_streams(server: &Server, count: usize) {
    let limit = Instant::now() + Duration::from_secs(10);
    while server.app.streams.count() != count {
        assert!(
            Instant::now() < limit,
            "{} streams are open, not {count}",
            server.app.streams.count()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_slow_call_does_not_hold_up_the_post_nor_others() {
    let nws = FakeNws::start(|path, _| good(path).after(Duration::from_millis(800))).await;
    let server = Server::start(&nws.url, &[]).await;
    let mut events = server.open().await;
    assert_eq!(events.post(&request(1, "tools/call", &alerts())).await, 202);
    assert_eq!(events.post(&request(2, "ping", &json!({}))).await, 202);
    assert_eq!(events.message().await["id"], 2, "the ping waited for the call");
    assert_eq!(events.message().await["id"], 1);
}

#[tokio::test]
async fn events_are_not_held_back() {
    let nws = FakeNws::good().await;
    let server = Server::start(&nws.url, &[]).await;
    let mut events = server.open().await;
    let mut fastest = Duration::MAX;
    for id in 0..20 {
        let before = Instant::now();
        events.post(&request(id, "ping", &json!({}))).await;
        assert_eq!(events.message().await["id"], id);
        fastest = fastest.min(before.elapsed());
    }
    // With Nagle's algorithm each would take 40 ms.
    assert!(fastest < Duration::from_millis(30), "{fastest:?}");
}

#[tokio::test]
async fn refusals_of_messages() {
    let server = Server::start("http://127.0.0.1:9", &["--max-body-bytes=1000"]).await;
    let mut events = server.open().await;
    let other = server.open().await;
    let (id, other_id) = (events.id().to_owned(), other.id().to_owned());
    let tampered = {
        let mut id = id.clone().into_bytes();
        id[20] = if id[20] == b'A' { b'B' } else { b'A' };
        String::from_utf8(id).unwrap()
    };
    let http = crate::harness::http();
    let ping = request(1, "ping", &json!({})).to_string();
    for (path, expected) in [
        (format!("/messages/{id}?session_id={other_id}"), 400),
        (format!("/messages/{other_id}?session_id={id}"), 400),
        ("/messages".into(), 400),
        ("/messages/".into(), 400),
        (format!("/messages?session_id={id}"), 400),
        (format!("/messages/{tampered}"), 404),
        ("/messages/guess".into(), 404),
        ("/messages/00000000-0000-4000-8000-000000000000".into(), 404),
        (format!("/messages/{id}"), 202),
    ] {
        let request = http
            .post(format!("{}{path}", server.url))
            .header("content-type", "application/json");
        let response = request.body(ping.clone()).send().await.unwrap();
        assert_eq!(response.status().as_u16(), expected, "{path}");
        assert!(
            !response.text().await.unwrap().contains(&id),
            "an id is not repeated"
        );
    }
    assert_eq!(events.message().await["id"], 1, "only the last one was delivered");

    let post = |body: String, kind: &'static str| {
        http.post(format!("{}/messages/{id}", server.url))
            .header("content-type", kind)
            .body(body)
            .send()
    };
    assert_eq!(post(ping.clone(), "text/plain").await.unwrap().status(), 415);
    assert_eq!(
        post(" ".repeat(1001), "application/json").await.unwrap().status(),
        413
    );
    for body in [
        "",
        "[]",
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"ping"}"#,
    ] {
        assert_eq!(
            post(body.into(), "application/json").await.unwrap().status(),
            400,
            "{body}"
        );
    }
    drop(other);
    wait_for_streams(&server, 1).await;
    let closed = http
        .post(format!("{}/messages/{other_id}", server.url))
        .header("content-type", "application/json");
    assert_eq!(
        closed.body(ping).send().await.unwrap().status(),
        404,
        "a closed stream"
    );
}

#[tokio::test]
async fn one_stream_too_many() {
    let server = Server::start("http://127.0.0.1:9", &["--max-streams=2"]).await;
    let first = server.open().await;
    let _second = server.open().await;
    let refused = crate::harness::get(format!("{}/sse", server.url)).await.unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    drop(first);
    wait_for_streams(&server, 1).await;
    server.open().await;
}

#[tokio::test]
async fn ids_do_not_repeat_and_a_prefix_is_put_before() {
    let server = Server::start("http://127.0.0.1:9", &["--keep-alive=0.05"]).await;
    let mut ids = HashSet::new();
    for _ in 0..200 {
        assert!(ids.insert(server.open().await.id().to_owned()));
    }
    let mut events = server.open().await;
    assert_eq!(events.next().await.unwrap(), ": keep-alive");
    let prefixed = Server::start("http://127.0.0.1:9", &["--sse-endpoint-prefix=/tools/weather"]).await;
    assert!(
        prefixed
            .open()
            .await
            .reference
            .starts_with("/tools/weather/messages/")
    );
}

#[tokio::test]
async fn a_stream_comes_after_what_was_asked_before_it_on_its_connection() {
    let server = Server::start(UNUSED, &[]).await;
    let mut client = Raw::connect(&server.url).await;
    let health = "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
    client
        .send(format!(
            "{health}{health}GET /sse HTTP/1.1\r\nhost: localhost\r\n\r\n"
        ))
        .await;
    for _ in 0..2 {
        assert_eq!(client.status().await, Some(200));
    }
    let head = client.read_until("\r\n\r\n").await.unwrap();
    assert!(
        head.contains("text/event-stream") && head.contains("\r\ndate: "),
        "{head}"
    );
    assert!(client.read_until("session_id=").await.is_some());
    assert_eq!(server.app.streams.count(), 1);
    drop(client);
    until("the stream is closed", async || server.app.streams.count() == 0).await;
}

/// As some proxies ask when they are not told otherwise.
#[tokio::test]
async fn a_client_of_http_1_0_gets_a_stream_without_chunks() {
    let server = Server::start(UNUSED, &[]).await;
    let mut client = Raw::connect(&server.url).await;
    client.send("GET /sse HTTP/1.0\r\nhost: localhost\r\n\r\n").await;
    let head = client.read_until("\r\n\r\n").await.unwrap();
    assert!(!head.contains("transfer-encoding"), "{head}");
    let first = client.read_until("\n\n").await.unwrap();
    assert!(first.starts_with("event: endpoint\ndata: messages/"), "{first}");
}
