//! Cross-origin calls of web pages that come without a gateway (Fetch standard, CORS protocol): a preflight is answered here, and
//! every other answer, errors included, may be read by the page if its origin is in ALLOWED_ORIGINS.

use super::refusal::empty_response;
use crate::app::App;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderValue, Method, Response, StatusCode};
use std::sync::Arc;

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, DELETE");
/// What MCP clients, gateways and tracing send. `Mcp-Param-State` mirrors an argument of get_alerts.
const HEADERS: HeaderValue = HeaderValue::from_static(
    "Accept, Authorization, Content-Type, Last-Event-ID, Mcp-Method, Mcp-Name, Mcp-Param-State, \
     Mcp-Protocol-Version, Mcp-Session-Id, Ocp-Apim-Subscription-Key, Traceparent, Tracestate",
);
const EXPOSED: HeaderValue = HeaderValue::from_static("Mcp-Session-Id, Retry-After, WWW-Authenticate");
/// Seconds for which a browser need not ask again.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// The layer; only needed where there are origins to allow.
pub async fn allow_origins(State(app): State<Arc<App>>, request: Request, next: Next) -> Response<Body> {
    let origin = app.guard.allowed_origin(request.headers());
    let is_preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(ORIGIN)
        && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if is_preflight {
        // A browser sends no secret with this question.
        match app.guard.check_names(&request) {
            Ok(()) => preflight(),
            Err(refusal) => refusal.into_response(&app.metrics),
        }
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
    response
}

fn preflight() -> Response<Body> {
    let mut response = empty_response(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    response
}
