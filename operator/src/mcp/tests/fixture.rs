//! Servers on real sockets, and how they are probed.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::mcp::*;

pub(super) const LIMITS: Limits = Limits {
    call: Duration::from_millis(1_500),
    total: Duration::from_secs(10),
    bytes: 64 * 1024,
    total_bytes: 256 * 1024,
    pages: 5,
    tools: 20,
    session_tries: 4,
};

/// Serves a router until it is dropped.
pub(super) struct Served {
    pub(super) base: Url,
    _stop: DropGuard,
}

pub(super) async fn serve(router: Router) -> Served {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            served = axum::serve(listener, router) => served.unwrap(),
            () = stopped.cancelled() => {}
        }
    });
    Served {
        base,
        _stop: stop.drop_guard(),
    }
}

pub(super) fn target(base: Url, role: Role) -> Target {
    Target {
        transport: Transport::Direct(http_client(vec![], Role::Server).unwrap()),
        base,
        address: None,
        role,
        secret: None,
        key_header: crate::mcp::KEY_HEADER,
        key: subscription_key("k3y"),
        token: None,
        replicas: 1,
        challenge_counts: true,
    }
}

pub(super) fn streamable() -> Paths {
    Paths {
        streamable_http: Some("/mcp".to_owned()),
        sse: None,
    }
}

pub(super) fn sse() -> Paths {
    Paths {
        streamable_http: None,
        sse: Some("/sse".to_owned()),
    }
}

pub(super) async fn probe_server(served: &Served, paths: &Paths) -> Result<Seen, ProbeError> {
    probe(&target(served.base.clone(), Role::Server), paths, &LIMITS).await
}

pub(super) fn report(seen: Result<Seen, ProbeError>) -> Report {
    match seen {
        Ok(Seen::Server(report)) => report,
        other => panic!("{other:?}"),
    }
}

pub(super) fn names(report: &Report) -> Vec<&str> {
    report.tools.iter().map(|tool| tool.name.as_str()).collect()
}

pub(super) fn answer(id: &Value, result: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

pub(super) fn tools(cursor: Option<&str>) -> Value {
    match cursor {
        None => json!({"tools": [{"name": "get_forecast", "inputSchema": {}}], "nextCursor": "2"}),
        Some(_) => json!({"tools": [{"name": "get_alerts", "inputSchema": {}}]}),
    }
}

/// A server of 2026-07-28 that insists on its headers.
pub(super) async fn modern(headers: HeaderMap, body: Bytes) -> Response {
    let message: Value = serde_json::from_slice(&body).unwrap();
    let header = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(header("accept"), "application/json, text/event-stream");
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("ocp-apim-subscription-key"), "k3y");
    let user_agent = concat!("mcp-fleet-operator/", env!("CARGO_PKG_VERSION"), " (probe)");
    assert!([user_agent, ""].contains(&header("user-agent").as_str()));
    let method = message["method"].as_str().unwrap();
    assert_eq!(
        (
            header("mcp-protocol-version").as_str(),
            header("mcp-method").as_str()
        ),
        ("2026-07-28", method)
    );
    let meta = &message["params"]["_meta"];
    assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
    assert!(meta["io.modelcontextprotocol/clientCapabilities"].is_object());
    let result = match method {
        "server/discover" => json!({
            "supportedVersions": ["2025-11-25", "2026-07-28"],
            "capabilities": {"tools": {}},
            "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "weather", "version": "1"}},
        }),
        "tools/list" => tools(message["params"]["cursor"].as_str()),
        other => panic!("{other}"),
    };
    axum::Json(answer(&message["id"], &result)).into_response()
}

/// A server with a handshake that frames its answers as events, and issues sessions that `replicas` may share.
#[derive(Clone, Default)]
pub(super) struct Legacy {
    /// Requests so far; each goes to the next replica, as behind a round-robin balancer.
    pub(super) turn: Arc<AtomicUsize>,
    pub(super) replicas: usize,
    pub(super) shared: bool,
    pub(super) ended: Arc<AtomicUsize>,
}

pub(super) async fn legacy(State(state): State<Legacy>, headers: HeaderMap, body: Bytes) -> Response {
    let message: Value = serde_json::from_slice(&body).unwrap();
    let replica = state.turn.fetch_add(1, Ordering::SeqCst) % state.replicas.max(1);
    let known = |value: &str| state.shared || value == format!("session-{replica}");
    let session = headers
        .get("mcp-session-id")
        .map(|value| value.to_str().unwrap().to_owned());
    let method = message["method"].as_str().unwrap();
    if method == "initialize" {
        let result = json!({
            "protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "old", "version": "2"},
        });
        let text = format!(
            ": hello\n\nevent: message\ndata: {}\n\n",
            answer(&message["id"], &result)
        );
        let headers = [
            ("content-type", "text/event-stream"),
            ("mcp-session-id", &format!("session-{replica}")),
        ];
        return (headers, text).into_response();
    }
    match session {
        None => return (StatusCode::BAD_REQUEST, "no session").into_response(),
        Some(value) if !known(&value) => return (StatusCode::NOT_FOUND, "unknown session").into_response(),
        Some(_) => {}
    }
    assert_eq!(headers["mcp-protocol-version"], "2025-06-18");
    let result = match method {
        "notifications/initialized" => return StatusCode::ACCEPTED.into_response(),
        "tools/list" => tools(message["params"]["cursor"].as_str()),
        "ping" => json!({}),
        other => panic!("{other}"),
    };
    let text = format!("event: message\ndata: {}\n\n", answer(&message["id"], &result));
    ([("content-type", "text/event-stream")], text).into_response()
}

pub(super) fn legacy_router(state: Legacy) -> Router {
    let end = |State(state): State<Legacy>| async move {
        state.ended.fetch_add(1, Ordering::SeqCst);
        StatusCode::NO_CONTENT
    };
    Router::new()
        .route("/mcp", post(legacy).delete(end))
        .with_state(state)
}

/// An SSE server below `/api`, whose endpoint event says `endpoint`; `unknown` refuses every message.
#[derive(Clone)]
pub(super) struct Events {
    pub(super) endpoint: &'static str,
    pub(super) unknown: bool,
    pub(super) sender: Arc<Mutex<Option<mpsc::UnboundedSender<String>>>>,
}

pub(super) fn events_router(endpoint: &'static str, unknown: bool) -> (Router, Events) {
    let state = Events {
        endpoint,
        unknown,
        sender: Arc::default(),
    };
    let stream = |State(state): State<Events>| async move {
        let (sender, mut receiver) = mpsc::unbounded_channel::<String>();
        sender
            .send(format!("event: endpoint\r\ndata: {}\r\n\r\n", state.endpoint))
            .unwrap();
        *state.sender.lock().unwrap() = Some(sender);
        let events = futures::stream::poll_fn(move |context| receiver.poll_recv(context));
        (
            [("content-type", "text/event-stream")],
            Body::from_stream(events.map(Ok::<_, Infallible>)),
        )
    };
    let message = |State(state): State<Events>, body: Bytes| async move {
        if state.unknown {
            return (StatusCode::NOT_FOUND, "unknown session").into_response();
        }
        let message: Value = serde_json::from_slice(&body).unwrap();
        let result = match message["method"].as_str().unwrap() {
            "initialize" => json!({
                "protocolVersion": "2024-11-05", "capabilities": {"tools": {}}, "serverInfo": {"name": "sse", "version": "3"},
            }),
            "tools/list" => tools(message["params"]["cursor"].as_str()),
            "ping" => json!({}),
            _ => return StatusCode::ACCEPTED.into_response(),
        };
        let sender = state.sender.lock().unwrap().clone().unwrap();
        sender
            .send("event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":99,\"method\":\"ping\"}\n\n".to_owned())
            .unwrap();
        sender
            .send(format!(
                "event: message\ndata: {}\n\n",
                answer(&message["id"], &result)
            ))
            .unwrap();
        StatusCode::ACCEPTED.into_response()
    };
    let router = Router::new()
        .route("/api/sse", get(stream))
        .route("/api/messages/{id}", post(message))
        .with_state(state.clone());
    (router, state)
}

pub(super) async fn probe_events(
    endpoint: &'static str,
    unknown: bool,
    replicas: i32,
) -> (Result<Seen, ProbeError>, Events) {
    let (router, state) = events_router(endpoint, unknown);
    let served = serve(router).await;
    let target = target(served.base.join("/api").unwrap(), Role::Server).with_replicas(replicas);
    (probe(&target, &sse(), &LIMITS).await, state)
}
