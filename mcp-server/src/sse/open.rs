//! GET /sse: a request goes in, a stream comes out whose first event says where to send messages.

use super::framing;
use super::streams::StreamBody;
use crate::app::App;
use crate::endless::Endless;
use crate::http::media;
use crate::http::refusal::Refusal;
use crate::replica::session_id::Fingerprint;
use axum::body::Body;
use axum::extract::{Request, State};
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response};
use std::sync::Arc;

/// The handler.
pub async fn open(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    match try_open(&app, &request) {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(&app.metrics),
    }
}

fn try_open(app: &Arc<App>, request: &Request) -> Result<Response<Body>, Refusal> {
    app.guard.check(request)?;
    if request.method() != Method::GET {
        return Err(Refusal::Method("GET"));
    }
    if !wants_events(request.headers()) {
        return Err(Refusal::NotAcceptable("Accept must include text/event-stream"));
    }
    let (token, id) = app.replica.name_stream().map_err(|error| {
        tracing::error!(%error, "failed to name a stream");
        Refusal::Internal
    })?;
    // Relative and without a leading slash: right directly, and behind any gateway that puts a path in front of ours.
    let reference = format!("{}messages/{id}?session_id={id}", app.limits.endpoint_prefix);
    let first = framing::event("endpoint", reference.as_bytes());
    let body = app.streams.open(token, first, app.limits.keep_alive)?;
    tracing::debug!(session = %Fingerprint(&id), "stream opened");
    Ok(event_stream(body))
}

/// A response that no proxy should keep or hold back.
pub fn event_stream(body: StreamBody) -> Response<Body> {
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response.extensions_mut().insert(Endless);
    response
}

/// Without an Accept header anything is acceptable (RFC 9110, section 12.5.1).
pub(crate) fn wants_events(headers: &HeaderMap) -> bool {
    !headers.contains_key(ACCEPT) || media::lists(headers, "text/event-stream")
}
