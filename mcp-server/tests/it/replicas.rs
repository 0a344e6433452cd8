//! Two replicas with one key: whatever a message lands on, it reaches its stream.

use crate::fake_nws::FakeNws;
use crate::harness::{Server, config, request, text};
use crate::process::free_port;
use crate::raw::Raw;
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) const KEY: &str = "0123456789abcdef0123456789abcdef";

async fn replica(address: &str, peer_port: u16, nws: &str, key_file: &Path) -> Server {
    replica_with(&[], address, peer_port, nws, key_file).await
}

pub(crate) async fn replica_with(
    more: &[&str],
    address: &str,
    peer_port: u16,
    nws: &str,
    key_file: &Path,
) -> Server {
    let flags = [
        format!("--pod-ip={address}"),
        format!("--peer-port={peer_port}"),
        format!("--replica-key-file={}", key_file.display()),
    ];
    let flags = flags.iter().map(String::as_str).chain(more.iter().copied());
    let config = config(nws, &flags.collect::<Vec<_>>());
    Server::start_at(address, Some(peer_port), &config).await
}

#[tokio::test]
async fn a_message_to_the_wrong_replica_reaches_its_stream() {
    let (nws, directory, port) = (FakeNws::good().await, tempfile::tempdir().unwrap(), free_port());
    let key = directory.path().join("current");
    std::fs::write(&key, KEY).unwrap();
    let first = replica("127.0.0.1", port, &nws.url, &key).await;
    let second = replica("127.0.0.2", port, &nws.url, &key).await;
    let mut events = first.open().await;
    let call = json!({"name": "get_alerts", "arguments": {"state": "OR"}});
    for (id, url) in [(1, &second.url), (2, &first.url), (3, &second.url)] {
        let body = request(id, "tools/call", &call).to_string();
        assert_eq!(events.post_to(url, body).await.status(), 202);
        let answer = events.message().await;
        assert_eq!(answer["id"], id);
        assert!(text(&answer["result"]).starts_with("Event: Flood Watch"));
    }
    // What the owner has to say about a message comes back too.
    assert_eq!(events.post_to(&second.url, "[]").await.status(), 400);
    assert_eq!(
        events
            .post_to(&second.url, "{")
            .await
            .json::<serde_json::Value>()
            .await
            .unwrap()["error"]["code"],
        -32700
    );
    assert!(
        second
            .app
            .metrics
            .render()
            .contains(r#"mcp_weather_forwarded_messages_total{outcome="answered"} 4"#)
    );
    assert!(
        first
            .app
            .metrics
            .render()
            .contains(r#"tool="get_alerts",era="sse",outcome="ok"} 3"#)
    );
    // A stream that its owner has closed.
    let (url, reference) = (second.url.clone(), events.reference.clone());
    drop(events);
    crate::sse::wait_for_streams(&first, 0).await;
    let late = crate::harness::http()
        .post(format!("{url}/{reference}"))
        .header("content-type", "application/json");
    assert_eq!(
        late.body(request(4, "ping", &json!({})).to_string())
            .send()
            .await
            .unwrap()
            .status(),
        404
    );
}

#[tokio::test]
async fn a_rotated_key_drops_no_stream() {
    let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
    let key = directory.path().join("current");
    std::fs::write(&key, KEY).unwrap();
    let first = replica("127.0.0.1", port, "http://127.0.0.1:9", &key).await;
    let second = replica("127.0.0.2", port, "http://127.0.0.1:9", &key).await;
    let mut events = first.open().await;
    std::fs::write(&key, "another key of thirty-two bytes!").unwrap();
    std::fs::write(directory.path().join("previous"), KEY).unwrap();
    // One replica learns of it before the other does.
    assert!(second.app.replica.keys.look(Instant::now()).unwrap());
    assert_eq!(
        events
            .post_to(&second.url, request(1, "ping", &json!({})).to_string())
            .await
            .status(),
        202
    );
    assert_eq!(events.message().await["id"], 1);
    let mut of_second = second.open().await;
    assert_eq!(
        of_second
            .post_to(&first.url, request(2, "ping", &json!({})).to_string())
            .await
            .status(),
        202
    );
    assert_eq!(of_second.message().await["id"], 2);
    assert!(first.app.replica.keys.look(Instant::now()).unwrap());
    assert_eq!(
        events
            .post_to(&second.url, request(3, "ping", &json!({})).to_string())
            .await
            .status(),
        202
    );
    assert_eq!(events.message().await["id"], 3);
    // A replica that starts now seals with the new key, which both read.
    std::fs::remove_file(directory.path().join("previous")).unwrap();
    assert!(second.app.replica.keys.look(Instant::now()).unwrap());
    assert_eq!(
        events
            .post_to(&second.url, request(4, "ping", &json!({})).to_string())
            .await
            .status(),
        404,
        "the key is gone"
    );
}

#[tokio::test]
async fn a_dead_owner_and_an_owner_of_another_life() {
    let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
    let key = directory.path().join("current");
    std::fs::write(&key, KEY).unwrap();
    let second = replica("127.0.0.2", port, "http://127.0.0.1:9", &key).await;
    let mut first = replica("127.0.0.1", port, "http://127.0.0.1:9", &key).await;
    let events = first.open().await;
    let ping = request(1, "ping", &json!({})).to_string();
    assert_eq!(events.post_to(&second.url, ping.clone()).await.status(), 202);
    first.ask_to_stop();
    assert!(first.stopped().await);
    assert_eq!(
        events.post_to(&second.url, ping.clone()).await.status(),
        404,
        "nobody is there"
    );
    let reborn = replica("127.0.0.1", port, "http://127.0.0.1:9", &key).await;
    assert_eq!(
        events.post_to(&second.url, ping.clone()).await.status(),
        404,
        "another process is there"
    );
    assert_eq!(events.post_to(&reborn.url, ping.clone()).await.status(), 404);
    assert!(
        second.app.metrics.render().contains(r#"outcome="owner_gone"} 1"#),
        "{}",
        second.app.metrics.render()
    );
}

#[tokio::test]
async fn something_else_at_the_address_of_a_dead_owner_is_not_believed() {
    let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
    let key = directory.path().join("current");
    std::fs::write(&key, KEY).unwrap();
    let second = replica("127.0.0.2", port, "http://127.0.0.1:9", &key).await;
    let mut first = replica("127.0.0.1", port, "http://127.0.0.1:9", &key).await;
    let events = first.open().await;
    first.ask_to_stop();
    assert!(first.stopped().await);
    let trap = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let yes = axum::Router::new().fallback(|| async { http::StatusCode::ACCEPTED });
    tokio::spawn(async move { axum::serve(trap, yes).await });
    assert_eq!(
        events
            .post_to(&second.url, request(1, "ping", &json!({})).to_string())
            .await
            .status(),
        404
    );
}

#[tokio::test]
async fn the_peer_port_takes_only_signed_messages() {
    let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
    let key = directory.path().join("current");
    std::fs::write(&key, KEY).unwrap();
    let first = replica("127.0.0.1", port, "http://127.0.0.1:9", &key).await;
    let events = first.open().await;
    let url = format!("http://127.0.0.1:{port}/messages/{}", events.id());
    let ping = request(1, "ping", &json!({})).to_string();
    let http = crate::harness::http();
    assert_eq!(
        http.post(&url).body(ping.clone()).send().await.unwrap().status(),
        401
    );
    let forged = http
        .post(&url)
        .header("x-replica-time", "1")
        .header("x-replica-nonce", "AAAAAAAAAAAAAAAAAAAAAA");
    assert_eq!(
        forged
            .header("x-replica-mac", "AAAA")
            .body(ping)
            .send()
            .await
            .unwrap()
            .status(),
        401
    );
    assert_eq!(http.get(&url).send().await.unwrap().status(), 405);
    assert_eq!(
        http.get(format!("http://127.0.0.1:{port}/metrics"))
            .send()
            .await
            .unwrap()
            .status(),
        404
    );
}

#[tokio::test]
async fn the_peer_port_reads_no_body_without_a_signature() {
    let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
    let key = directory.path().join("current");
    std::fs::write(&key, KEY).unwrap();
    let first = replica("127.0.0.1", port, "http://127.0.0.1:9", &key).await;
    let old = "x-replica-time: 1\r\nx-replica-nonce: AAAAAAAAAAAAAAAAAAAAAA\r\nx-replica-mac: AAAA\r\n";
    for headers in ["", old] {
        let mut client = Raw::connect(&format!("http://127.0.0.1:{port}")).await;
        let head = format!("POST /messages/x HTTP/1.1\r\nhost: x\r\n{headers}content-length: 1000\r\n\r\n");
        client.send(head).await;
        // 408 would say that the body had been waited for.
        assert_eq!(client.status().await, Some(401), "{headers}");
    }
    assert_eq!(first.app.limits.bodies.held(), 0);
}

#[tokio::test]
async fn without_a_shared_key_nothing_is_forwarded() {
    let first = Server::start("http://127.0.0.1:9", &["--pod-ip=127.0.0.1"]).await;
    let second = Server::start("http://127.0.0.1:9", &["--pod-ip=127.0.0.2"]).await;
    let events = first.open().await;
    let before = Instant::now();
    assert_eq!(
        events
            .post_to(&second.url, request(1, "ping", &json!({})).to_string())
            .await
            .status(),
        404
    );
    assert!(before.elapsed() < Duration::from_millis(500));
}
