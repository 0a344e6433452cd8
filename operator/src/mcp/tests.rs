//! The probe against servers of every kind, on real sockets.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;

const LIMITS: Limits = Limits {
    call: Duration::from_millis(1_500),
    total: Duration::from_secs(10),
    bytes: 64 * 1024,
    pages: 5,
    tools: 20,
    session_tries: 4,
};

/// Serves a router until it is dropped.
struct Served {
    base: Url,
    _stop: DropGuard,
}

async fn serve(router: Router) -> Served {
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

fn target(base: Url, role: Role) -> Target {
    Target {
        transport: Transport::Direct(http_client(vec![], Role::Server).unwrap()),
        base,
        role,
        key: subscription_key("k3y"),
        replicas: 1,
        challenge_counts: true,
    }
}

fn streamable() -> Paths {
    Paths {
        streamable_http: Some("/mcp".to_owned()),
        sse: None,
    }
}

fn sse() -> Paths {
    Paths {
        streamable_http: None,
        sse: Some("/sse".to_owned()),
    }
}

async fn probe_server(served: &Served, paths: &Paths) -> Result<Seen, ProbeError> {
    probe(&target(served.base.clone(), Role::Server), paths, &LIMITS).await
}

fn report(seen: Result<Seen, ProbeError>) -> Report {
    match seen {
        Ok(Seen::Server(report)) => report,
        other => panic!("{other:?}"),
    }
}

fn names(report: &Report) -> Vec<&str> {
    report.tools.iter().map(|tool| tool.name.as_str()).collect()
}

fn answer(id: &Value, result: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

fn tools(cursor: Option<&str>) -> Value {
    match cursor {
        None => json!({"tools": [{"name": "get_forecast", "inputSchema": {}}], "nextCursor": "2"}),
        Some(_) => json!({"tools": [{"name": "get_alerts", "inputSchema": {}}]}),
    }
}

/// A server of 2026-07-28 that insists on its headers.
async fn modern(headers: HeaderMap, body: Bytes) -> Response {
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
struct Legacy {
    /// Requests so far; each goes to the next replica, as behind a round-robin balancer.
    turn: Arc<AtomicUsize>,
    replicas: usize,
    shared: bool,
    ended: Arc<AtomicUsize>,
}

async fn legacy(State(state): State<Legacy>, headers: HeaderMap, body: Bytes) -> Response {
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

fn legacy_router(state: Legacy) -> Router {
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
struct Events {
    endpoint: &'static str,
    unknown: bool,
    sender: Arc<Mutex<Option<mpsc::UnboundedSender<String>>>>,
}

fn events_router(endpoint: &'static str, unknown: bool) -> (Router, Events) {
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

async fn probe_events(
    endpoint: &'static str,
    unknown: bool,
    replicas: i32,
) -> (Result<Seen, ProbeError>, Events) {
    let (router, state) = events_router(endpoint, unknown);
    let served = serve(router).await;
    let target = target(served.base.join("/api").unwrap(), Role::Server).with_replicas(replicas);
    (probe(&target, &sse(), &LIMITS).await, state)
}

#[tokio::test]
async fn a_modern_server_is_read() {
    let served = serve(Router::new().route("/mcp", post(modern))).await;
    let report = report(probe_server(&served, &streamable()).await);
    assert_eq!(report.versions, ["2026-07-28", "2025-11-25"]);
    assert_eq!(
        (report.server_name.as_deref(), report.server_version.as_deref()),
        (Some("weather"), Some("1"))
    );
    assert_eq!(names(&report), ["get_alerts", "get_forecast"]);
    assert!(
        report
            .tools
            .iter()
            .all(|tool| tool.digest.starts_with("sha256:") && tool.digest.len() == 71)
    );
}

#[tokio::test]
async fn a_legacy_server_is_read_and_its_session_ended() {
    let state = Legacy {
        shared: true,
        replicas: 2,
        ..Legacy::default()
    };
    let served = serve(legacy_router(state.clone())).await;
    let target = target(served.base.clone(), Role::Server).with_replicas(2);
    let report = report(probe(&target, &streamable(), &LIMITS).await);
    assert_eq!(report.versions, ["2025-06-18"]);
    assert_eq!(report.server_name.as_deref(), Some("old"));
    assert_eq!(names(&report), ["get_alerts", "get_forecast"]);
    assert_eq!(state.ended.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn sessions_that_replicas_do_not_share_are_found() {
    let served = serve(legacy_router(Legacy {
        replicas: 2,
        ..Legacy::default()
    }))
    .await;
    let target = target(served.base.clone(), Role::Server).with_replicas(2);
    let error = probe(&target, &streamable(), &LIMITS).await.unwrap_err();
    assert_eq!(error.reason(), "SessionsNotShared");
    assert!(error.to_string().contains("2 replicas"), "{error}");

    let (seen, _) = probe_events("messages/1", true, 2).await;
    assert_eq!(seen.unwrap_err().reason(), "SessionsNotShared");
}

#[tokio::test]
async fn an_event_stream_is_followed_and_closed() {
    let (seen, state) = probe_events("messages/1?session_id=1", false, 1).await;
    let report = report(seen);
    assert_eq!(report.versions, ["2024-11-05"]);
    assert_eq!(names(&report), ["get_alerts", "get_forecast"]);
    let sender = state.sender.lock().unwrap().take().unwrap();
    let closed = tokio::time::timeout(Duration::from_secs(5), sender.closed()).await;
    assert!(closed.is_ok(), "the probe keeps the stream open");
}

#[tokio::test]
async fn an_endpoint_outside_the_path_is_refused_with_advice() {
    let (seen, _) = probe_events("/messages/0123456789abcdef", false, 1).await;
    let error = seen.unwrap_err();
    assert_eq!(error.reason(), "SseEndpointOutsidePath");
    let text = error.to_string();
    assert!(text.contains("leads to /messages/<id>, outside /api/"), "{text}");
    assert!(
        text.contains("without a slash in front") && !text.contains("0123456789abcdef"),
        "{text}"
    );
}

#[tokio::test]
async fn a_stream_that_is_none_is_named() {
    let served = serve(Router::new().route("/sse", get(|| async { axum::Json(json!({"ok": true})) }))).await;
    let error = probe_server(&served, &sse()).await.unwrap_err();
    assert_eq!(error.reason(), "NotMcp");
    assert!(error.to_string().contains("200 and application/json"), "{error}");
}

#[tokio::test]
async fn a_web_site_is_not_mcp() {
    let page = || async { axum::response::Html("<html>It works!</html>") };
    let served = serve(Router::new().fallback(page)).await;
    let error = probe_server(&served, &streamable()).await.unwrap_err();
    assert_eq!(error.reason(), "NotMcp");
    assert!(
        error
            .to_string()
            .contains("(initialize) was answered with 200 and text/html"),
        "{error}"
    );
}

#[tokio::test]
async fn statuses_are_told_apart() {
    type Case = (
        u16,
        &'static [(&'static str, &'static str)],
        &'static str,
        Role,
        &'static str,
    );
    let unknown = r#"{"statusCode":404,"message":"Resource not found"}"#;
    let cases: [Case; 9] = [
        (
            401,
            &[("www-authenticate", "AzureApiManagementKey realm=\"x\"")],
            r#"{"statusCode":401,"message":"Access denied due to missing subscription key."}"#,
            Role::Gateway,
            "Unauthorized",
        ),
        (403, &[], "", Role::Server, "Forbidden"),
        (404, &[], unknown, Role::Gateway, "NotFound"),
        (404, &[], "not here", Role::Gateway, "NotMcp"),
        (404, &[], unknown, Role::Server, "NotMcp"),
        (429, &[("retry-after", "17")], "", Role::Gateway, "RateLimited"),
        (
            500,
            &[],
            r#"{"statusCode":500,"message":"Internal server error"}"#,
            Role::Gateway,
            "ServerError",
        ),
        (
            503,
            &[],
            r#"{"kind":"Status","apiVersion":"v1","message":"no endpoints available for service \"weather\""}"#,
            Role::Server,
            "Unreachable",
        ),
        (
            302,
            &[("location", "https://elsewhere.example/login?token=1")],
            "",
            Role::Gateway,
            "NotMcp",
        ),
    ];
    for (status, headers, body, role, reason) in cases {
        let respond = move || async move {
            let mut response = Response::new(Body::from(body));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            for (name, value) in headers {
                response.headers_mut().insert(*name, value.parse().unwrap());
            }
            response
        };
        let served = serve(Router::new().fallback(respond)).await;
        let error = probe(&target(served.base.clone(), role), &streamable(), &LIMITS)
            .await
            .unwrap_err();
        assert_eq!(error.reason(), reason, "{status} {role:?}: {error}");
        assert!(!error.to_string().contains("token=1"), "{error}");
        if status == 429 {
            assert_eq!(
                error.retry(),
                crate::backoff::Retry::After(Duration::from_secs(17))
            );
        }
    }
}

#[tokio::test]
async fn a_challenge_is_seen_where_it_counts() {
    let respond = || async {
        let challenge =
            r#"Bearer resource_metadata="https://gw.example/.well-known/oauth-protected-resource""#;
        (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)])
    };
    let served = serve(Router::new().fallback(respond)).await;
    let mut target = target(served.base.clone(), Role::Gateway);
    let seen = probe(&target, &streamable(), &LIMITS).await.unwrap();
    let resource_metadata = "https://gw.example/.well-known/oauth-protected-resource".to_owned();
    assert_eq!(seen, Seen::Challenge { resource_metadata });
    target.challenge_counts = false;
    let error = probe(&target, &streamable(), &LIMITS).await.unwrap_err();
    assert_eq!(error.reason(), "ChallengeSeen");
}

#[tokio::test]
async fn a_server_that_hangs_ends_in_time() {
    let served = serve(Router::new().fallback(std::future::pending::<StatusCode>)).await;
    let limits = Limits {
        call: Duration::from_millis(300),
        ..LIMITS
    };
    for paths in [streamable(), sse()] {
        let target = target(served.base.clone(), Role::Server);
        let error = probe(&target, &paths, &limits).await.unwrap_err();
        assert_eq!(error.reason(), "Timeout");
    }
    // A body that never ends is the same.
    let trickle = || async {
        let drops = futures::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((Ok::<_, Infallible>(": still here\n\n"), ()))
        });
        ([("content-type", "text/event-stream")], Body::from_stream(drops))
    };
    let served = serve(Router::new().fallback(trickle)).await;
    for paths in [streamable(), sse()] {
        let target = target(served.base.clone(), Role::Server);
        let error = probe(&target, &paths, &limits).await.unwrap_err();
        assert_eq!(error.reason(), "Timeout");
    }
}

#[tokio::test]
async fn a_huge_answer_is_left_at_the_limit() {
    let huge = || async {
        let sent = Arc::new(AtomicUsize::new(0));
        let pieces = futures::stream::repeat_with(move || {
            sent.fetch_add(8_192, Ordering::SeqCst);
            Ok::<_, Infallible>(Bytes::from(vec![b' '; 8_192]))
        });
        ([("content-type", "application/json")], Body::from_stream(pieces))
    };
    let served = serve(Router::new().fallback(huge)).await;
    let error = probe_server(&served, &streamable()).await.unwrap_err();
    assert_eq!(error.reason(), "AnswerTooLarge");
    assert!(error.to_string().contains("more than 64 KiB"), "{error}");
}

#[tokio::test]
async fn pages_without_end_are_left() {
    let endless = |body: Bytes| async move {
        let message: Value = serde_json::from_slice(&body).unwrap();
        let result = json!({
            "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "tools": [{"name": "a"}], "nextCursor": "x",
        });
        axum::Json(answer(&message["id"], &result))
    };
    let served = serve(Router::new().route("/mcp", post(endless))).await;
    let error = probe_server(&served, &streamable()).await.unwrap_err();
    assert_eq!(error.reason(), "AnswerTooLarge");
    assert!(error.to_string().contains("5 pages"), "{error}");
}

#[tokio::test]
async fn nobody_there_and_no_tls_are_told_apart() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let gone = target(Url::parse(&format!("http://{address}")).unwrap(), Role::Server);
    let error = probe(&gone, &streamable(), &LIMITS).await.unwrap_err();
    assert_eq!(error.reason(), "Unreachable");
    assert!(error.to_string().contains("refused"), "{error}");

    let plain = serve(Router::new()).await;
    let base = Url::parse(&format!("https://{}", plain.base.authority())).unwrap();
    let error = probe(&target(base, Role::Gateway), &streamable(), &LIMITS)
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "TlsError", "{error}");
}

/// The service proxy of the API server, with a mock in the API server's place.
#[tokio::test]
async fn the_api_server_passes_requests_on() {
    let (service, mut handle) =
        tower_test::mock::pair::<http::Request<kube::client::Body>, http::Response<kube::client::Body>>();
    let client = kube::Client::new(service, "default");
    let paths = Arc::new(Mutex::new(Vec::<Uri>::new()));
    let seen_paths = paths.clone();
    tokio::spawn(async move {
        while let Some((request, send)) = handle.next_request().await {
            let (parts, body) = request.into_parts();
            seen_paths.lock().unwrap().push(parts.uri);
            let response = modern(parts.headers, body.collect_bytes().await.unwrap()).await;
            let bytes = axum::body::to_bytes(response.into_body(), usize::MAX)
                .await
                .unwrap();
            let mut answer = http::Response::new(kube::client::Body::from(bytes.to_vec()));
            answer
                .headers_mut()
                .insert("content-type", "application/json".parse().unwrap());
            send.send_response(answer);
        }
    });
    let mut target = Target::through_api_server(client, "tools", "weather", 80).unwrap();
    target.key = subscription_key("k3y");
    assert_eq!(
        names(&report(probe(&target, &streamable(), &LIMITS).await)),
        ["get_alerts", "get_forecast"]
    );
    let paths = paths.lock().unwrap();
    assert!(
        paths
            .iter()
            .all(|uri| uri.path() == "/api/v1/namespaces/tools/services/http:weather:80/proxy/mcp"),
        "{paths:?}"
    );
}

#[test]
fn keys_are_masked() {
    let target = target(Url::parse("http://weather").unwrap(), Role::Gateway);
    assert!(!format!("{target:?}").contains("k3y"));
    assert_eq!(subscription_key("a\nb"), None);
}
