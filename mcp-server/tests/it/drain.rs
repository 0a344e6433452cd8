//! Asked to stop, a server finishes what it began.

use crate::fake_nws::{FakeNws, good};
use crate::harness::{Server, get, request, text, until};
use crate::raw::Raw;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn alerts(state: &str) -> Value {
    request(
        1,
        "tools/call",
        &json!({"name": "get_alerts", "arguments": {"state": state}}),
    )
}

#[tokio::test]
async fn calls_are_answered_streams_ended_and_readiness_off() {
    let nws = FakeNws::start(|path, _| good(path).after(Duration::from_millis(1500))).await;
    let mut server = Server::start(&nws.url, &["--drain-delay=0.5"]).await;
    let mut quiet = server.open().await;
    let mut busy = server.open().await;
    assert_eq!(busy.post(&alerts("OR")).await, 202);
    let http = crate::harness::http();
    let call = http
        .post(format!("{}/mcp", server.url))
        .header("accept", "*/*")
        .json(&alerts("WA"))
        .send();
    let call = tokio::spawn(call);
    until("both calls are on their way upstream", async || {
        nws.seen().len() == 2
    })
    .await;
    let ready = format!("{}/ready", server.url);
    assert_eq!(get(&ready).await.unwrap().status(), 200);
    server.ask_to_stop();
    until("it is not ready", async || {
        get(&ready).await.unwrap().status() == 503
    })
    .await;
    assert_eq!(get(format!("{}/health", server.url)).await.unwrap().status(), 200);

    let answer: Value = call.await.unwrap().unwrap().json().await.unwrap();
    assert!(text(&answer["result"]).starts_with("Event: Flood Watch"));
    assert!(text(&busy.message().await["result"]).starts_with("Event: Flood Watch"));
    for events in [&mut quiet, &mut busy] {
        assert_eq!(
            events.next().await.unwrap(),
            ": the server ends this stream, reconnect"
        );
        assert_eq!(events.next().await, None);
    }
    let url = server.url.clone();
    assert!(server.stopped().await, "everything was finished in time");
    assert!(get(format!("{url}/health")).await.is_err());
}

#[tokio::test]
async fn the_grace_time_ends_it_all_the_same() {
    let nws = FakeNws::start(|path, _| good(path).after(Duration::from_mins(1))).await;
    let mut server = Server::start(&nws.url, &["--grace=1"]).await;
    let http = crate::harness::http();
    let call = tokio::spawn(
        http.post(format!("{}/mcp", server.url))
            .header("accept", "*/*")
            .json(&alerts("WA"))
            .send(),
    );
    until("the call is on its way upstream", async || !nws.seen().is_empty()).await;
    let before = Instant::now();
    server.ask_to_stop();
    assert!(!server.stopped().await);
    assert!(
        before.elapsed() < Duration::from_secs(3),
        "{:?}",
        before.elapsed()
    );
    call.abort();
}

#[tokio::test]
async fn a_stream_that_comes_while_streams_end_does_not_hold_up_the_end() {
    let mut server = Server::start("http://127.0.0.1:9", &[]).await;
    let _streams = [server.open().await, server.open().await];
    // A connection from before, since none is taken any more: its request is begun before and finished after.
    let mut late = Raw::connect(&server.url).await;
    late.send("GET /sse HTTP/1.1\r\nhost: localhost\r\n").await;
    let before = Instant::now();
    server.ask_to_stop();
    until("the first stream has been ended", async || {
        server.app.streams.count() < 2
    })
    .await;
    late.send("\r\n").await;
    assert!(matches!(late.status().await, Some(503) | None));
    assert!(server.stopped().await, "everything was finished in time");
    assert!(
        before.elapsed() < Duration::from_secs(6),
        "{:?}",
        before.elapsed()
    );
}

#[tokio::test]
async fn half_a_request_does_not_hold_a_connection() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let server = Server::start("http://127.0.0.1:9", &["--header-time=0.3"]).await;
    let mut socket = tokio::net::TcpStream::connect(server.url.strip_prefix("http://").unwrap())
        .await
        .unwrap();
    socket
        .write_all(b"POST /mcp HTTP/1.1\r\nHost: loc")
        .await
        .unwrap();
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(5), socket.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "the connection is still open");
}
