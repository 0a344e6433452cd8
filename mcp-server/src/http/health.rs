//! /health says that the process lives, /ready that it wants traffic. Both answer any Host: probes use the pod's address.

use crate::app::App;
use axum::extract::State;
use http::StatusCode;
use std::borrow::Cow;
use std::sync::Arc;

/// Liveness.
pub async fn health() -> &'static str {
    "ok\n"
}

/// Readiness: off from the moment the server is asked to stop, and while the weather service cannot be reached for longer than
/// READY_UPSTREAM_SECONDS, if that is set.
pub async fn ready(State(app): State<Arc<App>>) -> (StatusCode, Cow<'static, str>) {
    if app.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n".into());
    }
    match app.reach.lost_for() {
        None => (StatusCode::OK, "ready\n".into()),
        Some(silence) => {
            let seconds = silence.as_secs();
            let text =
                format!("the weather service has not answered for {seconds} s (READY_UPSTREAM_SECONDS)\n");
            (StatusCode::SERVICE_UNAVAILABLE, text.into())
        }
    }
}
