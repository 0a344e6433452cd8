//! Servers that do not, each with its reason.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::fixture::*;
use crate::mcp::*;

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
    let cases: [Case; 10] = [
        (401, &[], "", Role::Server, "Unauthorized"),
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
        if status == 401 {
            let told = error.to_string().contains("probe.tokenSecretRef");
            assert_eq!(told, role == Role::Server, "{error}");
        }
        if status == 429 {
            assert_eq!(
                error.retry(),
                crate::runtime::backoff::Retry::After(Duration::from_secs(17))
            );
        }
    }
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
