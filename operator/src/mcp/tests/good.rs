//! Servers that work.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::IntoResponse as _;
use axum::routing::post;

use super::fixture::*;
use crate::mcp::*;

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
async fn a_challenge_is_seen_where_it_counts() {
    let respond = || async {
        let challenge =
            r#"Bearer resource_metadata="https://gw.example/.well-known/oauth-protected-resource""#;
        (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)])
    };
    let served = serve(Router::new().fallback(respond)).await;
    let mut target = target(served.base.clone(), Role::Gateway);
    let seen = probe(&target, &streamable(), &LIMITS).await.unwrap();
    let resource_metadata = Some("https://gw.example/.well-known/oauth-protected-resource".to_owned());
    assert_eq!(seen, Seen::Challenge { resource_metadata });
    target.challenge_counts = false;
    let error = probe(&target, &streamable(), &LIMITS).await.unwrap_err();
    assert_eq!(error.reason(), "ChallengeSeen");
}

/// A server behind one static token, which says no more than that (F13).
#[tokio::test]
async fn a_static_token_is_demanded_taken_and_refused() {
    let respond = |headers: HeaderMap, body: Bytes| async move {
        let given = headers
            .get("authorization")
            .map(|value| value.to_str().unwrap().to_owned());
        match given.as_deref() {
            Some("Bearer s3cret") => modern(headers, body).await,
            _ => (StatusCode::UNAUTHORIZED, [("www-authenticate", "Bearer")]).into_response(),
        }
    };
    let served = serve(Router::new().route("/mcp", post(respond))).await;
    for role in [Role::Server, Role::Gateway] {
        let target = target(served.base.clone(), role);
        let seen = probe(&target, &streamable(), &LIMITS).await.unwrap();
        assert_eq!(
            seen,
            Seen::Challenge {
                resource_metadata: None
            }
        );
        let with = |token: &'static str| target.clone().with_token(Some(token.parse().unwrap()));
        let seen = probe(&with("Bearer s3cret"), &streamable(), &LIMITS).await;
        assert_eq!(names(&report(seen)), ["get_alerts", "get_forecast"]);
        let error = probe(&with("Bearer old"), &streamable(), &LIMITS)
            .await
            .unwrap_err();
        assert_eq!(error.reason(), "TokenRefused");
        assert!(error.to_string().contains("probe.tokenSecretRef"), "{error}");
        assert!(!error.to_string().contains("old"), "{error}");
    }
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
