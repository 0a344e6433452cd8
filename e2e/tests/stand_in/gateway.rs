//! The gateway: routing, keys, streaming, failures.

use std::time::{Duration, Instant};

use futures::StreamExt;
use http::Method;
use serde_json::json;

use crate::echo::{STREAMING, call, received, start};
use crate::support::{policy, wait_until};

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
