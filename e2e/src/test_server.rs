//! Servers for tests: each is wrong in one way, or tells what reached it. Never used outside tests.
//!
//! In: a mode and a port. Out: an HTTP server, or for [`Mode::Crash`] an exit.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, bail};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::Stream;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::hostile_server::{self, Trick};

const REVISION: &str = "2025-06-18";
const SESSION: &str = "mcp-session-id";

/// In which way the server is special.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Answers HTTP, but not MCP.
    Html,
    /// SSE whose endpoint begins with a slash, which is wrong behind a path.
    SseOutside,
    /// Keeps sessions to itself, which is wrong with two replicas.
    Sessions,
    /// Its tool `headers` answers the headers and the query that reached it.
    Echo,
    /// Ends at once.
    Crash,
    /// Four MiB of small objects in one answer.
    Huge,
    /// The same, just as large as the operator reads.
    Dense,
    /// Arrays within arrays.
    Deep,
    /// An answer without end.
    Endless,
    /// Events without end, none of them the answer.
    Events,
    /// A byte a second.
    Slow,
    /// An answer that breaks off.
    Cut,
    /// Pages of tools without end.
    Pages,
    /// A thousand tools with long names.
    Crowd,
}

#[derive(Debug, clap::Args)]
pub struct Options {
    #[arg(long)]
    mode: Mode,
    #[arg(long, env = "PORT", default_value_t = 8000)]
    port: u16,
}

#[derive(Debug, Default)]
struct Sessions {
    /// Streams of SSE clients, and ids of streamable sessions without a stream.
    open: Mutex<HashMap<String, Option<mpsc::UnboundedSender<Value>>>>,
}

impl Sessions {
    fn add(&self, stream: Option<mpsc::UnboundedSender<Value>>) -> String {
        let id = uuid::Uuid::new_v4().simple().to_string();
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.clone(), stream);
        id
    }

    fn knows(&self, id: &str) -> bool {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(id)
    }

    fn stream(&self, id: &str) -> Option<mpsc::UnboundedSender<Value>> {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned()
            .flatten()
    }
}

pub async fn run(options: Options) -> Result<()> {
    let sessions = Arc::<Sessions>::default();
    let router = match options.mode {
        Mode::Crash => bail!("this server ends at once, as it was told to"),
        Mode::Html => Router::new().fallback(|| async { Html("<!doctype html><title>not MCP</title>") }),
        Mode::Huge => hostile_server::router(Trick::Huge),
        Mode::Dense => hostile_server::router(Trick::Dense),
        Mode::Deep => hostile_server::router(Trick::Deep),
        Mode::Endless => hostile_server::router(Trick::Endless),
        Mode::Events => hostile_server::router(Trick::Events),
        Mode::Slow => hostile_server::router(Trick::Slow),
        Mode::Cut => hostile_server::router(Trick::Cut),
        Mode::Pages => hostile_server::router(Trick::Pages),
        Mode::Crowd => hostile_server::router(Trick::Crowd),
        Mode::Echo => Router::new().route("/mcp", post(echo)),
        Mode::Sessions => Router::new().route("/mcp", post(in_session)).with_state(sessions),
        Mode::SseOutside => Router::new()
            .route("/sse", get(open_stream))
            .route("/messages/{id}", post(into_stream))
            .with_state(sessions),
    };
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, options.port));
    let listener = tokio::net::TcpListener::bind(address).await?;
    axum::serve(listener, router)
        .with_graceful_shutdown(async { crate::commands::interrupted().await.unwrap_or(()) })
        .await?;
    Ok(())
}

async fn echo(uri: Uri, headers: HeaderMap, Json(message): Json<Value>) -> Response {
    reply(answer(&message, &headers, &uri))
}

/// A session lives in the process that began it.
async fn in_session(
    State(sessions): State<Arc<Sessions>>,
    uri: Uri,
    headers: HeaderMap,
    Json(message): Json<Value>,
) -> Response {
    if message["method"] == "initialize" {
        let id = sessions.add(None);
        return ([(SESSION, id)], reply(answer(&message, &headers, &uri))).into_response();
    }
    let id = headers.get(SESSION).and_then(|id| id.to_str().ok());
    match id.map(|id| sessions.knows(id)) {
        None if message["method"] == "server/discover" => reply(answer(&message, &headers, &uri)),
        None => StatusCode::BAD_REQUEST.into_response(),
        Some(false) => StatusCode::NOT_FOUND.into_response(),
        Some(true) => reply(answer(&message, &headers, &uri)),
    }
}

async fn open_stream(
    State(sessions): State<Arc<Sessions>>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let id = sessions.add(Some(sender));
    let first = Event::default().event("endpoint").data(format!("/messages/{id}"));
    let rest = UnboundedReceiverStream::new(receiver)
        .map(|message: Value| Event::default().event("message").data(message.to_string()));
    Sse::new(tokio_stream::once(first).chain(rest).map(Ok)).keep_alive(KeepAlive::default())
}

async fn into_stream(
    State(sessions): State<Arc<Sessions>>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    Json(message): Json<Value>,
) -> StatusCode {
    let Some(stream) = sessions.stream(&id) else {
        return StatusCode::NOT_FOUND;
    };
    match answer(&message, &headers, &uri).map(|answer| stream.send(answer)) {
        Some(Err(_)) => StatusCode::NOT_FOUND,
        Some(Ok(())) | None => StatusCode::ACCEPTED,
    }
}

fn reply(answer: Option<Value>) -> Response {
    match answer {
        Some(answer) => Json(answer).into_response(),
        None => StatusCode::ACCEPTED.into_response(),
    }
}

/// As much of MCP, handshake era, as a probe and a client ask for. Notifications have no answer.
fn answer(message: &Value, headers: &HeaderMap, uri: &Uri) -> Option<Value> {
    let id = message.get("id")?;
    let result = match message["method"].as_str().unwrap_or_default() {
        "initialize" => json!({
            "protocolVersion": REVISION,
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "mcp-fleet-test-server", "version": env!("CARGO_PKG_VERSION")},
        }),
        "ping" => json!({}),
        "tools/list" => json!({"tools": [{
            "name": "headers",
            "description": "The headers and the query that reached the server",
            "inputSchema": {"type": "object", "properties": {}},
        }]}),
        "tools/call" => json!({"content": [{"type": "text", "text": seen(headers, uri).to_string()}]}),
        other => {
            let error = json!({"code": -32601, "message": format!("no method {other}")});
            return Some(json!({"jsonrpc": "2.0", "id": id, "error": error}));
        }
    };
    Some(json!({"jsonrpc": "2.0", "id": id, "result": result}))
}

fn seen(headers: &HeaderMap, uri: &Uri) -> Value {
    let headers: BTreeMap<_, _> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
        .collect();
    json!({"headers": headers, "query": uri.query()})
}
