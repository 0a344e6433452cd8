//! POST /mcp: both eras, and every way of being refused.

use crate::fake_nws::FakeNws;
use crate::harness::{META, app, post, read, request, send, text};
use axum::Router;
use axum::body::Body;
use http::Request;
use serde_json::{Value, json};
use tower::ServiceExt as _;

const UNUSED: &str = "http://127.0.0.1:9";

fn modern(method: &'static str) -> [(&'static str, &'static str); 2] {
    [("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)]
}

fn modern_body(method: &str, params: Value) -> String {
    let mut params = params;
    params["_meta"] = serde_json::from_str(META).unwrap();
    request(1, method, &params).to_string()
}

async fn status(router: &Router, request: Request<Body>) -> (u16, Value) {
    read(router.clone().oneshot(request).await.unwrap()).await
}

#[tokio::test]
async fn the_stateless_revision() {
    let nws = FakeNws::good().await;
    let (_, router) = app(&nws.url, &[]);
    let (status, answer) = send(
        &router,
        &modern("server/discover"),
        &modern_body("server/discover", json!({})),
    )
    .await;
    assert_eq!(status, 200, "{answer}");
    let result = &answer["result"];
    assert_eq!(result["supportedVersions"][0], "2026-07-28");
    assert_eq!(result["resultType"], "complete");
    assert_eq!(
        result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"],
        "mcp-weather"
    );
    assert!(result["ttlMs"].is_u64() && result["cacheScope"] == "public");

    let (_, answer) = send(
        &router,
        &modern("tools/list"),
        &modern_body("tools/list", json!({})),
    )
    .await;
    assert_eq!(answer["result"]["tools"].as_array().unwrap().len(), 2);

    let body = modern_body(
        "tools/call",
        json!({"name": "get_alerts", "arguments": {"state": "oregon"}}),
    );
    let headers = [
        modern("tools/call").as_slice(),
        &[("mcp-name", "get_alerts"), ("mcp-param-state", "oregon")],
    ]
    .concat();
    let (status, answer) = send(&router, &headers, &body).await;
    assert_eq!(status, 200);
    assert_eq!(answer["result"]["resultType"], "complete");
    assert!(
        text(&answer["result"]).starts_with("Event: Flood Watch\n"),
        "{answer}"
    );
    assert_eq!(
        answer["result"]["structuredContent"]["alerts"][0]["severity"],
        "Severe"
    );
}

#[tokio::test]
async fn the_handshake_revisions_without_a_session() {
    let nws = FakeNws::good().await;
    let (_, router) = app(&nws.url, &[]);
    for version in ["2025-11-25", "2025-06-18", "2025-03-26"] {
        let hello = json!({"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        let request = post("/mcp")
            .body(Body::from(request(1, "initialize", &hello).to_string()))
            .unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        assert!(response.headers().get("mcp-session-id").is_none());
        assert_eq!(response.headers()["content-type"], "application/json");
        let (status, answer) = read(response).await;
        assert_eq!(
            (status, &answer["result"]["protocolVersion"]),
            (200, &json!(version))
        );
        let header = [("mcp-protocol-version", version)];
        let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        assert_eq!(send(&router, &header, initialized).await, (202, Value::Null));
        let body = crate::harness::request(
            2,
            "tools/call",
            &json!({"name": "get_forecast", "arguments": {"latitude": 30, "longitude": -85}}),
        );
        let (_, answer) = send(&router, &header, &body.to_string()).await;
        assert!(
            text(&answer["result"]).starts_with("Tonight:\nTemperature: 16°F\n"),
            "{answer}"
        );
        assert!(answer["result"].get("resultType").is_none());
    }
    let (status, answer) = send(&router, &[], r#"{"jsonrpc":"2.0","id":"x","method":"ping"}"#).await;
    assert_eq!(
        (status, answer),
        (200, json!({"jsonrpc": "2.0", "id": "x", "result": {}}))
    );
    assert_eq!(
        send(&router, &[], r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)
            .await
            .0,
        202
    );
}

#[tokio::test]
async fn refusals_of_the_body() {
    let (_, router) = app(UNUSED, &["--max-body-bytes=2000"]);
    let deep = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"a":{}{}}}}}"#,
        "[".repeat(60),
        "]".repeat(60)
    );
    for (body, code) in [
        ("", -32700),
        ("{", -32700),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/list"}"#,
            -32700,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_alerts","arguments":{"state":"CA","state":"NY"}}}"#,
            -32700,
        ),
        (&deep, -32700),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"Method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, -32600),
        (r#""ping""#, -32600),
    ] {
        let (status, answer) = send(&router, &[], body).await;
        assert_eq!(
            (status, answer["error"]["code"].as_i64()),
            (400, Some(code)),
            "{body}"
        );
        assert!(answer.get("id").is_none());
    }
    assert_eq!(send(&router, &[], &" ".repeat(2001)).await.0, 413);
    let streamed = Body::from_stream(futures::stream::repeat_with(|| Ok::<_, std::io::Error>("    ")));
    assert_eq!(
        status(&router, post("/mcp").body(streamed).unwrap()).await.0,
        413,
        "without a length"
    );
    let declared = post("/mcp")
        .header("content-length", "104857600")
        .body(Body::empty())
        .unwrap();
    assert_eq!(status(&router, declared).await.0, 413);
}

#[tokio::test]
async fn refusals_of_the_headers() {
    let (app, router) = app(UNUSED, &[]);
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let base = || Request::post("/mcp").header("host", "localhost");
    let both = "application/json, text/event-stream";
    for (request, expected) in [
        (base().header("accept", both), 415),
        (
            base().header("accept", both).header("content-type", "text/plain"),
            415,
        ),
        (
            base()
                .header("accept", both)
                .header("content-type", "application/x-www-form-urlencoded"),
            415,
        ),
        (base().header("content-type", "application/json"), 406),
        (
            base()
                .header("content-type", "application/json")
                .header("accept", "application/json"),
            406,
        ),
        (
            base()
                .header("content-type", "application/json")
                .header("accept", "text/event-stream"),
            406,
        ),
        (
            base()
                .header("content-type", "application/json; charset=utf-8")
                .header("accept", "*/*"),
            200,
        ),
        (
            base()
                .header("origin", "http://evil.com")
                .header("content-type", "application/json")
                .header("accept", both),
            403,
        ),
    ] {
        let (status, answer) = status(&router, request.body(Body::from(ping)).unwrap()).await;
        assert_eq!(status, expected, "{answer}");
        assert_eq!(answer.get("error").is_some(), expected != 200);
    }
    for path in ["/mcp", "/sse", "/messages/x"] {
        let request = Request::post(path)
            .header("host", "evil.com")
            .header("content-type", "application/json");
        let (status, _) = status(
            &router,
            request.header("accept", both).body(Body::from(ping)).unwrap(),
        )
        .await;
        assert_eq!(status, 403, "{path}");
    }
    for path in ["/health", "/ready"] {
        let request = Request::get(path)
            .header("host", "evil.com")
            .body(Body::empty())
            .unwrap();
        assert_eq!(status(&router, request).await.0, 200, "{path}");
    }
    let rendered = app.metrics.render();
    assert!(
        rendered.contains(r#"mcp_weather_refused_requests_total{reason="host"} 3"#),
        "{rendered}"
    );
}

#[tokio::test]
async fn each_path_has_one_method() {
    let (_, router) = app(UNUSED, &[]);
    for (method, path, allowed) in [
        ("GET", "/mcp", "POST"),
        ("DELETE", "/mcp", "POST"),
        ("PUT", "/mcp", "POST"),
        ("OPTIONS", "/mcp", "POST"),
        ("POST", "/sse", "GET"),
        ("HEAD", "/sse", "GET"),
        ("GET", "/messages/x", "POST"),
        ("DELETE", "/messages/x", "POST"),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .body(Body::empty())
            .unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 405, "{method} {path}");
        assert_eq!(response.headers()["allow"], allowed);
    }
    let request = Request::get("/nothing")
        .header("host", "localhost")
        .body(Body::empty())
        .unwrap();
    assert_eq!(router.oneshot(request).await.unwrap().status(), 404);
}

#[tokio::test]
async fn errors_of_the_stateless_revision_have_their_status() {
    let (_, router) = app(UNUSED, &[]);
    let list = modern("tools/list");
    for (headers, body, expected, code) in [
        (&list[..], modern_body("ping", json!({})), 400, -32020),
        (&list[..1], modern_body("tools/list", json!({})), 400, -32020),
        (
            &list[..],
            request(1, "tools/list", &json!({})).to_string(),
            400,
            -32602,
        ),
        (&modern("ping"), modern_body("ping", json!({})), 404, -32601),
        (
            &modern("initialize"),
            modern_body("initialize", json!({"protocolVersion": "2025-11-25"})),
            404,
            -32601,
        ),
        (
            &modern("logging/setLevel"),
            modern_body("logging/setLevel", json!({"level": "info"})),
            404,
            -32601,
        ),
        (
            &modern("subscriptions/listen"),
            modern_body("subscriptions/listen", json!({})),
            200,
            -32602,
        ),
        (
            &modern("prompts/get"),
            modern_body("prompts/get", json!({"name": "weather_briefing"})),
            400,
            -32020,
        ),
        (
            &modern("resources/read"),
            modern_body("resources/read", json!({"uri": "weather://alerts/CA"})),
            400,
            -32020,
        ),
    ] {
        let (status, answer) = send(&router, headers, &body).await;
        assert_eq!(
            (status, answer["error"]["code"].as_i64()),
            (expected, Some(code)),
            "{answer}"
        );
        assert_eq!(answer["id"], 1);
    }
    let body = modern_body("tools/list", json!({})).replace("2026-07-28", "2031-01-01");
    let headers = [
        ("mcp-protocol-version", "2031-01-01"),
        ("mcp-method", "tools/list"),
    ];
    let (status, answer) = send(&router, &headers, &body).await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!(-32022)));
    assert_eq!(answer["error"]["data"]["requested"], "2031-01-01");
    assert!(
        answer["error"]["data"]["supported"]
            .as_array()
            .unwrap()
            .contains(&json!("2026-07-28"))
    );
    let response = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    assert_eq!(
        send(&router, &list[..1], response).await.0,
        400,
        "no responses in this revision"
    );
}

#[tokio::test]
async fn unknown_methods_and_tools_in_the_handshake_era() {
    let (app, router) = app(UNUSED, &[]);
    let (status, answer) = send(
        &router,
        &[],
        &request(1, "logging/setLevel", &json!({"level": "info"})).to_string(),
    )
    .await;
    assert_eq!((status, &answer["error"]["code"]), (200, &json!(-32601)));
    let (status, answer) = send(
        &router,
        &[],
        &request(1, "tools/call", &json!({"name": "get-alerts"})).to_string(),
    )
    .await;
    assert_eq!((status, &answer["error"]["code"]), (200, &json!(-32602)));
    assert!(
        app.metrics
            .render()
            .contains(r#"mcp_weather_tool_calls_total{tool="other",era="handshake",outcome="refused"} 1"#)
    );
}
