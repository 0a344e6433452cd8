//! The operator's own endpoints: /metrics, /healthz, /readyz. In: metrics and what is still awaited; out: a router.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::runtime::metrics::Metrics;

/// What the process still waits for before it is ready. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    awaited: Arc<Mutex<BTreeSet<String>>>,
}

impl Readiness {
    pub fn await_(&self, what: &str) {
        self.lock().insert(what.to_owned());
    }

    pub fn arrived(&self, what: &str) {
        self.lock().remove(what);
    }

    /// What is awaited, sorted; empty when ready.
    pub fn awaited(&self) -> Vec<String> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Brings gauges up to date that are counted when somebody asks.
pub type Refresh = Arc<dyn Fn(&Metrics) + Send + Sync>;

#[derive(Clone)]
struct Endpoints {
    metrics: Metrics,
    readiness: Readiness,
    refresh: Refresh,
}

/// The router.
pub fn router(metrics: Metrics, readiness: Readiness, refresh: Refresh) -> Router {
    Router::new()
        .route("/metrics", get(page))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(Endpoints {
            metrics,
            readiness,
            refresh,
        })
}

async fn page(State(endpoints): State<Endpoints>) -> impl IntoResponse {
    (endpoints.refresh)(&endpoints.metrics);
    match endpoints.metrics.encode() {
        Ok(page) => {
            let form = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, [(header::CONTENT_TYPE, form)], page)
        }
        Err(error) => {
            tracing::error!(%error, "failed to encode the metrics");
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                [(header::CONTENT_TYPE, "text/plain")],
                String::new(),
            )
        }
    }
}

async fn ready(State(endpoints): State<Endpoints>) -> (StatusCode, String) {
    let awaited = endpoints.readiness.awaited();
    if awaited.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    (
        StatusCode::SERVICE_UNAVAILABLE,
        format!("waiting for {}\n", awaited.join(", ")),
    )
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(router: &Router, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_names_what_is_awaited() {
        let readiness = Readiness::default();
        readiness.await_("McpServer");
        let router = router(
            Metrics::default(),
            readiness.clone(),
            Arc::new(|metrics| metrics.set_in_backoff("x", 7)),
        );
        assert_eq!(
            ask(&router, "/readyz").await,
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "waiting for McpServer\n".to_owned()
            )
        );
        readiness.arrived("McpServer");
        assert_eq!(ask(&router, "/readyz").await.0, StatusCode::OK);
        assert_eq!(ask(&router, "/healthz").await.0, StatusCode::OK);
        assert!(
            ask(&router, "/metrics")
                .await
                .1
                .contains(r#"objects_in_backoff{kind="x"} 7"#)
        );
    }
}
