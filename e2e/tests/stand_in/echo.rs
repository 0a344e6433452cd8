//! A backend that answers with what it received, and a gateway in front of it.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::routing::any;
use bytes::Bytes;
use http::Method;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_stream::wrappers::ReceiverStream;

use crate::support::{Bench, Reply};

pub const STREAMING: &str = r#"<forward-request timeout="5" buffer-response="false"/>"#;

/// A backend that answers with what it received; `/sse` sends a line, waits, and sends another.
pub async fn backend() -> String {
    async fn echo(request: Request) -> axum::Json<serde_json::Value> {
        let (parts, body) = request.into_parts();
        let headers: Vec<(String, String)> = parts
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()))
            .collect();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        axum::Json(json!({
            "method": parts.method.as_str(),
            "url": parts.uri.to_string(),
            "headers": headers,
            "body": String::from_utf8_lossy(&body),
        }))
    }
    async fn events() -> ([(&'static str, &'static str); 1], Body) {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(4);
        tokio::spawn(async move {
            let _ = sender.send(Ok(Bytes::from_static(b"data: first\n\n"))).await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            let _ = sender.send(Ok(Bytes::from_static(b"data: second\n\n"))).await;
        });
        (
            [("content-type", "text/event-stream")],
            Body::from_stream(ReceiverStream::new(receiver)),
        )
    }
    let router = Router::new()
        .route("/base/sse", any(events))
        .route(
            "/base/slow",
            any(async || tokio::time::sleep(Duration::from_secs(5)).await),
        )
        .fallback(any(echo));
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .unwrap();
    let url = format!("http://{}/base", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

pub async fn start(inbound: &str, forward: &str) -> (Bench, String) {
    let bench = Bench::start().await;
    let key = bench.weather(&backend().await, inbound, forward).await;
    (bench, key)
}

pub async fn call(bench: &Bench, key: &str) -> Reply {
    let request = bench
        .gateway(Method::POST, "/mcp/weather/mcp")
        .header("Ocp-Apim-Subscription-Key", key)
        .body("{}");
    bench.send(request).await
}

pub fn received(reply: &Reply, name: &str) -> Option<String> {
    let headers: Vec<(String, String)> = serde_json::from_value(reply.json()["headers"].clone()).unwrap();
    headers
        .into_iter()
        .find(|(header, _)| header == name)
        .map(|(_, value)| value)
}
