//! Resources, prompts and completion: the same in every era and over SSE.

use crate::fake_nws::{Answer, FakeNws};
use crate::harness::{META, Server, app, request, send};
use axum::Router;
use serde_json::{Value, json};

const VERSION: (&str, &str) = ("mcp-protocol-version", "2026-07-28");
const URI: &str = "weather://alerts/New%20York";

/// A call of 2026-07-28 with its headers; `name` is what Mcp-Name repeats.
async fn modern(router: &Router, method: &str, name: Option<&str>, params: Value) -> (u16, Value) {
    let mut params = params;
    params["_meta"] = serde_json::from_str(META).unwrap();
    let mut headers = vec![VERSION, ("mcp-method", method)];
    headers.extend(name.map(|name| ("mcp-name", name)));
    send(router, &headers, &request(1, method, &params).to_string()).await
}

async fn handshake(router: &Router, method: &str, params: &Value) -> (u16, Value) {
    send(router, &[], &request(1, method, params).to_string()).await
}

#[tokio::test]
async fn alerts_are_read_as_a_resource() {
    let nws = FakeNws::good().await;
    let (app, router) = app(&nws.url, &[]);
    let read = json!({"uri": URI});
    let (status, answer) = modern(&router, "resources/read", Some(URI), read.clone()).await;
    assert_eq!(status, 200, "{answer}");
    let result = &answer["result"];
    assert_eq!(
        (&result["contents"][0]["uri"], &result["contents"][0]["mimeType"]),
        (&json!(URI), &json!("text/plain"))
    );
    let text = result["contents"][0]["text"].as_str().unwrap();
    assert!(text.starts_with("Event: Flood Watch\n"), "{text}");
    assert_eq!(
        (&result["ttlMs"], &result["cacheScope"]),
        (&json!(0), &json!("public"))
    );
    assert_eq!(result["resultType"], "complete");

    let (_, answer) = handshake(&router, "resources/read", &read).await;
    assert_eq!(answer["result"], json!({"contents": result["contents"]}));
    assert_eq!(nws.seen(), ["/alerts/active/area/NY"], "the tool's cache is used");
    let metrics = app.metrics.render();
    assert!(
        metrics
            .contains(r#"mcp_weather_tool_calls_total{tool="alerts_resource",era="modern",outcome="ok"} 1"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_resource_that_cannot_be_read_is_an_error() {
    let nws = FakeNws::start(|_, _| Answer::problem(404, b"{}")).await;
    let (app, router) = app(&nws.url, &[]);
    let (status, answer) = modern(&router, "resources/read", Some(URI), json!({"uri": URI})).await;
    assert_eq!((status, &answer["error"]["code"]), (200, &json!(-32603)));
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("Unable to fetch alerts for NY"), "{message}");
    assert!(app.metrics.render().contains(
        r#"mcp_weather_tool_calls_total{tool="alerts_resource",era="modern",outcome="tool_error"} 1"#
    ));
}

#[tokio::test]
async fn what_is_listed_can_be_used() {
    let nws = FakeNws::good().await;
    let (_, router) = app(&nws.url, &[]);
    let (_, templates) = modern(&router, "resources/templates/list", None, json!({})).await;
    let template = templates["result"]["resourceTemplates"][0]["uriTemplate"]
        .as_str()
        .unwrap();
    let typed = |reference: Value| json!({"ref": reference, "argument": {"name": "state", "value": "oreg"}});
    let reference = json!({"type": "ref/resource", "uri": template});
    let (_, completed) = modern(&router, "completion/complete", None, typed(reference)).await;
    let state = completed["result"]["completion"]["values"][0].as_str().unwrap();
    let uri = template.replace("{state}", state);
    let (_, read) = modern(&router, "resources/read", Some(&uri), json!({"uri": uri})).await;
    assert_eq!(read["result"]["contents"][0]["uri"], "weather://alerts/Oregon");

    let (_, prompts) = modern(&router, "prompts/list", None, json!({})).await;
    let name = prompts["result"]["prompts"][0]["name"].as_str().unwrap();
    let (_, completed) = modern(
        &router,
        "completion/complete",
        None,
        typed(json!({"type": "ref/prompt", "name": name})),
    )
    .await;
    let state = &completed["result"]["completion"]["values"][0];
    let get = json!({"name": name, "arguments": {"state": state}});
    let (_, prompt) = modern(&router, "prompts/get", Some(name), get).await;
    let text = prompt["result"]["messages"][0]["content"]["text"]
        .as_str()
        .unwrap();
    assert!(text.contains("get_alerts with state \"OR\""), "{text}");
}

#[tokio::test]
async fn the_same_over_sse() {
    let nws = FakeNws::good().await;
    let server = Server::start(&nws.url, &[]).await;
    let mut events = server.open().await;
    for (method, params, pointer) in [
        ("resources/list", json!({}), "/resources"),
        ("resources/templates/list", json!({}), "/resourceTemplates/0/name"),
        ("resources/read", json!({"uri": URI}), "/contents/0/text"),
        ("prompts/list", json!({}), "/prompts/1/arguments/1/name"),
        (
            "prompts/get",
            json!({"name": "trip_forecast", "arguments": {"latitude": "47.6", "longitude": "-122.3"}}),
            "/messages/0/content/text",
        ),
        (
            "completion/complete",
            json!({"ref": {"type": "ref/prompt", "name": "weather_briefing"}, "argument": {"name": "state", "value": "W"}}),
            "/completion/values/4",
        ),
    ] {
        assert_eq!(events.post(&request(1, method, &params)).await, 202);
        let answer = events.message().await;
        assert!(answer["result"].pointer(pointer).is_some(), "{method}: {answer}");
        assert!(answer["result"].get("ttlMs").is_none(), "{method}: {answer}");
    }
    assert_eq!(
        events
            .post(&request(
                2,
                "resources/read",
                &json!({"uri": "weather://alerts/XX"})
            ))
            .await,
        202
    );
    assert_eq!(events.message().await["error"]["code"], -32002);
}
