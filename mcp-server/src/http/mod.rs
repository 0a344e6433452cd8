//! What is served on the public port and on the metrics port.

pub mod bodies;
pub mod body;
pub mod cors;
pub mod gateway_secret;
pub mod guard;
pub mod health;
pub mod listen;
pub mod mcp;
pub mod media;
pub mod refusal;

use crate::app::App;
use crate::sse;
use axum::Router;
use axum::extract::State;
use axum::middleware::from_fn_with_state;
use axum::routing::{any, get};
use http::header::CONTENT_TYPE;
use mcp::{Endpoint, Gate};
use std::sync::Arc;

/// Routes of the public port beside /mcp, as they are listed at start.
pub const ROUTES: [&str; 4] = [
    "GET /sse",
    "POST /messages/{session_id}",
    "GET /health",
    "GET /ready",
];

/// Routes of the metrics port. Probes have a way here that a crowd on the public port cannot take from them.
pub const METRICS_ROUTES: [&str; 3] = ["GET /metrics", "GET /health", "GET /ready"];

/// The public port, with `endpoint` behind the gate of /mcp. Handlers check the method themselves, so that every refusal
/// looks alike.
pub fn router<E: Endpoint>(app: Arc<App>, endpoint: E) -> Router {
    let gate = Gate {
        app: Arc::clone(&app),
        endpoint,
    };
    let mut endpoints = Router::new()
        .route("/mcp", any(mcp::mcp::<E>).with_state(gate))
        .route("/sse", any(sse::open::open))
        .route("/messages", any(sse::message::message))
        .route("/messages/", any(sse::message::message))
        .route("/messages/{session_id}", any(sse::message::message));
    if app.guard.allows_origins() {
        endpoints = endpoints.route_layer(from_fn_with_state(Arc::clone(&app), cors::allow_origins));
    }
    endpoints
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        .with_state(app)
}

/// The metrics port.
pub fn metrics_router(app: Arc<App>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        .with_state(app)
}

async fn metrics(State(app): State<Arc<App>>) -> ([(http::HeaderName, &'static str); 1], String) {
    (
        [(
            CONTENT_TYPE,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        )],
        app.metrics.render(),
    )
}
