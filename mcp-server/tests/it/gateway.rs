//! Who is let in: names, origins and the secret of the gateway, on every path and with every method.

use crate::harness::{Server, app, config, request};
use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use mcp_weather::app::App;
use serde_json::json;
use tower::ServiceExt as _;

const UNUSED: &str = "http://127.0.0.1:9";
const SECRET: &str = "the-secret-of-the-gateway";
const PAGE: &str = "https://app.example";

/// Every way to an endpoint of MCP.
const WAYS: [(&str, &str); 12] = [
    ("POST", "/mcp"),
    ("GET", "/mcp"),
    ("DELETE", "/mcp"),
    ("PUT", "/mcp"),
    ("OPTIONS", "/mcp"),
    ("GET", "/sse"),
    ("POST", "/sse"),
    ("POST", "/messages"),
    ("POST", "/messages/"),
    ("POST", "/messages/x"),
    ("GET", "/messages/x"),
    ("DELETE", "/messages/x"),
];

async fn ask(router: &Router, way: (&str, &str), headers: &[(&str, &str)]) -> Response<Body> {
    let mut asked = Request::builder().method(way.0).uri(way.1);
    let usual = [
        ("host", "localhost"),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
    ];
    for (name, value) in usual {
        if !headers.iter().any(|(own, _)| *own == name) {
            asked = asked.header(name, value);
        }
    }
    for (name, value) in headers {
        asked = asked.header(*name, *value);
    }
    let body = request(1, "ping", &json!({})).to_string();
    router
        .clone()
        .oneshot(asked.body(Body::from(body)).unwrap())
        .await
        .unwrap()
}

#[tokio::test]
async fn foreign_names_and_origins_are_refused_everywhere() {
    let hosts = "--allowed-hosts=weather,weather.tools.svc";
    let (_, router) = app(UNUSED, &[hosts, "--allowed-origins=https://app.example"]);
    for way in WAYS {
        for (name, value) in [
            ("host", "evil.com"),
            ("host", "evil.com:8000"),
            ("host", "weather.tools.svc.evil.com"),
            ("origin", "http://evil.com"),
            ("origin", "null"),
            ("origin", "https://app.example.evil.com"),
        ] {
            let response = ask(&router, way, &[(name, value)]).await;
            assert_eq!(response.status(), 403, "{way:?} {name}: {value}");
            assert!(!response.headers().contains_key("access-control-allow-origin"));
        }
        // What a proxy says about names is not believed.
        for name in [
            "x-forwarded-host",
            "x-forwarded-for",
            "forwarded",
            "x-original-host",
        ] {
            let response = ask(&router, way, &[("host", "evil.com"), (name, "localhost")]).await;
            assert_eq!(response.status(), 403, "{way:?} {name}");
        }
        for host in [
            "localhost",
            "weather",
            "weather.tools.svc:8000",
            "10.1.2.3",
            "[::1]:80",
        ] {
            let response = ask(&router, way, &[("host", host)]).await;
            assert_ne!(response.status(), 403, "{way:?} {host}");
        }
    }
    for path in ["/health", "/ready"] {
        let response = ask(
            &router,
            ("GET", path),
            &[("host", "evil.com"), ("origin", "http://evil.com")],
        );
        assert_eq!(response.await.status(), 200, "probes use any name: {path}");
    }
    assert_eq!(ask(&router, ("POST", "/mcp"), &[]).await.status(), 200);
}

#[tokio::test]
async fn metrics_are_read_under_any_name() {
    let server = Server::start(UNUSED, &[]).await;
    let asked = crate::harness::http()
        .get(&server.metrics)
        .header("host", "evil.com")
        .header("origin", "http://evil.com");
    assert_eq!(asked.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn forms_of_other_sites_are_refused_on_both_transports() {
    let server = Server::start(UNUSED, &[]).await;
    let mut events = server.open().await;
    let ping = request(1, "ping", &json!({})).to_string();
    for path in ["mcp", events.reference.as_str()] {
        for kind in [
            None,
            Some("text/plain"),
            Some("text/plain;application/json"),
            Some("application/x-www-form-urlencoded"),
            Some("multipart/form-data; boundary=x"),
        ] {
            let mut asked = crate::harness::http()
                .post(format!("{}/{path}", server.url))
                .header("accept", "application/json, text/event-stream")
                .header("sec-fetch-site", "cross-site")
                .body(ping.clone());
            if let Some(kind) = kind {
                asked = asked.header("content-type", kind);
            }
            assert_eq!(asked.send().await.unwrap().status(), 415, "{path} {kind:?}");
        }
    }
    assert_eq!(events.post(&request(2, "ping", &json!({}))).await, 202);
    assert_eq!(events.message().await["id"], 2, "none of them was delivered");
}

#[tokio::test]
async fn only_the_gateway_gets_through_when_there_is_a_secret() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("current");
    std::fs::write(&file, SECRET).unwrap();
    let flag = format!("--gateway-secret-file={}", file.display());
    let (app, router) = app(UNUSED, &[&flag, "--gateway-secret-header=X-From-Gateway"]);
    for way in WAYS {
        for headers in [
            &[][..],
            &[("x-from-gateway", "")],
            &[("x-from-gateway", "the-secret-of-the-gatewaz")],
            &[("x-gateway-secret", SECRET)],
            &[("authorization", SECRET)],
            &[("x-from-gateway", SECRET), ("x-from-gateway", SECRET)],
            &[("x-replica-mac", "AAAA"), ("x-forwarded-for", "127.0.0.1")],
        ] {
            let response = ask(&router, way, headers).await;
            assert_eq!(response.status(), 401, "{way:?} {headers:?}");
            assert!(response.headers().contains_key("www-authenticate"));
        }
        let response = ask(&router, way, &[("x-from-gateway", SECRET)]).await;
        assert_ne!(response.status(), 401, "{way:?}");
    }
    for path in ["/health", "/ready"] {
        assert_eq!(ask(&router, ("GET", path), &[]).await.status(), 200, "{path}");
    }
    assert_eq!(
        ask(&router, ("GET", "/server-card"), &[]).await.status(),
        404,
        "there is nothing else"
    );
    let right = [("x-from-gateway", SECRET)];
    assert_eq!(ask(&router, ("POST", "/mcp"), &right).await.status(), 200);
    std::fs::write(&file, "another-secret-of-the-gateway").unwrap();
    std::fs::write(directory.path().join("previous"), SECRET).unwrap();
    assert!(app.guard.gateway_secret().unwrap().look().unwrap());
    for secret in [SECRET, "another-secret-of-the-gateway"] {
        let response = ask(&router, ("POST", "/mcp"), &[("x-from-gateway", secret)]).await;
        assert_eq!(response.status(), 200, "both are taken while it is rotated");
    }
}

#[tokio::test]
async fn pages_of_allowed_origins_may_ask_and_read() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("current");
    std::fs::write(&file, SECRET).unwrap();
    let secret = format!("--gateway-secret-file={}", file.display());
    let (_, router) = app(UNUSED, &["--allowed-origins=https://app.example", &secret]);
    for (path, method) in [
        ("/mcp", "POST"),
        ("/sse", "GET"),
        ("/messages/x", "POST"),
        ("/messages", "POST"),
    ] {
        let question = [
            ("origin", PAGE),
            ("access-control-request-method", method),
            ("access-control-request-headers", "content-type"),
        ];
        let response = ask(&router, ("OPTIONS", path), &question).await;
        assert_eq!(response.status(), 204, "{path}");
        let header = |name: &str| {
            let value = response
                .headers()
                .get(name)
                .unwrap_or_else(|| panic!("no {name}"));
            value.to_str().unwrap().to_ascii_lowercase()
        };
        assert_eq!(header("access-control-allow-origin"), PAGE);
        assert_eq!(header("vary"), "origin");
        assert!(header("access-control-allow-methods").contains(&method.to_ascii_lowercase()));
        let allowed = header("access-control-allow-headers");
        for name in [
            "authorization",
            "content-type",
            "last-event-id",
            "mcp-method",
            "mcp-name",
            "mcp-param-state",
            "mcp-protocol-version",
            "mcp-session-id",
            "ocp-apim-subscription-key",
        ] {
            assert!(
                allowed.split(", ").any(|known| known == name),
                "{name} is not in {allowed}"
            );
        }
        assert!(
            !response
                .headers()
                .contains_key("access-control-allow-credentials")
        );

        let foreign = [("origin", "https://evil.com"), question[1]];
        let response = ask(&router, ("OPTIONS", path), &foreign).await;
        assert_eq!(response.status(), 403);
        assert!(!response.headers().contains_key("access-control-allow-origin"));
        let rebound = [("host", "evil.com"), question[0], question[1]];
        assert_eq!(ask(&router, ("OPTIONS", path), &rebound).await.status(), 403);
    }
    for (headers, expected) in [
        (&[("origin", PAGE), ("x-gateway-secret", SECRET)][..], 200),
        (&[("origin", PAGE)], 401),
        (
            &[
                ("origin", PAGE),
                ("x-gateway-secret", SECRET),
                ("content-type", "text/plain"),
            ],
            415,
        ),
    ] {
        let response = ask(&router, ("POST", "/mcp"), headers).await;
        assert_eq!(response.status(), expected);
        assert_eq!(response.headers()["access-control-allow-origin"], PAGE);
        assert_eq!(response.headers()["vary"], "Origin");
        let exposed = response.headers()["access-control-expose-headers"]
            .to_str()
            .unwrap();
        assert!(exposed.contains("Mcp-Session-Id"), "{exposed}");
    }
    let response = ask(&router, ("POST", "/mcp"), &[("x-gateway-secret", SECRET)]).await;
    assert!(!response.headers().contains_key("access-control-allow-origin"));
    assert_eq!(
        response.headers()["vary"],
        "Origin",
        "a cache must not mix them up"
    );
}

#[tokio::test]
async fn headers_of_proxies_change_nothing() {
    let (_, router) = app(UNUSED, &[]);
    let forged = [
        ("x-forwarded-host", "evil.com"),
        ("x-forwarded-prefix", "/evil"),
        ("x-forwarded-proto", "https"),
        ("x-original-url", "/evil"),
        ("forwarded", "host=evil.com"),
        ("mcp-init-host", "evil.com"),
    ];
    let response = ask(&router, ("GET", "/sse"), &forged).await;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    let first = http_body_util::BodyExt::frame(&mut body).await.unwrap().unwrap();
    let first = String::from_utf8(first.into_data().unwrap().to_vec()).unwrap();
    assert!(
        first.starts_with("event: endpoint\ndata: messages/") && !first.contains("evil"),
        "{first}"
    );
}

#[test]
fn the_audit_cannot_be_told_to_write_the_secret_down() {
    for (caller, secret) in [("x-from-gateway", "X-From-Gateway"), ("X-Secret", "x-secret")] {
        let flags = [
            format!("--audit-caller-header={caller}"),
            format!("--gateway-secret-header={secret}"),
        ];
        let refused = App::build(&config(UNUSED, &[&flags[0], &flags[1]]));
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("AUDIT_CALLER_HEADER"), "{error}");
    }
}
