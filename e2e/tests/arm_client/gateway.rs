//! What an agent meets at the gateway, once a server is registered as the operator does it.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::Request;
use axum::routing::any;
use mcp_fleet_operator::azure::apim::{PlainHttp, ServerRegistration, Sse, Transports, http_client};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::fixture::{Fixture, server};

/// A server that tells what it was asked.
async fn echo() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new().fallback(any(|request: Request| async move {
        let headers: BTreeMap<String, String> = request
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        Json(json!({"method": request.method().as_str(), "path": request.uri().path(), "headers": headers}))
    }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

struct Agent {
    fixture: Fixture,
    http: reqwest::Client,
    key: String,
}

impl Agent {
    async fn of(change: impl FnOnce(&mut ServerRegistration)) -> Self {
        let fixture = Fixture::new().await;
        let mut desired = server("weather");
        desired.backend_url = echo().await.parse().unwrap();
        let key = desired.probe_key.as_ref().unwrap().expose().to_owned();
        change(&mut desired);
        fixture.written(&desired).await;
        let http = http_client(Some(fixture.stand_in.ca_pem.as_bytes()), PlainHttp::Refused).unwrap();
        Self { fixture, http, key }
    }

    async fn call(&self, method: &str, path: &str, key_header: Option<&str>) -> (StatusCode, Value) {
        let url = format!("{}/tools/weather{path}", self.fixture.stand_in.gateway_url);
        let mut request = self.http.request(method.parse().unwrap(), url);
        if let Some(name) = key_header {
            request = request.header(name, &self.key);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        (status, answer.json().await.unwrap_or(Value::Null))
    }
}

const DEFAULT: Option<&str> = Some("Ocp-Apim-Subscription-Key");

#[tokio::test]
async fn the_key_goes_where_the_platform_says_and_ends_at_the_gateway() {
    let agent = Agent::of(|desired| desired.key_header = "X-Api-Key".into()).await;
    let (status, seen) = agent.call("POST", "/mcp", Some("x-api-key")).await;
    assert_eq!(status, 200, "{seen}");
    assert_eq!(seen["path"], "/mcp");
    assert!(!seen.to_string().contains(&agent.key), "{seen}");
    for header in [DEFAULT, None] {
        assert_eq!(agent.call("POST", "/mcp", header).await.0, 401, "{header:?}");
    }
    // And by default where it always was.
    let agent = Agent::of(|_| ()).await;
    let (status, seen) = agent.call("POST", "/mcp", DEFAULT).await;
    assert_eq!(status, 200, "{seen}");
    assert!(!seen.to_string().contains(&agent.key), "{seen}");
}

#[tokio::test]
async fn an_uptime_check_reaches_the_server() {
    let agent = Agent::of(|_| ()).await;
    assert_eq!(agent.call("HEAD", "/mcp", DEFAULT).await.0, 200);
    assert_eq!(agent.call("HEAD", "/mcp", None).await.0, 401);
}

#[tokio::test]
async fn a_client_that_tries_streamable_http_at_the_sse_address_falls_back() {
    let agent = Agent::of(|_| ()).await;
    let (status, _) = agent.call("POST", "/sse", DEFAULT).await;
    assert!(matches!(status.as_u16(), 404 | 405), "{status}");
}

#[tokio::test]
async fn oauth_metadata_is_served_to_those_who_need_no_key() {
    let path = "/.well-known/oauth-protected-resource";
    let agent = Agent::of(|desired| {
        desired.subscription_required = false;
        desired.rate_limit = None;
    })
    .await;
    let (status, seen) = agent.call("GET", path, None).await;
    assert_eq!((status.as_u16(), &seen["path"]), (200, &json!(path)));
    // Where a key is demanded, it is demanded of the whole API.
    let agent = Agent::of(|_| ()).await;
    assert!(agent.call("GET", path, None).await.0.is_client_error());
}

#[tokio::test]
async fn paths_are_used_as_they_are_given() {
    for path in ["/", "/mcp/", "/v1/mcp"] {
        let agent = Agent::of(|desired| {
            desired.transports = Transports {
                streamable_http: Some(path.into()),
                sse: None,
            };
        })
        .await;
        let (status, seen) = agent.call("POST", path, DEFAULT).await;
        assert_eq!((status.as_u16(), &seen["path"]), (200, &json!(path)));
    }
}

#[tokio::test]
async fn transports_may_share_a_path() {
    let agent = Agent::of(|desired| {
        desired.transports = Transports {
            streamable_http: Some("/mcp".into()),
            sse: Some(Sse {
                path: "/mcp".into(),
                messages_path: "/mcp".into(),
            }),
        };
    })
    .await;
    for method in ["GET", "POST", "DELETE"] {
        let (status, seen) = agent.call(method, "/mcp", DEFAULT).await;
        assert_eq!((status.as_u16(), &seen["method"]), (200, &json!(method)));
    }
}
