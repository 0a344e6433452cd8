//! A stand-in on loopback with a fixed token, and short ways to talk to it.

use mcp_fleet_e2e::apim::{Config, StandIn, Switches};
use reqwest::{Certificate, Client, Method, Response, StatusCode};
use serde_json::{Value, json};

pub const TOKEN: &str = "static-test-token";

/// Service paths of the tests start here.
pub fn service_path() -> String {
    Config::default().service_path()
}

pub fn config() -> Config {
    let switches = Switches {
        async_millis: 30,
        throttle: false,
        ..Switches::default()
    };
    Config {
        static_tokens: vec![TOKEN.into()],
        switches,
        ..Config::default()
    }
}

pub struct Bench {
    pub stand_in: StandIn,
    pub client: Client,
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub fn etag(&self) -> String {
        self.header("etag").unwrap_or_default().to_owned()
    }
}

pub fn client(stand_in: &StandIn) -> Client {
    let ca = Certificate::from_pem(stand_in.ca_pem.as_bytes()).unwrap();
    Client::builder()
        .tls_certs_only([ca])
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

async fn reply(response: Response) -> Reply {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Reply {
        status,
        headers,
        text: response.text().await.unwrap(),
    }
}

impl Bench {
    pub async fn start() -> Self {
        Self::with(config()).await
    }

    pub async fn with(config: Config) -> Self {
        let stand_in = StandIn::start(config).await.unwrap();
        let client = client(&stand_in);
        Self { stand_in, client }
    }

    /// A request below the service; `path` may have a query.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let mark = if path.contains('?') { '&' } else { '?' };
        let url = format!(
            "{}{}{path}{mark}api-version=2024-05-01",
            self.stand_in.arm_url,
            service_path()
        );
        self.client.request(method, url).bearer_auth(TOKEN)
    }

    pub async fn arm(&self, method: &str, path: &str, body: Option<Value>) -> Reply {
        let mut request = self.request(method.parse().unwrap(), path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        reply(request.send().await.unwrap()).await
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Reply {
        reply(request.send().await.unwrap()).await
    }

    pub async fn put(&self, path: &str, properties: Value) -> Reply {
        self.arm("PUT", path, Some(json!({"properties": properties})))
            .await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.arm("GET", path, None).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.arm("DELETE", path, None).await
    }

    /// Follows an operation by its Azure-AsyncOperation URL to the end.
    pub async fn follow(&self, started: &Reply) -> String {
        let url = started
            .header("azure-asyncoperation")
            .expect("a polling URL")
            .to_owned();
        loop {
            let answer = reply(self.client.get(&url).bearer_auth(TOKEN).send().await.unwrap()).await;
            assert_eq!(answer.status, StatusCode::OK.as_u16());
            let status = answer.json()["status"].as_str().unwrap().to_owned();
            if status != "InProgress" {
                return status;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// Backend, API with one POST /mcp and a GET /sse, policy, and a subscription. Returns the subscription's key.
    pub async fn weather(&self, backend_url: &str, inbound: &str, forward: &str) -> String {
        let backend = self
            .put(
                "/backends/weather",
                json!({"url": backend_url, "protocol": "http"}),
            )
            .await;
        assert!(backend.status < 300, "{backend:?}");
        let import = self
            .put("/apis/weather", import_body("Weather", "mcp/weather", &openapi()))
            .await;
        assert!(import.status < 300, "{import:?}");
        assert_eq!(self.follow(&import).await, "Succeeded");
        let policy = policy(inbound, forward);
        let policy = self
            .put(
                "/apis/weather/policies/policy",
                json!({"format": "rawxml", "value": policy}),
            )
            .await;
        assert!(policy.status < 300, "{policy:?}");
        let scope = format!("{}/apis/weather", service_path());
        let made = self
            .put(
                "/subscriptions/probe",
                json!({"displayName": "probe", "scope": scope, "state": "active"}),
            )
            .await;
        assert_eq!(made.status, 201, "{made:?}");
        made.json()["properties"]["primaryKey"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub fn gateway(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client
            .request(method, format!("{}{path}", self.stand_in.gateway_url))
    }
}

pub fn policy(inbound: &str, forward: &str) -> String {
    format!(
        "<policies><inbound><base/><set-backend-service backend-id=\"weather\"/>{inbound}</inbound>\
         <backend>{forward}</backend><outbound><base/></outbound><on-error><base/></on-error></policies>"
    )
}

pub fn openapi() -> Value {
    json!({
        "openapi": "3.0.1",
        "info": {"title": "Weather", "version": "1", "description": "Forecasts"},
        "paths": {
            "/mcp": {
                "post": {"operationId": "mcp-post", "summary": "Call", "description": "Call", "responses": {}},
                "get": {"operationId": "mcp-get", "summary": "Listen", "description": "Listen", "responses": {}}
            },
            "/sse": {"get": {"operationId": "sse-connection", "summary": "SSE", "description": "SSE", "responses": {}}},
            "/messages/{session_id}": {"post": {
                "operationId": "mcp-messages", "summary": "Send", "description": "Send",
                "parameters": [{"name": "session_id", "in": "path", "required": true, "schema": {"type": "string"}}],
                "responses": {}
            }}
        }
    })
}

pub fn import_body(title: &str, path: &str, document: &Value) -> Value {
    json!({
        "displayName": title, "description": "Forecasts", "path": path, "protocols": ["https"],
        "subscriptionRequired": true, "format": "openapi+json", "value": document.to_string(),
    })
}

/// Waits for a condition, for ten seconds at most.
pub async fn wait_until(what: &str, condition: impl AsyncFn() -> bool) {
    for _ in 0..500 {
        if condition().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("not seen within ten seconds: {what}");
}
