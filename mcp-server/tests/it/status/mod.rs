//! The table of status codes in docs/weather-server.md, row by row: each is driven, and the document has exactly these rows.

mod answered;
mod refused;

use crate::harness::{META, Server, app, post, request};
use answered::{answered, limits, mirrored_headers, probes, stateless, too_many_calls};
use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use mcp_weather::app::App;
use refused::{
    refused_by_body, refused_by_gateway, refused_callers, refused_for_memory, refused_for_what_is_unread,
    refused_types, sessions,
};
use serde_json::Value;
use std::fmt::Write as _;
use std::sync::Arc;
use tower::ServiceExt as _;

const DOCUMENT: &str = include_str!("../../../../docs/weather-server.md");
const HEAD: &str = "| where | when | status | code |\n|---|---|---|---|\n";
const UNUSED: &str = "http://127.0.0.1:9";
const BOTH: &str = "application/json, text/event-stream";

/// Status, JSON-RPC code if the body is an error, and headers.
type Seen = (StatusCode, Option<i64>, HeaderMap);

/// The rows that held.
#[derive(Default)]
struct Table(String);

impl Table {
    /// Every one of `seen` is as the row says.
    fn row(&mut self, place: &str, when: &str, status: u16, code: impl Into<Option<i64>>, seen: &[Seen]) {
        let code = code.into();
        assert!(!seen.is_empty());
        for (seen_status, seen_code, _) in seen {
            assert_eq!(
                (seen_status.as_u16(), *seen_code),
                (status, code),
                "{place}: {when}"
            );
        }
        let code = code.map_or_else(|| "-".to_owned(), |code| code.to_string());
        writeln!(self.0, "| {place} | {when} | {status} | {code} |").unwrap();
    }
}

async fn drive(router: &Router, request: Request<Body>) -> Seen {
    let (status, body, headers) = exchange(router, request).await;
    (status, body["error"]["code"].as_i64(), headers)
}

async fn exchange(router: &Router, request: Request<Body>) -> (StatusCode, Value, HeaderMap) {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    // A stream has no end to wait for.
    let events = parts
        .headers
        .get("content-type")
        .is_some_and(|kind| kind == "text/event-stream");
    let body = if events {
        None
    } else {
        Some(body.collect().await.unwrap().to_bytes())
    };
    let body = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
    (parts.status, body, parts.headers)
}

/// A server whose streams can be opened without a socket.
struct Driver {
    router: Router,
    app: Arc<App>,
    session: String,
    // Keeps the session open.
    _stream: Body,
}

impl Driver {
    async fn start(nws: &str, flags: &[&str]) -> Driver {
        let (app, router) = app(nws, flags);
        let request = Request::get("/sse")
            .header("host", "localhost")
            .body(Body::empty())
            .unwrap();
        let mut stream = router.clone().oneshot(request).await.unwrap().into_body();
        let first = stream.frame().await.unwrap().unwrap().into_data().unwrap();
        let first = std::str::from_utf8(&first).unwrap();
        let session = first.split("session_id=").nth(1).unwrap().trim().to_owned();
        Driver {
            router,
            app,
            session,
            _stream: stream,
        }
    }

    fn messages(&self) -> String {
        format!("/messages/{}", self.session)
    }

    async fn send(&self, request: http::request::Builder, body: impl Into<Body>) -> Seen {
        drive(&self.router, request.body(body.into()).unwrap()).await
    }

    /// A request that is refused for what this replica has room for: its error names the request.
    async fn refused_by_name(&self, builder: http::request::Builder, mut request: Value) -> Seen {
        request["id"] = "of the request".into();
        let request = builder.body(Body::from(request.to_string())).unwrap();
        let (status, body, headers) = exchange(&self.router, request).await;
        assert_eq!(body["id"], "of the request", "{body}");
        (status, body["error"]["code"].as_i64(), headers)
    }

    /// The same body to both endpoints that take messages.
    async fn post_to_both(&self, body: &str) -> Vec<Seen> {
        let mcp = self.send(post("/mcp"), body.to_owned()).await;
        let messages = self.send(post(&self.messages()), body.to_owned()).await;
        vec![mcp, messages]
    }

    async fn handshake(&self, method: &str, params: &Value) -> Seen {
        self.send(post("/mcp"), request(1, method, params).to_string())
            .await
    }

    /// A request of 2026-07-28 with `headers` beside those of every request.
    async fn modern(&self, method: &str, params: Value, headers: &[(&str, &str)]) -> Seen {
        let (builder, request) = modern(method, params, headers);
        self.send(builder, request.to_string()).await
    }
}

fn modern(method: &str, mut params: Value, headers: &[(&str, &str)]) -> (http::request::Builder, Value) {
    params["_meta"] = serde_json::from_str(META).unwrap();
    let mut builder = post("/mcp").header("mcp-method", method);
    if !headers.iter().any(|(name, _)| *name == "mcp-protocol-version") {
        builder = builder.header("mcp-protocol-version", "2026-07-28");
    }
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    (builder, request(1, method, &params))
}

#[tokio::test]
async fn the_table_in_the_docs_holds() {
    let driver = Driver::start(UNUSED, &["--max-body-bytes=10000", "--max-streams=1"]).await;
    let mut table = Table::default();
    refused_by_gateway(&mut table).await;
    refused_callers(&mut table, &driver).await;
    refused_types(&mut table, &driver).await;
    refused_by_body(&mut table, &driver).await;
    refused_for_memory(&mut table).await;
    refused_for_what_is_unread(&mut table).await;
    sessions(&mut table, &driver).await;
    mirrored_headers(&mut table, &driver).await;
    stateless(&mut table, &driver).await;
    answered(&mut table, &driver).await;
    too_many_calls(&mut table).await;
    limits(&mut table, &driver).await;
    probes(&mut table, &driver).await;
    let expected = format!("{HEAD}{}", table.0);
    assert!(
        DOCUMENT.contains(&expected),
        "docs/weather-server.md should have this table:\n{expected}"
    );
}

#[tokio::test]
async fn headers_that_do_not_fit_are_refused_by_the_connection() {
    let server = Server::start(UNUSED, &[]).await;
    let response = crate::harness::http()
        .get(format!("{}/health", server.url))
        .header("x-long", "a".repeat(40_000))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 431);
    assert!(DOCUMENT.contains("431"));
}
