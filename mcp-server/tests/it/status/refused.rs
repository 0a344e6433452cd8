//! Rows of the table for requests that are refused before there is a message, and for messages of SSE.

use super::{BOTH, Driver, Seen, Table, UNUSED, drive};
use crate::fake_nws::{FakeNws, many_alerts};
use crate::harness::{config, post, request, until};
use axum::body::Body;
use futures::StreamExt as _;
use http::Request;
use mcp_weather::app::App;
use mcp_weather::http::mcp::Stateless;
use mcp_weather::http::router;
use mcp_weather::replica::Replica;
use serde_json::json;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tower::ServiceExt as _;

pub(super) async fn refused_by_gateway(table: &mut Table) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("current");
    std::fs::write(&file, "the-secret-of-the-gateway").unwrap();
    let flag = format!("--gateway-secret-file={}", file.display());
    let (_, router) = crate::harness::app(UNUSED, &[&flag, "--allowed-origins=https://app.example"]);
    let (mut refused, mut preflights) = (Vec::new(), Vec::new());
    for (method, path) in [("POST", "/mcp"), ("GET", "/sse"), ("POST", "/messages/x")] {
        let base = |method: &str| {
            Request::builder()
                .method(method)
                .uri(path)
                .header("host", "localhost")
        };
        for secret in [None, Some("another-secret-than-it-is")] {
            let mut sent = base(method);
            if let Some(secret) = secret {
                sent = sent.header("x-gateway-secret", secret);
            }
            refused.push(drive(&router, sent.body(Body::empty()).unwrap()).await);
        }
        let asked = base("OPTIONS")
            .header("origin", "https://app.example")
            .header("access-control-request-method", method);
        preflights.push(drive(&router, asked.body(Body::empty()).unwrap()).await);
    }
    assert!(
        refused
            .iter()
            .all(|(_, _, headers)| headers.contains_key("www-authenticate"))
    );
    table.row(
        "all three",
        "`GATEWAY_SECRET_FILE` is set and the request does not carry the secret; `Host` and `Origin` are looked at before",
        401,
        -32600,
        &refused,
    );
    table.row(
        "all three",
        "a preflight (`OPTIONS`) of a page in `ALLOWED_ORIGINS`",
        204,
        None,
        &preflights,
    );
}

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

pub(super) async fn refused_callers(table: &mut Table, driver: &Driver) {
    let messages = driver.messages();
    let (mut hosts, mut origins, mut methods) = (Vec::new(), Vec::new(), Vec::new());
    for (method, other, path) in [
        ("POST", "GET", "/mcp"),
        ("GET", "POST", "/sse"),
        ("POST", "DELETE", &messages),
    ] {
        let base = |method: &str| {
            Request::builder()
                .method(method)
                .uri(path)
                .header("accept", BOTH)
                .header("content-type", "application/json")
        };
        hosts.push(driver.send(base(method).header("host", "evil.com"), PING).await);
        origins.push(
            driver
                .send(
                    base(method)
                        .header("host", "localhost")
                        .header("origin", "http://evil.com"),
                    PING,
                )
                .await,
        );
        methods.push(driver.send(base(other).header("host", "localhost"), PING).await);
    }
    for method in ["DELETE", "PUT", "OPTIONS"] {
        let other = Request::builder()
            .method(method)
            .uri("/mcp")
            .header("host", "localhost");
        methods.push(driver.send(other, Body::empty()).await);
    }
    assert!(
        methods
            .iter()
            .all(|(_, _, headers)| headers.contains_key("allow"))
    );
    table.row(
        "all three",
        "the `Host` is not served, or there is none, or two",
        403,
        -32600,
        &hosts,
    );
    table.row("all three", "the `Origin` is not allowed", 403, -32600, &origins);
    table.row(
        "all three",
        "another method than POST, for `/sse` GET (with `Allow`)",
        405,
        -32600,
        &methods,
    );
}

pub(super) async fn refused_types(table: &mut Table, driver: &Driver) {
    let messages = driver.messages();
    let with = |path: &str, accept: &str, kind: &str| {
        Request::post(path)
            .header("host", "localhost")
            .header("accept", accept)
            .header("content-type", kind)
    };
    let mut accepts = vec![];
    for accept in ["application/json", "text/event-stream", "text/html"] {
        accepts.push(driver.send(with("/mcp", accept, "application/json"), PING).await);
    }
    table.row(
        "`/mcp`",
        "`Accept` does not list both `application/json` and `text/event-stream` (`*/*` does)",
        406,
        -32600,
        &accepts,
    );
    let html = Request::get("/sse")
        .header("host", "localhost")
        .header("accept", "text/html");
    let html = driver.send(html, Body::empty()).await;
    table.row(
        "`/sse`",
        "`Accept` is there and does not list `text/event-stream`",
        406,
        -32600,
        &[html],
    );
    let mut kinds = vec![];
    for path in ["/mcp", &messages] {
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/json-rpc",
        ] {
            kinds.push(driver.send(with(path, BOTH, kind), PING).await);
        }
    }
    table.row(
        "`/mcp`, `/messages`",
        "`Content-Type` is not `application/json`",
        415,
        -32600,
        &kinds,
    );
}

pub(super) async fn refused_by_body(table: &mut Table, driver: &Driver) {
    let place = "`/mcp`, `/messages`";
    let paths = ["/mcp".to_owned(), driver.messages()];
    let (mut large, mut slow, mut broken) = (vec![], vec![], vec![]);
    for path in &paths {
        let endless = futures::stream::repeat_with(|| Ok::<_, std::io::Error>("    "));
        large.push(driver.send(post(path), Body::from_stream(endless)).await);
        large.push(
            driver
                .send(post(path).header("content-length", "104857600"), Body::empty())
                .await,
        );
        slow.push(silent_body(driver, path).await);
        let cut = futures::stream::iter([Ok("{"), Err(std::io::Error::other("cut"))]);
        broken.push(driver.send(post(path), Body::from_stream(cut)).await);
    }
    table.row(
        place,
        "the body is longer than `MAX_BODY_BYTES`, whether it says so or not",
        413,
        -32600,
        &large,
    );
    table.row(
        place,
        "the body is not there within `BODY_SECONDS`",
        408,
        -32600,
        &slow,
    );
    table.row(place, "the body breaks off", 400, -32600, &broken);

    let deep = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"a":{}{}}}}}"#,
        "[".repeat(40),
        "]".repeat(40)
    );
    let mut seen = vec![];
    for body in ["", "{", "{\"a\":NaN}", "\u{feff}{}"] {
        seen.extend(driver.post_to_both(body).await);
    }
    table.row(place, "the body is not JSON (RFC 8259)", 400, -32700, &seen);
    let twice = r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":1,"\u0061":2}}"#;
    table.row(
        place,
        "an object in the body has a key twice",
        400,
        -32700,
        &driver.post_to_both(twice).await,
    );
    table.row(
        place,
        "the body nests deeper than 32 levels",
        400,
        -32700,
        &driver.post_to_both(&deep).await,
    );
    let many = format!("[{}0]", "0,".repeat(4096));
    table.row(
        place,
        "the body holds more than 4,096 values",
        400,
        -32700,
        &driver.post_to_both(&many).await,
    );
    let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#;
    table.row(
        place,
        "the body is a batch, also in 2025-03-26",
        400,
        -32600,
        &driver.post_to_both(batch).await,
    );
    let mut seen = vec![];
    for body in [
        "1",
        r#"{"id":1,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"Method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#,
    ] {
        seen.extend(driver.post_to_both(body).await);
    }
    table.row(
        place,
        "the body is not one JSON-RPC message, or has another member",
        400,
        -32600,
        &seen,
    );
}

pub(super) async fn refused_for_memory(table: &mut Table) {
    let most = 8 << 20;
    let driver = Driver::start(UNUSED, &[&format!("--max-body-bytes={most}")]).await;
    let bodies = &driver.app.limits.bodies;
    let rest = futures::stream::pending::<std::io::Result<Vec<u8>>>();
    let body = futures::stream::iter([Ok(vec![b' '; most])]).chain(rest);
    let request = post("/mcp").body(Body::from_stream(body)).unwrap();
    let router = driver.router.clone();
    let reading = tokio::spawn(async move { drive(&router, request).await });
    until("all memory for bodies is used", async || bodies.held() == most).await;
    let seen = driver.post_to_both(PING).await;
    assert!(
        seen.iter()
            .all(|(_, _, headers)| headers.contains_key("retry-after"))
    );
    table.row(
        "`/mcp`, `/messages`",
        "the bodies of all requests together are longer than 8 MiB (with `Retry-After`)",
        503,
        -32603,
        &seen,
    );
    reading.abort();
    until("the memory is free again", async || bodies.held() == 0).await;
    assert_eq!(driver.send(post("/mcp"), PING).await.0, 200);
    let full = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
    let seen = [to_owner(full, PING).await];
    assert!(seen[0].2.contains_key("retry-after"));
    table.row(
        "`/messages`",
        "the same at the replica that holds the session (with `Retry-After`)",
        503,
        -32603,
        &seen,
    );
}

/// Nobody reads, until one more answer is too many.
pub(super) async fn refused_for_what_is_unread(table: &mut Table) {
    let nws = FakeNws::start(|_, _| many_alerts(400)).await;
    let driver = Driver::start(&nws.url, &[]).await;
    let call = request(
        1,
        "tools/call",
        &json!({"name": "get_alerts", "arguments": {"state": "OR"}}),
    );
    let mut unread = Vec::new();
    loop {
        let request = post("/mcp").body(Body::from(call.to_string())).unwrap();
        let response = driver.router.clone().oneshot(request).await.unwrap();
        if response.status() != 200 {
            break;
        }
        unread.push(response);
        assert!(unread.len() < 1000, "whatever is not read is kept");
    }
    let waiting = driver.app.streams.waiting_bytes();
    assert!((8 << 20..=16 << 20).contains(&waiting), "{waiting} bytes wait");
    let seen = [driver.refused_by_name(post("/mcp"), call).await];
    assert!(seen[0].2.contains_key("retry-after"));
    table.row(
        "`/mcp`",
        "long answers that their clients do not read take 16 MiB (with `Retry-After`)",
        503,
        -32603,
        &seen,
    );
    assert_eq!(
        driver.send(post("/mcp"), PING).await.0,
        200,
        "a short answer needs no room"
    );
    drop(unread);
    assert_eq!(driver.app.streams.waiting_bytes(), 0);
}

/// The clock runs only while everybody waits, so 10 seconds are over at once.
async fn silent_body(driver: &Driver, path: &str) -> Seen {
    let silent = futures::stream::pending::<std::io::Result<&str>>();
    tokio::time::pause();
    let seen = driver.send(post(path), Body::from_stream(silent)).await;
    tokio::time::resume();
    seen
}

pub(super) async fn sessions(table: &mut Table, driver: &Driver) {
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let (session, path) = (&driver.session, driver.messages());
    let mut seen = vec![];
    for path in [
        "/messages".to_owned(),
        "/messages/".to_owned(),
        format!("/messages?session_id={session}"),
        format!("{path}?session_id=x"),
    ] {
        seen.push(driver.send(post(&path), ping).await);
    }
    table.row(
        "`/messages`",
        "the path names no session, or the query another one",
        400,
        -32600,
        &seen,
    );
    let tampered = format!(
        "{}{}",
        if session.starts_with('A') { 'B' } else { 'A' },
        &session[1..]
    );
    let mut seen = vec![];
    for id in ["guess", &tampered] {
        seen.push(driver.send(post(&format!("/messages/{id}")), ping).await);
    }
    table.row(
        "`/messages`",
        "the session is unknown or has ended, or its replica is gone",
        404,
        -32600,
        &seen,
    );
    let silent = to_owner(b"", ping).await;
    table.row(
        "`/messages`",
        "the replica that holds the session does not answer",
        502,
        -32603,
        &[silent],
    );
    let taken = driver.send(post(&path), ping).await;
    table.row(
        "`/messages`",
        "taken; the answer, if there is one, comes on the stream",
        202,
        None,
        &[taken],
    );
}

/// A message for a stream of a replica that takes connections and says this, whatever it is asked.
async fn to_owner(said: &'static [u8], body: &str) -> Seen {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("current");
    std::fs::write(&key, "0123456789abcdef0123456789abcdef").unwrap();
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepting = tokio::spawn(async move {
        let mut taken = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 4096];
            assert!(socket.read(&mut request).await.unwrap() > 0);
            socket.write_all(said).await.unwrap();
            taken.push(socket);
        }
    });
    let owner = Replica::join(Some("127.0.0.2".parse().unwrap()), Some(&key), port).unwrap();
    let (_, id) = owner.name_stream().unwrap();
    let flags = [
        "--pod-ip=127.0.0.1".to_owned(),
        format!("--peer-port={port}"),
        format!("--replica-key-file={}", key.display()),
    ];
    let app = App::build(&config(UNUSED, &flags.each_ref().map(String::as_str))).unwrap();
    let request = post(&format!("/messages/{id}"))
        .body(Body::from(body.to_owned()))
        .unwrap();
    let seen = drive(&router(Arc::new(app), Stateless), request).await;
    accepting.abort();
    seen
}
