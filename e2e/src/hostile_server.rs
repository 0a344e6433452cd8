//! Answers that would hurt who reads them without care. Never used outside tests.
//!
//! In: a trick and a JSON-RPC request. Out: an answer that is huge, deep, endless, slow, cut or a crowd.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::StreamExt;
use serde_json::{Value, json};

/// As much as a parser without a limit would take in one go.
const HUGE: usize = 4 * 1024 * 1024;
/// Just what a careful reader takes.
const LARGE: usize = 500 * 1024;

/// What is wrong with the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trick {
    /// Four MiB of small objects, a hundred times as much as a tree.
    Huge,
    /// The same, as large as a careful reader takes.
    Dense,
    /// A quarter of a million arrays within each other.
    Deep,
    /// A body without end.
    Endless,
    /// Events without end, and none of them the answer.
    Events,
    /// A byte now and then.
    Slow,
    /// The connection breaks in the middle.
    Cut,
    /// A page of tools/list after the other.
    Pages,
    /// As many tools, with names as long, as a status must not list.
    Crowd,
}

pub fn router(trick: Trick) -> Router {
    Router::new().route(
        "/mcp",
        post(move |body: Bytes| async move { answer(trick, &body) }),
    )
}

fn answer(trick: Trick, body: &[u8]) -> Response {
    let message: Value = serde_json::from_slice(body).unwrap_or_default();
    let id = message["id"].as_u64().unwrap_or_default();
    let discover = message["method"] == "server/discover";
    match trick {
        Trick::Huge => result(id, &filled(HUGE, "[", r#"{"a":0},"#, "0]")),
        Trick::Dense => result(id, &filled(LARGE, "[", r#"{"a":0},"#, "0]")),
        Trick::Deep => result(id, &("[".repeat(LARGE / 2) + &"]".repeat(LARGE / 2))),
        Trick::Endless => body_of("application/json", forever("[".repeat(8 * 1024), Duration::ZERO)),
        Trick::Events => body_of(
            "text/event-stream",
            forever("data: {}\n\n".repeat(800), Duration::ZERO),
        ),
        Trick::Slow => body_of(
            "application/json",
            forever(" ".to_owned(), Duration::from_secs(1)),
        ),
        Trick::Cut => {
            let pieces = [
                Ok(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"#)),
                Err(std::io::Error::other("cut")),
            ];
            let pieces = futures::stream::iter(pieces).then(|piece| async {
                // So that the first piece is on its way before the connection breaks.
                tokio::time::sleep(Duration::from_millis(50)).await;
                piece
            });
            body_of("application/json", Body::from_stream(pieces))
        }
        Trick::Pages | Trick::Crowd if discover => {
            let greeting = json!({
                "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
                "serverInfo": {"name": "n".repeat(2_000), "version": "1".repeat(2_000)},
            });
            result(id, &greeting.to_string())
        }
        Trick::Pages => {
            let page = json!({"tools": [{"name": format!("tool-{id}")}], "nextCursor": id.to_string()});
            result(id, &page.to_string())
        }
        Trick::Crowd => {
            let tools: Vec<_> = (0..1_000)
                .map(|number| json!({"name": format!("{number:04}-{}", "tool".repeat(100))}))
                .collect();
            result(id, &json!({"tools": tools}).to_string())
        }
    }
}

fn result(id: u64, result: &str) -> Response {
    let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

fn body_of(kind: &'static str, body: Body) -> Response {
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

fn forever(piece: String, pause: Duration) -> Body {
    let piece = Bytes::from(piece);
    Body::from_stream(futures::stream::repeat(piece).then(move |piece| async move {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        Ok::<_, Infallible>(piece)
    }))
}

/// `open`, then `item` as often as fits, then `close`.
fn filled(size: usize, open: &str, item: &str, close: &str) -> String {
    let times = (size - open.len() - close.len()) / item.len();
    open.to_owned() + &item.repeat(times) + close
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn text(trick: Trick, method: &str) -> String {
        let message = json!({"jsonrpc": "2.0", "id": 7, "method": method}).to_string();
        let body = answer(trick, message.as_bytes()).into_body();
        let bytes = axum::body::to_bytes(body, 8 * 1024 * 1024).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn finite_answers_are_json_of_the_size_that_they_should_have() {
        for (trick, least, most) in [
            (Trick::Huge, HUGE - 99, HUGE + 99),
            (Trick::Dense, LARGE - 99, LARGE + 99),
        ] {
            let text = text(trick, "tools/list").await;
            assert!((least..most).contains(&text.len()), "{trick:?}: {}", text.len());
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["id"], 7);
        }
        let crowd = text(Trick::Crowd, "tools/list").await;
        assert!((400_000..LARGE).contains(&crowd.len()), "{}", crowd.len());
        let pages: Value = serde_json::from_str(&text(Trick::Pages, "tools/list").await).unwrap();
        assert_eq!(pages["result"]["nextCursor"], "7");
    }

    #[tokio::test]
    async fn a_cut_answer_is_cut() {
        let body = answer(Trick::Cut, b"{}").into_body();
        assert!(axum::body::to_bytes(body, 1024).await.is_err());
    }
}
