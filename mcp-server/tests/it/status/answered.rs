//! Rows of the table for messages that were read: the rules of each era, answers, limits; and the probes.

use super::{Driver, Table, UNUSED, modern};
use crate::fake_nws::{Answer, FakeNws, good};
use crate::harness::{META, post, request};
use axum::body::Body;
use http::Request;
use serde_json::{Value, json};
use std::time::Duration;

pub(super) async fn mirrored_headers(table: &mut Table, driver: &Driver) {
    let (state, name) = (
        json!({"name": "get_alerts", "arguments": {"state": "CA"}}),
        ("mcp-name", "get_alerts"),
    );
    let mut seen = vec![
        driver.modern("tools/call", state.clone(), &[]).await,
        driver
            .modern(
                "tools/call",
                state.clone(),
                &[("mcp-name", "get_forecast"), ("mcp-param-state", "CA")],
            )
            .await,
        driver.modern("tools/call", state.clone(), &[name]).await,
        driver
            .modern("tools/call", state.clone(), &[name, ("mcp-param-state", "NY")])
            .await,
        driver
            .modern(
                "tools/call",
                state,
                &[name, ("mcp-param-state", "CA"), ("mcp-param-state", "CA")],
            )
            .await,
        driver
            .modern("tools/list", json!({}), &[("mcp-protocol-version", "2025-11-25")])
            .await,
        driver
            .modern("prompts/get", json!({"name": "weather_briefing"}), &[])
            .await,
        driver
            .modern("resources/read", json!({"uri": "weather://alerts/CA"}), &[])
            .await,
    ];
    let no_method = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": serde_json::from_str::<Value>(META).unwrap()}});
    seen.push(
        driver
            .send(
                post("/mcp").header("mcp-protocol-version", "2026-07-28"),
                no_method.to_string(),
            )
            .await,
    );
    table.row("`/mcp`, 2026-07-28", "`MCP-Protocol-Version`, `Mcp-Method`, `Mcp-Name` or `Mcp-Param-State` is missing, repeated or not what the body says", 400, -32020, &seen);
}

pub(super) async fn stateless(table: &mut Table, driver: &Driver) {
    let modern = |method: &str| {
        post("/mcp")
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", method.to_owned())
    };
    let bare = driver
        .send(
            modern("tools/list"),
            request(1, "tools/list", &json!({})).to_string(),
        )
        .await;
    table.row(
        "`/mcp`, 2026-07-28",
        "`_meta` lacks the version or the client's capabilities",
        400,
        -32602,
        &[bare],
    );
    let future = request(
        1,
        "tools/list",
        &json!({"_meta": serde_json::from_str::<Value>(&META.replace("2026-07-28", "2031-01-01")).unwrap()}),
    );
    let seen = [
        driver
            .send(
                post("/mcp")
                    .header("mcp-protocol-version", "2031-01-01")
                    .header("mcp-method", "tools/list"),
                future.to_string(),
            )
            .await,
        driver
            .send(
                post("/mcp").header("mcp-protocol-version", "2024-11-05"),
                request(1, "ping", &json!({})).to_string(),
            )
            .await,
    ];
    table.row(
        "`/mcp`",
        "a revision that is not spoken here (with `supported` in the error's data)",
        400,
        -32022,
        &seen,
    );
    let response = driver
        .send(modern("x"), r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)
        .await;
    table.row("`/mcp`, 2026-07-28", "a response", 400, -32600, &[response]);
    let mut seen = vec![];
    for method in [
        "ping",
        "initialize",
        "logging/setLevel",
        "resources/subscribe",
        "nothing",
    ] {
        seen.push(driver.modern(method, json!({}), &[]).await);
    }
    table.row(
        "`/mcp`, 2026-07-28",
        "an unknown method; `ping`, `initialize` and others of the handshake revisions are",
        404,
        -32601,
        &seen,
    );
    let notification = r#"{"jsonrpc":"2.0","method":"notifications/cancelled"}"#;
    let seen = [
        driver.send(modern("notifications/cancelled"), notification).await,
        driver.send(post("/mcp"), notification).await,
        driver
            .send(post("/mcp"), r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)
            .await,
    ];
    table.row(
        "`/mcp`",
        "a notification, or in the handshake revisions a response",
        202,
        None,
        &seen,
    );
}

pub(super) async fn answered(table: &mut Table, driver: &Driver) {
    let unknown = [
        driver.handshake("nothing", &json!({})).await,
        driver.handshake("server/discover", &json!({})).await,
        driver.handshake("subscriptions/listen", &json!({})).await,
    ];
    table.row("`/mcp`, handshake", "an unknown method", 200, -32601, &unknown);
    let other = json!({"name": "other"});
    let other_uri = json!({"uri": "weather://alerts/XX"});
    let seen = [
        driver.handshake("tools/call", &other).await,
        driver
            .modern("tools/call", other.clone(), &[("mcp-name", "other")])
            .await,
        driver
            .modern("prompts/get", other.clone(), &[("mcp-name", "other")])
            .await,
        driver
            .modern(
                "resources/read",
                other_uri.clone(),
                &[("mcp-name", "weather://alerts/XX")],
            )
            .await,
        driver
            .handshake("prompts/get", &json!({"name": "weather_briefing"}))
            .await,
        driver
            .handshake("completion/complete", &json!({"ref": {"type": "ref/tool"}}))
            .await,
        driver.handshake("tools/list", &json!({"cursor": "2"})).await,
        driver
            .modern("subscriptions/listen", json!({"notifications": []}), &[])
            .await,
    ];
    table.row(
        "`/mcp`",
        "no such tool or prompt; parameters that do not fit; in 2026-07-28 also no such resource",
        200,
        -32602,
        &seen,
    );
    table.row(
        "`/mcp`, handshake",
        "no such resource",
        200,
        -32002,
        &[driver.handshake("resources/read", &other_uri).await],
    );
    let failing = FakeNws::start(|_, _| Answer::problem(404, b"{}")).await;
    let without_weather = Driver::start(&failing.url, &[]).await;
    let uri = json!({"uri": "weather://alerts/CA"});
    let seen = [
        without_weather.handshake("resources/read", &uri).await,
        without_weather
            .modern("resources/read", uri, &[("mcp-name", "weather://alerts/CA")])
            .await,
    ];
    table.row(
        "`/mcp`",
        "a resource that cannot be read, since the weather service fails",
        200,
        -32603,
        &seen,
    );
    let bad = json!({"name": "get_alerts", "arguments": {"state": "Kanada"}});
    let seen = [
        driver.handshake("tools/call", &bad).await,
        without_weather
            .handshake(
                "tools/call",
                &json!({"name": "get_alerts", "arguments": {"state": "CA"}}),
            )
            .await,
        driver.handshake("ping", &json!({})).await,
    ];
    table.row("`/mcp`", "a result; that a tool's arguments do not fit or the weather service fails is one too, with `isError`", 200, None, &seen);
}

pub(super) async fn limits(table: &mut Table, driver: &Driver) {
    let sse = || Request::get("/sse").header("host", "localhost");
    let listen = || modern("subscriptions/listen", json!({"notifications": {}}), &[]);
    let (builder, listening) = listen();
    let seen = [
        driver.send(sse(), Body::empty()).await,
        driver.refused_by_name(builder, listening).await,
    ];
    assert!(
        seen.iter()
            .all(|(_, _, headers)| headers.contains_key("retry-after"))
    );
    table.row(
        "`/sse`, `/mcp`",
        "`MAX_STREAMS` streams and subscriptions are open (with `Retry-After`)",
        503,
        -32603,
        &seen,
    );
    let ending = Driver::start(UNUSED, &[]).await;
    ending.app.streams.end_all(Duration::ZERO).await;
    let (builder, listening) = listen();
    let seen = [
        ending.send(sse(), Body::empty()).await,
        ending.refused_by_name(builder, listening).await,
    ];
    assert!(
        seen.iter()
            .all(|(_, _, headers)| headers.contains_key("retry-after"))
    );
    table.row(
        "`/sse`, `/mcp`",
        "a stream or subscription of a replica that is about to end (with `Retry-After`)",
        503,
        -32603,
        &seen,
    );
    let slow = FakeNws::start(|path, _| good(path).after(Duration::from_hours(1))).await;
    let busy = Driver::start(&slow.url, &[]).await;
    let call = request(
        1,
        "tools/call",
        &json!({"name": "get_alerts", "arguments": {"state": "CA"}}),
    );
    for _ in 0..32 {
        assert_eq!(busy.send(post(&busy.messages()), call.to_string()).await.0, 202);
    }
    let seen = [busy.refused_by_name(post(&busy.messages()), call).await];
    let metrics = busy.app.metrics.render();
    assert!(metrics.contains(r#"reason="busy_session"} 1"#), "{metrics}");
    assert!(seen[0].2.contains_key("retry-after"));
    table.row(
        "`/messages`",
        "32 calls of the session are running (with `Retry-After`)",
        503,
        -32603,
        &seen,
    );
}

pub(super) async fn too_many_calls(table: &mut Table) {
    let nws = FakeNws::good().await;
    let driver = Driver::start(&nws.url, &["--tool-calls-per-minute=1"]).await;
    let params = json!({"name": "get_alerts", "arguments": {"state": "CA"}});
    assert_eq!(driver.handshake("tools/call", &params).await.0, 200);
    let call = request(1, "tools/call", &params).to_string();
    let headers = [("mcp-name", "get_alerts"), ("mcp-param-state", "CA")];
    let mut seen = driver.post_to_both(&call).await;
    seen.push(driver.modern("tools/call", params, &headers).await);
    assert!(
        seen.iter()
            .all(|(_, _, headers)| headers.contains_key("retry-after"))
    );
    table.row(
        "`/mcp`, `/messages`",
        "a tool was called more than `TOOL_CALLS_PER_MINUTE` times in this replica (with `Retry-After`)",
        429,
        -32603,
        &seen,
    );
}

pub(super) async fn probes(table: &mut Table, driver: &Driver) {
    let get = |path: &str| Request::get(path).header("host", "evil.com");
    let seen = [
        driver.send(get("/health"), Body::empty()).await,
        driver.send(get("/ready"), Body::empty()).await,
    ];
    table.row(
        "`/health`, `/ready`",
        "alive, and ready; any `Host`",
        200,
        None,
        &seen,
    );
    driver.app.begin_draining();
    let seen = [driver.send(get("/ready"), Body::empty()).await];
    table.row("`/ready`", "asked to stop", 503, None, &seen);
    let seen = [
        driver.send(get("/nothing"), Body::empty()).await,
        driver.send(get("/mcp/"), Body::empty()).await,
    ];
    table.row("any other path", "", 404, None, &seen);
}
