//! /health says that the process lives, /ready that it wants traffic. Both answer any Host: probes use the pod's address.

use crate::app::App;
use axum::extract::State;
use http::StatusCode;
use std::sync::Arc;

/// Liveness.
pub async fn health() -> &'static str {
    "ok\n"
}

/// Readiness: off from the moment the server is asked to stop.
pub async fn ready(State(app): State<Arc<App>>) -> (StatusCode, &'static str) {
    if app.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}
