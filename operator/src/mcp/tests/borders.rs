//! Where the probe goes, and where it does not: paths as they are given, a connection for each request, and no place of
//! a server's choice.

use std::collections::HashSet;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::IntoResponse as _;
use axum::routing::{get, post};

use super::fixture::*;
use crate::mcp::*;

/// Somebody else's address, which counts who comes.
async fn elsewhere() -> (Served, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let served = serve(Router::new().fallback(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async { StatusCode::NO_CONTENT }
    }));
    (served.await, count)
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let (other, count) = elsewhere().await;
    for status in [301, 302, 303, 307, 308] {
        let location = other.base.join("/mcp?token=1").unwrap().to_string();
        let respond = move || {
            let location = location.clone();
            async move {
                (
                    StatusCode::from_u16(status).unwrap(),
                    [(header::LOCATION, location)],
                )
            }
        };
        let served = serve(Router::new().fallback(respond)).await;
        for role in [Role::Server, Role::Gateway] {
            for paths in [streamable(), sse()] {
                let error = probe(&target(served.base.clone(), role), &paths, &LIMITS).await;
                let error = error.unwrap_err();
                assert_eq!(error.reason(), "NotMcp");
                assert!(
                    error.to_string().contains("redirects are not followed"),
                    "{error}"
                );
            }
        }
    }
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn no_endpoint_event_leads_elsewhere() {
    let (other, count) = elsewhere().await;
    let at = other.base.clone();
    let authority = at.authority().to_owned();
    let references = [
        format!("http://{authority}/api/messages/1"),
        format!("//{authority}/api/messages/1"),
        format!("https://{authority}/api/messages/1"),
        format!("http://root:secret@{authority}/api/messages/1"),
        "http://169.254.169.254/metadata".to_owned(),
        "file:///etc/passwd".to_owned(),
        "\\\\elsewhere\\messages".to_owned(),
    ];
    for reference in references {
        let stream = move || {
            let event = format!("event: endpoint\ndata: {reference}\n\n");
            async move {
                let open = futures::stream::once(async { Ok::<_, Infallible>(event) });
                ([("content-type", "text/event-stream")], Body::from_stream(open))
            }
        };
        let served = serve(Router::new().route("/api/sse", get(stream))).await;
        let target = target(served.base.join("/api").unwrap(), Role::Server);
        let error = probe(&target, &sse(), &LIMITS).await.unwrap_err();
        assert_eq!(error.reason(), "SseEndpointOutsidePath", "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_known_address_is_called_by_its_name_and_nobody_is_asked_for_it() {
    let hosts = Arc::new(Mutex::new(HashSet::new()));
    let seen = Arc::clone(&hosts);
    let respond = move |headers: HeaderMap, body: Bytes| {
        let host = headers[header::HOST].to_str().unwrap().to_owned();
        seen.lock().unwrap().insert(host);
        modern(headers, body)
    };
    let served = serve(Router::new().route("/mcp", post(respond))).await;
    let port = served.base.port().unwrap();
    let client = http_client(vec![], Role::Server).unwrap();
    // Nobody can resolve this name.
    let mut target = Target::server(client, "tools", "no-such-service", i32::from(port)).unwrap();
    target.key = subscription_key("k3y");
    let target = target.at(Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    assert_eq!(
        names(&report(probe(&target, &streamable(), &LIMITS).await)).len(),
        2
    );
    let expected = format!("no-such-service.tools.svc:{port}");
    assert_eq!(*hosts.lock().unwrap(), HashSet::from([expected]));
}

#[tokio::test]
async fn every_request_is_a_new_connection() {
    let peers = Arc::new(Mutex::new(HashSet::<SocketAddr>::new()));
    let requests = Arc::new(AtomicUsize::new(0));
    let (seen, counted) = (Arc::clone(&peers), Arc::clone(&requests));
    let respond = move |ConnectInfo(peer): ConnectInfo<SocketAddr>, headers: HeaderMap, body: Bytes| {
        seen.lock().unwrap().insert(peer);
        counted.fetch_add(1, Ordering::SeqCst);
        modern(headers, body)
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let router = Router::new().route("/mcp", post(respond));
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    // Over one client, as the operator has it.
    let target = target(base, Role::Server).with_replicas(2);
    for _ in 0..3 {
        report(probe(&target, &streamable(), &LIMITS).await);
    }
    let requests = requests.load(Ordering::SeqCst);
    assert!(requests >= 6, "{requests} requests");
    assert_eq!(peers.lock().unwrap().len(), requests);
}

#[tokio::test]
async fn paths_are_used_as_they_are_given() {
    let streamable = [
        ("", "/", "/"),
        ("", "/mcp/", "/mcp/"),
        ("/demo/tools/weather", "/", "/demo/tools/weather/"),
        ("/demo/tools/weather/", "/", "/demo/tools/weather/"),
        ("/demo/tools/weather", "/mcp/", "/demo/tools/weather/mcp/"),
        ("/demo/tools/weather", "/a/b", "/demo/tools/weather/a/b"),
    ];
    for (base, path, expected) in streamable {
        let paths = Arc::new(Mutex::new(HashSet::new()));
        let seen = Arc::clone(&paths);
        let respond = move |uri: Uri, headers: HeaderMap, body: Bytes| {
            seen.lock().unwrap().insert(uri.path().to_owned());
            modern(headers, body)
        };
        let served = serve(Router::new().fallback(respond)).await;
        let target = target(served.base.join(base).unwrap(), Role::Gateway);
        let given = Paths {
            streamable_http: Some(path.to_owned()),
            sse: None,
        };
        report(probe(&target, &given, &LIMITS).await);
        assert_eq!(*paths.lock().unwrap(), HashSet::from([expected.to_owned()]));
    }
}

/// A server below `/mcp/` redirects `/mcp`; the message must say where to (F06).
#[tokio::test]
async fn a_missing_slash_is_seen() {
    let router = Router::new().route("/mcp/", post(modern)).route(
        "/mcp",
        post(|| async { (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/mcp/")]).into_response() }),
    );
    let served = serve(router).await;
    let error = probe_server(&served, &streamable()).await.unwrap_err();
    assert!(error.to_string().contains("307 to /mcp/"), "{error}");
    let slash = Paths {
        streamable_http: Some("/mcp/".to_owned()),
        sse: None,
    };
    report(probe_server(&served, &slash).await);
}
