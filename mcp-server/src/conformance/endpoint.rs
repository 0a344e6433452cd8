//! Behind the gate of /mcp: what was let in goes in here, is refused when it names no session that there is or would open one
//! too many, and goes on to rmcp.
//!
//! rmcp bounds neither the number of sessions nor what it keeps for one that is idle unless it is told to, so both are told here.

use super::handler::{Fixture, Shared};
use super::weather::BuildError;
use crate::app::App;
use crate::audit::Origin;
use crate::http::mcp::{Admitted, Endpoint};
use crate::http::refusal::{Refusal, TooManyCalls, json_response};
use crate::metrics::Metrics;
use crate::protocol::answer::{self, Code, RenderedId};
use crate::protocol::dispatch::Step;
use crate::protocol::envelope::Message;
use crate::protocol::json::Json;
use crate::protocol::modern::{self, METHOD_HEADER};
use crate::protocol::revision::Era;
use crate::sse::open::wants_events;
use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use futures::StreamExt as _;
use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

const SESSION: &str = "mcp-session-id";
/// A result that was not fetched from a broken stream is kept this long. rmcp's minute would keep a minute's traffic.
const KEPT: Duration = Duration::from_secs(10);
/// For the first message of a session.
const OPENING: Duration = Duration::from_secs(10);
/// After this, the stream of a `test_reconnection` call is closed.
const CUT: Duration = Duration::from_millis(100);

/// How much a fixture holds.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Sessions at once; one more is answered 503.
    pub sessions: usize,
    /// A session without a message for so long is closed.
    pub idle: Duration,
}

/// The endpoint with sessions.
#[derive(Clone)]
pub struct Sessions(Arc<Inner>);

struct Inner {
    service: StreamableHttpService<Fixture, LocalSessionManager>,
    manager: Arc<LocalSessionManager>,
    bounds: Bounds,
    /// Sessions that are being opened, and may or may not be among the manager's yet.
    opening: AtomicUsize,
    draining: watch::Sender<bool>,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Sessions")
            .field("bounds", &self.0.bounds)
            .finish_non_exhaustive()
    }
}

/// A place for a session that is being opened.
struct Place<'s>(&'s AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Sessions {
    /// Ready to be put behind the gate.
    pub fn build(app: &Arc<App>, bounds: Bounds) -> Result<Sessions, BuildError> {
        let draining = watch::Sender::new(false);
        let shared = Arc::new(Shared::build(Arc::clone(app), draining.subscribe())?);
        let mut manager = LocalSessionManager::default();
        manager.session_config.keep_alive = Some(bounds.idle);
        manager.session_config.init_timeout = Some(OPENING);
        manager.session_config.completed_cache_ttl = KEPT;
        let manager = Arc::new(manager);
        // Host and Origin are the gate's business, and it was stricter.
        let mut config = StreamableHttpServerConfig::default().disable_allowed_hosts();
        config.sse_keep_alive = Some(app.limits.keep_alive);
        config.json_response = true;
        config.max_request_body_bytes = app.limits.body_bytes;
        let factory = move || Ok(Fixture::of(Arc::clone(&shared)));
        Ok(Sessions(Arc::new(Inner {
            service: StreamableHttpService::new(factory, Arc::clone(&manager), config),
            manager,
            bounds,
            opening: AtomicUsize::new(0),
            draining,
        })))
    }

    /// Open sessions.
    pub async fn count(&self) -> usize {
        self.0.manager.sessions.read().await.len()
    }

    /// A place for one more session. Each caller is counted before it looks, and until its session is among the manager's, so
    /// two cannot take the last place.
    async fn reserve(&self) -> Option<Place<'_>> {
        let opening = self.0.opening.fetch_add(1, Ordering::SeqCst) + 1;
        let place = Place(&self.0.opening);
        (self.count().await + opening <= self.0.bounds.sessions).then_some(place)
    }

    /// Whether a message of the handshake revisions may go on: `initialize` needs room, anything else a session.
    async fn admit(&self, headers: &HeaderMap, opens: bool) -> Result<Option<Place<'_>>, Refused> {
        if opens {
            return self.reserve().await.map(Some).ok_or(Refused::TooMany);
        }
        let mut named = headers.get_all(SESSION).iter();
        let (Some(id), None) = (named.next(), named.next()) else {
            return Err(Refused::NotNamed);
        };
        let sessions = self.0.manager.sessions.read().await;
        if id.to_str().is_ok_and(|id| sessions.contains_key(id)) {
            Ok(None)
        } else {
            Err(Refused::Unknown)
        }
    }

    /// Give a request to rmcp, which wants the media types written out that the gate has already agreed to.
    async fn pass_on(&self, mut request: http::Request<Full<Bytes>>) -> Response<Body> {
        let both = HeaderValue::from_static("application/json, text/event-stream");
        request.headers_mut().insert(ACCEPT, both);
        self.0.service.handle(request).await.map(Body::new)
    }
}

impl Endpoint for Sessions {
    const METHODS: &'static str = "GET, POST, DELETE";

    async fn post(&self, app: &App, admitted: Admitted<'_>) -> Response<Body> {
        let Admitted {
            parts,
            body,
            era,
            message,
        } = admitted;
        let (id, opens) = match &message {
            Message::Request { id, method, .. } => (Some(RenderedId::from_id(id)), method == "initialize"),
            Message::Notification { .. } | Message::Response => (None, false),
        };
        let place = match era {
            // rmcp would open a session for it, whatever its headers say.
            Era::Modern if opens => return no_handshake(id.as_ref()),
            Era::Modern => Ok(None),
            Era::Handshake(_) => self.admit(&parts.headers, opens).await,
        };
        let _place = match place {
            Ok(place) => place,
            Err(refused) => return refused.into_response(&app.metrics, id.as_ref()),
        };
        if let Err(too_many) = admit_call(app, &parts.headers, era, &message) {
            return too_many.into_response();
        }
        let mut request = http::Request::from_parts(parts.clone(), Full::new(body.clone()));
        if let (Era::Modern, Message::Notification { method, .. }) = (era, &message)
            && let Ok(method) = HeaderValue::from_str(method)
        {
            // rmcp asks for it here too; the gate, like the specification, only of requests.
            request.headers_mut().insert(METHOD_HEADER, method);
        }
        let response = self.pass_on(request).await;
        if is_call_of(&message, "test_reconnection") && response.status() == StatusCode::OK {
            return response.map(|body| Body::from_stream(body.into_data_stream().take_until(sleep(CUT))));
        }
        in_our_form(response, &app.metrics, id.as_ref())
    }

    async fn other(&self, app: &App, request: Request) -> Response<Body> {
        match modern::judge_version(request.headers()) {
            // The stateless revision has POST alone.
            Ok(Era::Modern) => return Refusal::Method("POST").into_response(&app.metrics),
            Ok(Era::Handshake(_)) => {}
            Err(refusal) => {
                app.metrics.refused("envelope");
                let body = answer::error(None, refusal.code, &refusal.message, refusal.data.as_ref());
                return json_response(StatusCode::BAD_REQUEST, body);
            }
        }
        let opens_stream = request.method() == Method::GET;
        if opens_stream && !wants_events(request.headers()) {
            let text = "Accept must include text/event-stream";
            return Refusal::NotAcceptable(text).into_response(&app.metrics);
        }
        if let Err(refused) = self.admit(request.headers(), false).await {
            return refused.into_response(&app.metrics, None);
        }
        let response = self.pass_on(request.map(|_| Full::default())).await;
        if !opens_stream || response.status() != StatusCode::OK {
            return in_our_form(response, &app.metrics, None);
        }
        // Such a stream has no end of its own, and would hold up the end of the server.
        let mut draining = self.0.draining.subscribe();
        let drained = Box::pin(async move {
            let _ = draining.wait_for(|draining| *draining).await;
        });
        response.map(|body| Body::from_stream(body.into_data_stream().take_until(drained)))
    }

    fn begin_draining(&self) {
        self.0.draining.send_replace(true);
    }
}

/// Why a message goes no further than here.
#[derive(Debug)]
enum Refused {
    NotNamed,
    Unknown,
    TooMany,
}

impl Refused {
    fn into_response(self, metrics: &Metrics, id: Option<&RenderedId>) -> Response<Body> {
        use StatusCode as S;
        let (status, label, text) = match self {
            Refused::NotNamed => (
                S::BAD_REQUEST,
                "session",
                "one Mcp-Session-Id header is needed: send initialize first",
            ),
            Refused::Unknown => (
                S::NOT_FOUND,
                "unknown_session",
                "no such session: send initialize again",
            ),
            Refused::TooMany => (
                S::SERVICE_UNAVAILABLE,
                "too_many_sessions",
                "too many sessions are open",
            ),
        };
        metrics.refused(label);
        let code = if status.is_server_error() {
            Code::Internal
        } else {
            Code::InvalidRequest
        };
        let mut response = json_response(status, answer::error(id, code, text, None));
        if status == S::SERVICE_UNAVAILABLE {
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

fn no_handshake(id: Option<&RenderedId>) -> Response<Body> {
    let text = "Method not found: initialize";
    json_response(
        StatusCode::NOT_FOUND,
        answer::error(id, Code::MethodNotFound, text, None),
    )
}

/// Whether a call may be run now. rmcp could tell of a limit in the body only, so it is asked here.
fn admit_call(app: &App, headers: &HeaderMap, era: Era, message: &Message<'_>) -> Result<(), TooManyCalls> {
    if let Message::Request { id, method, params } = message
        && ["tools/call", "resources/read"].contains(&method.as_ref())
        && let Step::Call(call) = app.dispatch.request(era, id, method, params)
    {
        app.admit(&call, origin(app, headers))?;
    }
    Ok(())
}

/// Who calls, and in which session.
pub(super) fn origin(app: &App, headers: &HeaderMap) -> Origin {
    let session = headers.get(SESSION).and_then(|session| session.to_str().ok());
    app.origin(headers, session)
}

fn is_call_of(message: &Message<'_>, tool: &str) -> bool {
    match message {
        Message::Request { method, params, .. } => {
            method == "tools/call" && params.get("name").and_then(Json::as_str) == Some(tool)
        }
        Message::Notification { .. } | Message::Response => false,
    }
}

/// rmcp refuses in plain text, and with 415 what it cannot read. Here 415 is about the content type alone, and every refusal
/// is a JSON-RPC error.
fn in_our_form(response: Response<Body>, metrics: &Metrics, id: Option<&RenderedId>) -> Response<Body> {
    let status = response.status();
    let is_json = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if is_json || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    // The session has ended since it was looked for.
    if status == StatusCode::NOT_FOUND {
        return Refused::Unknown.into_response(metrics, id);
    }
    let (status, code, text) = if status.is_server_error() {
        (status, Code::Internal, "internal error")
    } else {
        let text = "the message does not fit its method: see the schema of the revision";
        (StatusCode::BAD_REQUEST, Code::InvalidParams, text)
    };
    json_response(status, answer::error(id, code, text, None))
}
