//! The gateway: routing, keys, policies that really run, streaming.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::routing::any;
use bytes::Bytes;
use futures::StreamExt;
use http::Method;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_stream::wrappers::ReceiverStream;

use crate::support::{Bench, Reply, policy, wait_until};

const STREAMING: &str = r#"<forward-request timeout="5" buffer-response="false"/>"#;

/// A backend that answers with what it received; `/sse` sends a line, waits, and sends another.
async fn backend() -> String {
    async fn echo(request: Request) -> axum::Json<serde_json::Value> {
        let (parts, body) = request.into_parts();
        let headers: Vec<(String, String)> = parts
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()))
            .collect();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        axum::Json(json!({
            "method": parts.method.as_str(),
            "url": parts.uri.to_string(),
            "headers": headers,
            "body": String::from_utf8_lossy(&body),
        }))
    }
    async fn events() -> ([(&'static str, &'static str); 1], Body) {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(4);
        tokio::spawn(async move {
            let _ = sender.send(Ok(Bytes::from_static(b"data: first\n\n"))).await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            let _ = sender.send(Ok(Bytes::from_static(b"data: second\n\n"))).await;
        });
        (
            [("content-type", "text/event-stream")],
            Body::from_stream(ReceiverStream::new(receiver)),
        )
    }
    let router = Router::new()
        .route("/base/sse", any(events))
        .route(
            "/base/slow",
            any(async || tokio::time::sleep(Duration::from_secs(5)).await),
        )
        .fallback(any(echo));
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .unwrap();
    let url = format!("http://{}/base", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

async fn start(inbound: &str, forward: &str) -> (Bench, String) {
    let bench = Bench::start().await;
    let key = bench.weather(&backend().await, inbound, forward).await;
    (bench, key)
}

async fn call(bench: &Bench, key: &str) -> Reply {
    let request = bench
        .gateway(Method::POST, "/mcp/weather/mcp")
        .header("Ocp-Apim-Subscription-Key", key)
        .body("{}");
    bench.send(request).await
}

fn received(reply: &Reply, name: &str) -> Option<String> {
    let headers: Vec<(String, String)> = serde_json::from_value(reply.json()["headers"].clone()).unwrap();
    headers
        .into_iter()
        .find(|(header, _)| header == name)
        .map(|(_, value)| value)
}

#[tokio::test]
async fn requests_reach_the_backend_as_they_came() {
    let (bench, key) = start("", STREAMING).await;
    let request = bench
        .gateway(Method::POST, "/MCP/weather/messages/a-1?session_id=a%20b&x=1")
        .header("Ocp-Apim-Subscription-Key", &key)
        .header("X-Forwarded-For", "192.0.2.1")
        .body("hello");
    let reply = bench.send(request).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.json()["url"], "/base/messages/a-1?session_id=a%20b&x=1");
    assert_eq!(reply.json()["body"], "hello");
    assert_eq!(
        received(&reply, "x-forwarded-for").as_deref(),
        Some("192.0.2.1, 127.0.0.1")
    );
    assert!(received(&reply, "host").unwrap().starts_with("127.0.0.1:"));
    assert_eq!(
        received(&reply, "ocp-apim-subscription-key").as_deref(),
        Some(key.as_str()),
        "policies delete it, not the gateway"
    );
    let seen = bench.stand_in.control.gateway_requests(0).await.unwrap();
    let entry = seen.requests.last().unwrap();
    assert!(entry.key_received && entry.key_forwarded);
    assert_eq!(
        (entry.api.as_deref(), entry.operation.as_deref()),
        (Some("weather"), Some("mcp-messages"))
    );
    assert!(!serde_json::to_string(&seen).unwrap().contains(&key));
}

#[tokio::test]
async fn unknown_paths_and_operations_are_404() {
    let (bench, key) = start("", STREAMING).await;
    for (path, message) in [
        ("/nowhere", "Resource not found"),
        ("/mcp/weatherman/mcp", "Resource not found"),
        (
            "/mcp/weather/other",
            "Unable to match incoming request to an operation.",
        ),
        (
            "/mcp/weather/messages",
            "Unable to match incoming request to an operation.",
        ),
    ] {
        let reply = bench
            .send(
                bench
                    .gateway(Method::POST, path)
                    .header("Ocp-Apim-Subscription-Key", &key),
            )
            .await;
        assert_eq!(
            reply.json(),
            json!({"statusCode": 404, "message": message}),
            "{path}"
        );
    }
    let wrong_method = bench
        .send(bench.gateway(Method::DELETE, "/mcp/weather/mcp"))
        .await;
    assert_eq!(wrong_method.status, 404);
    assert_eq!(
        bench
            .send(bench.gateway(Method::GET, "/status-0123456789abcdef"))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn keys_open_what_their_scope_says() {
    let (bench, probe) = start("", STREAMING).await;
    bench.put("/apis/other", json!({"path": "other"})).await;
    bench
        .put("/products/p", json!({"displayName": "P", "state": "published"}))
        .await;
    bench
        .put("/products/p/apiLinks/l", json!({"apiId": "/apis/weather"}))
        .await;
    let mut keys = Vec::new();
    for (name, scope) in [
        ("all", "/apis"),
        ("other", "/apis/other"),
        ("product", "/products/p"),
    ] {
        let made = bench
            .put(
                &format!("/subscriptions/{name}"),
                json!({"displayName": name, "scope": scope}),
            )
            .await;
        keys.push(
            made.json()["properties"]["primaryKey"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    for (key, status) in [(&probe, 200), (&keys[0], 200), (&keys[1], 401), (&keys[2], 200)] {
        assert_eq!(call(&bench, key).await.status, status);
    }
    let in_query = bench.gateway(
        Method::POST,
        &format!("/mcp/weather/mcp?subscription-key={probe}"),
    );
    assert_eq!(bench.send(in_query).await.status, 200);

    let none = bench.send(bench.gateway(Method::POST, "/mcp/weather/mcp")).await;
    assert_eq!(
        none.json(),
        json!({"statusCode": 401, "message": "Access denied due to missing subscription key. Make sure to include subscription key when making requests to an API."})
    );
    assert!(
        none.header("www-authenticate")
            .unwrap()
            .starts_with("AzureApiManagementKey realm=")
    );
    let wrong = call(&bench, "wrong").await;
    assert_eq!(
        wrong.json(),
        json!({"statusCode": 401, "message": "Access denied due to invalid subscription key. Make sure to provide a valid key for an active subscription."})
    );

    let patch = async |path: &str, properties| {
        let request = bench
            .request(Method::PATCH, path)
            .header("If-Match", "*")
            .json(&json!({"properties": properties}));
        assert_eq!(bench.send(request).await.status, 200);
    };
    patch("/subscriptions/product", json!({"state": "suspended"})).await;
    assert_eq!(call(&bench, &keys[2]).await.status, 401);
    patch("/subscriptions/product", json!({"state": "active"})).await;
    patch("/products/p", json!({"state": "notPublished"})).await;
    assert_eq!(call(&bench, &keys[2]).await.status, 401);
    bench
        .stand_in
        .control
        .set(json!({"unpublishedProductOpens": true}))
        .await
        .unwrap();
    assert_eq!(call(&bench, &keys[2]).await.status, 200);
    patch("/apis/weather", json!({"subscriptionRequired": false})).await;
    assert_eq!(
        bench
            .send(bench.gateway(Method::POST, "/mcp/weather/mcp"))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn policies_change_what_is_forwarded() {
    let inbound = r#"<set-header name="Ocp-Apim-Subscription-Key" exists-action="delete"/>
        <set-query-parameter name="subscription-key" exists-action="delete"/>
        <set-header name="X-Who" exists-action="override"><value>@(context.Subscription?.Id ?? "nobody")</value></set-header>
        <set-header name="X-Twice" exists-action="append"><value>a</value><value>b</value></set-header>
        <set-header name="X-Given" exists-action="skip"><value>ours</value></set-header>
        <set-variable name="v" value="@(context.Request.Method == "POST" ? "posted" : "other")"/>
        <choose><when condition="@((string)context.Variables["v"] == "posted")">
            <set-header name="X-Branch"><value>@((string)context.Variables["v"])</value></set-header>
        </when><otherwise><return-response><set-status code="418" reason="no"/></return-response></otherwise></choose>"#;
    let (bench, key) = start(inbound, STREAMING).await;
    let request = bench
        .gateway(
            Method::POST,
            &format!("/mcp/weather/mcp?a=1&subscription-key={key}&b=2"),
        )
        .header("X-Given", "theirs");
    let reply = bench.send(request).await;
    assert_eq!(reply.json()["url"], "/base/mcp?a=1&b=2");
    assert_eq!(received(&reply, "x-who").as_deref(), Some("probe"));
    assert_eq!(received(&reply, "x-given").as_deref(), Some("theirs"));
    assert_eq!(received(&reply, "x-branch").as_deref(), Some("posted"));
    let with_header = call(&bench, &key).await;
    assert_eq!(received(&with_header, "ocp-apim-subscription-key"), None);
    let seen = bench.stand_in.control.gateway_requests(0).await.unwrap();
    assert!(
        seen.requests
            .iter()
            .all(|entry| entry.key_received && !entry.key_forwarded)
    );
    let get = bench
        .gateway(Method::GET, "/mcp/weather/mcp")
        .header("Ocp-Apim-Subscription-Key", &key);
    assert_eq!(bench.send(get).await.status, 418);
}

#[tokio::test]
async fn a_streaming_policy_streams_and_a_buffering_one_does_not() {
    for (forward, streams) in [
        (STREAMING, true),
        ("<forward-request/>", false),
        (r#"<forward-request buffer-response="true"/>"#, false),
    ] {
        let (bench, key) = start("", forward).await;
        let begin = Instant::now();
        let request = bench
            .gateway(Method::GET, "/mcp/weather/sse")
            .header("Ocp-Apim-Subscription-Key", &key);
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut body = response.bytes_stream();
        let first = body.next().await.unwrap().unwrap();
        let early = begin.elapsed() < Duration::from_secs(2);
        assert_eq!(early, streams, "{forward} {first:?}");
        if streams {
            assert_eq!(&first[..], b"data: first\n\n");
        }
    }
}

#[tokio::test]
async fn rate_limits_count_per_subscription() {
    let (bench, key) = start(
        r#"<rate-limit calls="2" renewal-period="60" remaining-calls-header-name="X-Left"/>"#,
        STREAMING,
    )
    .await;
    let other = bench
        .put(
            "/subscriptions/second",
            json!({"displayName": "S", "scope": "/apis/weather"}),
        )
        .await;
    let other = other.json()["properties"]["primaryKey"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(call(&bench, &key).await.header("x-left"), Some("1"));
    assert_eq!(call(&bench, &key).await.header("x-left"), Some("0"));
    let refused = call(&bench, &key).await;
    assert_eq!(refused.status, 429);
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait));
    assert_eq!(
        refused.json()["message"],
        format!("Rate limit is exceeded. Try again in {wait} seconds.")
    );
    assert_eq!(call(&bench, &other).await.status, 200);

    let by_key =
        r#"<rate-limit-by-key calls="1" renewal-period="60" counter-key="@(context.Request.IpAddress)"/>"#;
    bench
        .put(
            "/apis/weather/policies/policy",
            json!({"format": "rawxml", "value": policy(by_key, STREAMING)}),
        )
        .await;
    assert_eq!(call(&bench, &key).await.status, 200);
    assert_eq!(call(&bench, &other).await.status, 429);
}

#[tokio::test]
async fn cors_answers_preflights_without_a_key() {
    let inbound = r#"<cors allow-credentials="false" terminate-unmatched-request="false">
        <allowed-origins><origin>https://app.example.com</origin></allowed-origins>
        <allowed-methods preflight-result-max-age="300"><method>GET</method><method>POST</method></allowed-methods>
        <allowed-headers><header>*</header></allowed-headers>
        <expose-headers><header>Mcp-Session-Id</header></expose-headers></cors>"#;
    let (bench, key) = start(inbound, STREAMING).await;
    let preflight = |origin: &str, method: &str| {
        bench
            .gateway(Method::OPTIONS, "/mcp/weather/mcp")
            .header("Origin", origin)
            .header("Access-Control-Request-Method", method)
            .header(
                "Access-Control-Request-Headers",
                "content-type, mcp-protocol-version",
            )
    };
    let allowed = bench.send(preflight("https://app.example.com", "POST")).await;
    assert_eq!(allowed.status, 200);
    assert_eq!(
        allowed.header("access-control-allow-origin"),
        Some("https://app.example.com")
    );
    assert_eq!(
        allowed.header("access-control-allow-headers"),
        Some("content-type,mcp-protocol-version")
    );
    assert_eq!(allowed.header("access-control-max-age"), Some("300"));
    for (origin, method) in [
        ("https://evil.example.com", "POST"),
        ("https://app.example.com", "PUT"),
    ] {
        let refused = bench.send(preflight(origin, method)).await;
        assert_eq!(
            (refused.status, refused.header("access-control-allow-origin")),
            (200, None)
        );
    }
    let request = bench
        .gateway(Method::POST, "/mcp/weather/mcp")
        .header("Ocp-Apim-Subscription-Key", &key);
    let simple = bench
        .send(request.header("Origin", "https://app.example.com"))
        .await;
    assert_eq!(
        simple.header("access-control-expose-headers"),
        Some("Mcp-Session-Id")
    );
    let plain = bench
        .send(bench.gateway(Method::OPTIONS, "/mcp/weather/mcp"))
        .await;
    assert_eq!(plain.status, 404, "no operation for OPTIONS");
}

#[tokio::test]
async fn callers_are_checked_by_header_and_address() {
    let check = r#"<check-header name="X-Team" failed-check-httpcode="403" failed-check-error-message="not you" ignore-case="true"><value>Blue</value></check-header>"#;
    let (bench, key) = start(check, STREAMING).await;
    assert_eq!(
        call(&bench, &key).await.json(),
        json!({"statusCode": 403, "message": "not you"})
    );
    let request = bench
        .gateway(Method::POST, "/mcp/weather/mcp")
        .header("Ocp-Apim-Subscription-Key", &key);
    assert_eq!(bench.send(request.header("X-Team", "BLUE")).await.status, 200);
    for (filter, status) in [
        (
            r#"<ip-filter action="allow"><address>127.0.0.1</address></ip-filter>"#,
            200,
        ),
        (
            r#"<ip-filter action="allow"><address-range from="10.0.0.1" to="10.0.0.9"/></ip-filter>"#,
            403,
        ),
        (
            r#"<ip-filter action="forbid"><address-range from="127.0.0.0" to="127.0.0.9"/></ip-filter>"#,
            403,
        ),
    ] {
        let put = bench
            .put(
                "/apis/weather/policies/policy",
                json!({"format": "rawxml", "value": policy(filter, STREAMING)}),
            )
            .await;
        assert_eq!(put.status, 200, "{put:?}");
        assert_eq!(call(&bench, &key).await.status, status, "{filter}");
    }
}

#[tokio::test]
async fn scopes_are_joined_at_base() {
    let (bench, key) = start(
        r#"<set-header name="X-Scope" exists-action="append"><value>api</value></set-header>"#,
        STREAMING,
    )
    .await;
    let with = |section: &str| {
        format!(
            "<policies><inbound>{section}</inbound><backend><base/></backend><outbound><base/></outbound><on-error/></policies>"
        )
    };
    let header = r#"<set-header name="X-Scope" exists-action="append"><value>operation</value></set-header>"#;
    let path = "/apis/weather/operations/mcp-post/policies/policy";
    for (section, expected) in [
        (format!("{header}<base/>"), Some("operation")),
        (format!("<base/>{header}"), Some("api")),
        ("<base/>".to_owned(), Some("api")),
    ] {
        assert!(
            bench
                .put(path, json!({"format": "rawxml", "value": with(&section)}))
                .await
                .status
                < 300
        );
        assert_eq!(
            received(&call(&bench, &key).await, "x-scope").as_deref(),
            expected,
            "{section}"
        );
    }
    assert!(
        bench
            .put(path, json!({"format": "rawxml", "value": with(header)}))
            .await
            .status
            < 300
    );
    assert_eq!(
        call(&bench, &key).await.status,
        500,
        "without base nothing says where to forward to"
    );
}

#[tokio::test]
async fn errors_of_the_gateway_are_loud() {
    let (bench, key) = start("", r#"<forward-request timeout="1" buffer-response="false"/>"#).await;
    bench
        .put(
            "/apis/weather/operations/slow",
            json!({"displayName": "Slow", "method": "GET", "urlTemplate": "/slow"}),
        )
        .await;
    let slow = bench
        .gateway(Method::GET, "/mcp/weather/slow")
        .header("Ocp-Apim-Subscription-Key", &key);
    assert_eq!(bench.send(slow).await.status, 500, "timeout");
    bench
        .put(
            "/backends/weather",
            json!({"url": "http://127.0.0.1:9", "protocol": "http"}),
        )
        .await;
    assert_eq!(call(&bench, &key).await.status, 500, "nothing listens");
    let valid = r#"<cache-lookup vary-by-developer="false" vary-by-developer-groups="false"/>"#;
    let put = bench
        .put(
            "/apis/weather/policies/policy",
            json!({"format": "rawxml", "value": policy(valid, STREAMING)}),
        )
        .await;
    assert_eq!(put.status, 200, "valid, so it is saved");
    let reply = call(&bench, &key).await;
    assert_eq!(
        (reply.status, reply.json()["message"].as_str()),
        (500, Some("The stand-in does not run the policy 'cache-lookup'."))
    );
    bench
        .put(
            "/apis/half",
            json!({"path": "half", "subscriptionRequired": false}),
        )
        .await;
    bench
        .put(
            "/apis/half/operations/o",
            json!({"displayName": "O", "method": "GET", "urlTemplate": "/"}),
        )
        .await;
    assert_eq!(
        bench.send(bench.gateway(Method::GET, "/half")).await.status,
        500,
        "a half-made API never passes"
    );
}

#[tokio::test]
async fn changes_reach_the_gateway_after_its_delay() {
    let (bench, key) = start("", STREAMING).await;
    bench
        .stand_in
        .control
        .set(json!({"gatewayDelayMillis": 1500}))
        .await
        .unwrap();
    bench
        .put(
            "/apis/weather/operations/late",
            json!({"displayName": "Late", "method": "GET", "urlTemplate": "/late"}),
        )
        .await;
    let late = async || {
        let request = bench
            .gateway(Method::GET, "/mcp/weather/late")
            .header("Ocp-Apim-Subscription-Key", &key);
        bench.send(request).await.status
    };
    assert_eq!(late().await, 404);
    wait_until("the gateway knows the operation", async || late().await == 200).await;
}
