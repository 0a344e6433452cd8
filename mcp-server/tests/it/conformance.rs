//! The conformance server: the gate of the weather server, with sessions behind it.

use crate::fake_nws::FakeNws;
use crate::harness::{self, META, Server, config, http, post, read, request, until};
use crate::process::{command_of, started};
use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use mcp_weather::app::App;
use mcp_weather::conformance::{Bounds, Sessions};
use mcp_weather::http::router;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt as _;

const UNUSED: &str = "http://127.0.0.1:9";
const BOUNDS: Bounds = Bounds {
    sessions: 3,
    idle: Duration::from_mins(1),
};

fn fixture(nws: &str, bounds: Bounds, flags: &[&str]) -> (Sessions, Router) {
    let app = Arc::new(App::build(&config(nws, flags)).unwrap());
    let sessions = Sessions::build(&app, bounds).unwrap();
    (sessions.clone(), router(app, sessions))
}

fn hello() -> Value {
    let able = json!({"sampling": {}, "elicitation": {}});
    let client = json!({"name": "t", "version": "1"});
    request(
        0,
        "initialize",
        &json!({"protocolVersion": "2025-11-25", "capabilities": able, "clientInfo": client}),
    )
}

async fn send(router: &Router, request: http::request::Builder, body: impl Into<Body>) -> Response<Body> {
    let request = request.body(body.into()).unwrap();
    router.clone().oneshot(request).await.unwrap()
}

/// The id of a new session.
async fn open(router: &Router) -> String {
    let response = send(router, post("/mcp"), hello().to_string()).await;
    assert_eq!(response.status(), 200);
    let id = response.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    let answer = answers(response).await.pop().unwrap();
    assert_eq!(answer["result"]["protocolVersion"], "2025-11-25");
    let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let told = send(router, in_session(&id, "POST"), initialized).await;
    assert_eq!(told.status(), 202);
    id
}

fn in_session(id: &str, method: &str) -> http::request::Builder {
    post("/mcp")
        .method(method)
        .header("mcp-protocol-version", "2025-11-25")
        .header("mcp-session-id", id)
}

/// Messages of a body, whether it is a stream or not.
async fn answers(response: Response<Body>) -> Vec<Value> {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let text = std::str::from_utf8(&body).unwrap();
    let data: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .collect();
    let lines = if data.is_empty() { vec![text] } else { data };
    lines
        .into_iter()
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn modern(method: &str, name: &str) -> http::request::Builder {
    let request = post("/mcp")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", method);
    if name.is_empty() {
        request
    } else {
        request.header("mcp-name", name)
    }
}

fn modern_body(method: &str, mut params: Value) -> String {
    if params.get("_meta").is_none() {
        params["_meta"] = serde_json::from_str(META).unwrap();
    }
    request(1, method, &params).to_string()
}

#[tokio::test]
async fn a_session_from_its_beginning_to_its_end() {
    let (sessions, router) = fixture(UNUSED, BOUNDS, &[]);
    let id = open(&router).await;
    assert!(id.bytes().all(|byte| byte.is_ascii_graphic()));
    let list = request(1, "tools/list", &json!({})).to_string();
    let listed = send(&router, in_session(&id, "POST"), list.clone()).await;
    let tools = answers(listed).await.pop().unwrap();
    let names: Vec<&str> = tools["result"]["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"get_alerts") && names.contains(&"test_simple_text"),
        "{names:?}"
    );

    let stream = send(&router, in_session(&id, "GET"), Body::empty()).await;
    assert_eq!(stream.status(), 200);
    assert_eq!(stream.headers()["content-type"], "text/event-stream");

    assert!(
        send(&router, in_session(&id, "DELETE"), Body::empty())
            .await
            .status()
            .is_success()
    );
    assert_eq!(sessions.count().await, 0);
    for method in ["POST", "GET", "DELETE"] {
        let response = send(&router, in_session(&id, method), list.clone()).await;
        let (status, answer) = read(response).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (404, &json!(-32600)),
            "{method}"
        );
    }
}

#[tokio::test]
async fn what_is_refused_for_want_of_a_session() {
    let (_, router) = fixture(UNUSED, BOUNDS, &[]);
    let list = request(1, "tools/list", &json!({})).to_string();
    let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned();
    let id = open(&router).await;
    let twice = || in_session(&id, "POST").header("mcp-session-id", "another");
    let get = |accept| {
        Request::get("/mcp")
            .header("host", "localhost")
            .header("accept", accept)
    };
    for (request, body, expected) in [
        (post("/mcp"), list.clone(), 400),
        (post("/mcp"), initialized, 400),
        (twice(), list.clone(), 400),
        (in_session("0", "POST"), list.clone(), 404),
        (get("text/event-stream"), String::new(), 400),
        (
            get("application/json").header("mcp-session-id", &id),
            String::new(),
            406,
        ),
        (
            get("text/event-stream").header("mcp-protocol-version", "2026-07-28"),
            String::new(),
            405,
        ),
        (
            get("text/event-stream").header("mcp-protocol-version", "1999-01-01"),
            String::new(),
            400,
        ),
        (in_session(&id, "PUT"), String::new(), 405),
    ] {
        let shown = format!("{request:?} {body}");
        let (status, answer) = read(send(&router, request, body).await).await;
        assert_eq!(status, expected, "{shown}: {answer}");
        assert!(answer["error"]["code"].is_i64(), "{shown}: {answer}");
    }
}

#[tokio::test]
async fn parameters_that_do_not_fit_are_told_as_such() {
    let (_, router) = fixture(UNUSED, BOUNDS, &[]);
    let id = open(&router).await;
    let odd = request(1, "tools/call", &json!({"name": 5})).to_string();
    let answered = answers(send(&router, in_session(&id, "POST"), odd).await).await;
    assert_eq!(answered.last().unwrap()["error"]["code"], -32602);
    let other = request(1, "nothing/known", &json!({})).to_string();
    let answered = answers(send(&router, in_session(&id, "POST"), other).await).await;
    assert_eq!(answered.last().unwrap()["error"]["code"], -32601);
    let empty = request(1, "initialize", &json!({})).to_string();
    let (status, answer) = read(send(&router, post("/mcp"), empty).await).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (400, &json!(-32602)),
        "{answer}"
    );
    // What rmcp cannot read at all is refused in our form, not with its 415.
    let huge = r#"{"jsonrpc":"2.0","id":123456789012345678901234567890,"method":"ping"}"#;
    let (status, answer) = read(send(&router, in_session(&id, "POST"), huge).await).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (400, &json!(-32602)),
        "{answer}"
    );
}

/// Requests that the gate refuses, as they are sent to both servers.
fn refused() -> Vec<(http::request::Builder, String, u16, i64)> {
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#.to_owned();
    let typed = |kind: &str, accept: &str| {
        Request::post("/mcp")
            .header("host", "localhost")
            .header("content-type", kind)
            .header("accept", accept)
    };
    let nested = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{{"a":{}1{}}}}}"#,
        "[".repeat(60),
        "]".repeat(60)
    );
    let list = |params| modern_body("tools/list", params);
    let plain = list(json!({}));
    vec![
        (post("/mcp"), "{".into(), 400, -32700),
        (
            post("/mcp"),
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"x"}"#.into(),
            400,
            -32700,
        ),
        (
            post("/mcp"),
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b"}}"#.into(),
            400,
            -32700,
        ),
        (post("/mcp"), nested, 400, -32700),
        (post("/mcp"), format!("[{ping}]"), 400, -32600),
        (
            post("/mcp"),
            r#"{"jsonrpc":"2.0","id":1,"Method":"ping"}"#.into(),
            400,
            -32600,
        ),
        (
            post("/mcp"),
            r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#.into(),
            400,
            -32600,
        ),
        (typed("text/plain", "*/*"), ping.clone(), 415, -32600),
        (
            typed("application/json", "application/json"),
            ping.clone(),
            406,
            -32600,
        ),
        (post("/mcp"), " ".repeat(4001), 413, -32600),
        (
            post("/mcp").header("origin", "http://evil.com"),
            ping.clone(),
            403,
            -32600,
        ),
        (
            Request::post("/mcp").header("host", "evil.com"),
            ping.clone(),
            403,
            -32600,
        ),
        (
            post("/mcp").header("mcp-protocol-version", "1999-01-01"),
            ping,
            400,
            -32022,
        ),
        (modern("tools/call", ""), plain.clone(), 400, -32020),
        (
            modern("tools/list", ""),
            request(1, "tools/list", &json!({})).to_string(),
            400,
            -32602,
        ),
        (
            modern("tools/list", ""),
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.into(),
            400,
            -32600,
        ),
        (
            modern("tools/list", "").header("mcp-method", "tools/list"),
            plain,
            400,
            -32020,
        ),
        (modern("ping", ""), modern_body("ping", json!({})), 404, -32601),
        (
            modern("initialize", ""),
            modern_body(
                "initialize",
                json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}),
            ),
            404,
            -32601,
        ),
    ]
}

#[tokio::test]
async fn the_gate_refuses_the_same_as_at_the_weather_server() {
    let flags = ["--max-body-bytes=4000"];
    let (sessions, with_sessions) = fixture(UNUSED, BOUNDS, &flags);
    let (_, without) = harness::app(UNUSED, &flags);
    for router in [&with_sessions, &without] {
        for (request, body, status, code) in refused() {
            let shown = format!("{request:?} {body}");
            let (got, answer) = read(send(router, request, body).await).await;
            assert_eq!(
                (got, answer["error"]["code"].as_i64()),
                (status, Some(code)),
                "{shown}: {answer}"
            );
        }
    }
    assert_eq!(
        sessions.count().await,
        0,
        "nothing that was refused has opened a session"
    );
}

#[tokio::test]
async fn one_session_too_many() {
    let (sessions, router) = fixture(UNUSED, BOUNDS, &[]);
    let first = open(&router).await;
    let flood = (0..50).map(|_| async { send(&router, post("/mcp"), hello().to_string()).await });
    let mut opened = 1;
    for response in futures::future::join_all(flood).await {
        if response.status() == 200 {
            opened += 1;
        } else {
            assert_eq!(
                (response.status().as_u16(), &response.headers()["retry-after"]),
                (503, &"5".parse().unwrap())
            );
        }
    }
    assert!((2..=BOUNDS.sessions).contains(&opened), "{opened}");
    assert!(sessions.count().await <= BOUNDS.sessions);
    while sessions.count().await < BOUNDS.sessions {
        open(&router).await;
    }
    assert_eq!(
        send(&router, post("/mcp"), hello().to_string()).await.status(),
        503
    );
    send(&router, in_session(&first, "DELETE"), Body::empty()).await;
    open(&router).await;
}

#[tokio::test]
async fn idle_sessions_are_closed_also_those_that_were_never_begun() {
    let bounds = Bounds {
        sessions: 10,
        idle: Duration::from_millis(200),
    };
    let (sessions, router) = fixture(UNUSED, bounds, &[]);
    open(&router).await;
    for _ in 0..5 {
        assert_eq!(
            send(&router, post("/mcp"), hello().to_string()).await.status(),
            200
        );
    }
    assert_eq!(sessions.count().await, 6);
    until("all sessions are closed", async || sessions.count().await == 0).await;
}

/// What the weather server has, by method, name and parameters.
fn of_the_weather_server() -> Vec<(&'static str, &'static str, Value)> {
    let call = |name, arguments: Value| ("tools/call", name, json!({"name": name, "arguments": arguments}));
    let get = |name, arguments: Value| ("prompts/get", name, json!({"name": name, "arguments": arguments}));
    let read = |uri| ("resources/read", uri, json!({"uri": uri}));
    let complete = |kind: Value| {
        let params = json!({"ref": kind, "argument": {"name": "state", "value": "new"}});
        ("completion/complete", "", params)
    };
    vec![
        call("get_alerts", json!({"state": "oregon"})),
        call("get_alerts", json!({"state": "Atlantis"})),
        call("get_forecast", json!({"latitude": 30, "longitude": -85.5})),
        call("get_forecast", json!({"latitude": "30"})),
        call("nothing", json!({})),
        get("weather_briefing", json!({"state": "CA"})),
        get("weather_briefing", json!({})),
        read("weather://alerts/OR"),
        read("weather://alerts/Atlantis"),
        complete(json!({"type": "ref/prompt", "name": "weather_briefing"})),
        complete(json!({"type": "ref/resource", "uri": "weather://alerts/{state}"})),
    ]
}

/// An answer without what may differ: who gave it.
async fn anonymous(response: Response<Body>) -> Value {
    let mut answer = answers(response).await.pop().unwrap();
    if let Some(result) = answer["result"].as_object_mut() {
        result.remove("_meta");
    }
    answer
}

#[tokio::test]
async fn what_the_weather_server_has_is_the_same_through_rmcp() {
    let nws = FakeNws::good().await;
    let (_, through) = fixture(&nws.url, BOUNDS, &[]);
    let (_, direct) = harness::app(&nws.url, &[]);
    let session = open(&through).await;
    for (method, name, params) in of_the_weather_server() {
        let body = request(1, method, &params).to_string();
        let expected = anonymous(send(&direct, post("/mcp"), body.clone()).await).await;
        let got = anonymous(send(&through, in_session(&session, "POST"), body).await).await;
        assert_eq!(got, expected, "in a session: {method} {params}");

        let body = modern_body(method, params.clone());
        let headers = || match params["arguments"]["state"].as_str() {
            Some(state) if method == "tools/call" => modern(method, name).header("mcp-param-state", state),
            _ => modern(method, name),
        };
        let expected = anonymous(send(&direct, headers(), body.clone()).await).await;
        let got = anonymous(send(&through, headers(), body).await).await;
        assert_eq!(got, expected, "in 2026-07-28: {method} {params}");
    }
}

#[tokio::test]
async fn a_tool_asks_in_the_middle_of_a_call() {
    let (_, router) = fixture(UNUSED, BOUNDS, &[]);
    let session = open(&router).await;
    let body = request(
        7,
        "tools/call",
        &json!({"name": "test_sampling", "arguments": {"prompt": "Say hi"}}),
    );
    let mut stream = send(&router, in_session(&session, "POST"), body.to_string())
        .await
        .into_body();
    let mut seen = String::new();
    let asked: Value = loop {
        if let Some(line) = seen.lines().find(|line| line.contains("sampling/createMessage")) {
            break serde_json::from_str(line.strip_prefix("data: ").unwrap()).unwrap();
        }
        let frame = stream.frame().await.expect("the stream ended").unwrap();
        seen.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
    };
    assert_eq!(asked["params"]["messages"][0]["content"]["text"], "Say hi");
    let said = json!({"role": "assistant", "content": {"type": "text", "text": "hi"}, "model": "m"});
    let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": said}).to_string();
    assert_eq!(
        send(&router, in_session("0", "POST"), answer.clone())
            .await
            .status(),
        404
    );
    assert_eq!(
        send(&router, in_session(&session, "POST"), answer).await.status(),
        202
    );
    let rest = answers(Response::new(stream)).await.pop().unwrap();
    assert_eq!(rest["id"], 7);
    assert_eq!(rest["result"]["content"][0]["text"], "LLM response: hi");
}

#[tokio::test]
async fn a_state_that_the_tool_did_not_give_is_refused() {
    let (_, router) = fixture(UNUSED, BOUNDS, &[]);
    let tool = "test_input_required_result_multi_round";
    let ask = async |more: Value| {
        let mut params = json!({"name": tool, "arguments": {}, "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}},
        }});
        for (key, value) in more.as_object().unwrap() {
            params[key] = value.clone();
        }
        let response = send(
            &router,
            modern("tools/call", tool),
            modern_body("tools/call", params),
        )
        .await;
        answers(response).await.pop().unwrap()
    };
    let step = |key: &str, field: &str, state: &Value| json!({"inputResponses": {key: {"action": "accept", "content": {field: "x"}}}, "requestState": state});
    let first = ask(json!({})).await;
    assert_eq!(first["result"]["resultType"], "input_required");
    let state = &first["result"]["requestState"];
    let second = ask(step("step1", "name", state)).await;
    assert!(second["result"]["inputRequests"]["step2"].is_object(), "{second}");
    let forged = json!(format!("{}x", state.as_str().unwrap()));
    assert_eq!(ask(step("step1", "name", &forged)).await["error"]["code"], -32602);
    // The answer to the second round does not fit the state of the first.
    let mixed = ask(step("step2", "color", state)).await;
    assert!(mixed["result"]["inputRequests"]["step1"].is_object(), "{mixed}");
    let last = ask(step("step2", "color", &second["result"]["requestState"])).await;
    assert_eq!(last["result"]["content"][0]["text"], "Both steps: x; x");
}

#[tokio::test]
async fn asked_to_stop_it_ends_the_streams_that_have_no_end() {
    let config = config(UNUSED, &[]);
    let mut server = Server::start_with("127.0.0.1", None, &config, |app| {
        Sessions::build(app, BOUNDS).unwrap()
    })
    .await;
    let url = format!("{}/mcp", server.url);
    let accept = "application/json, text/event-stream";
    let client = http();
    let opened = client
        .post(&url)
        .header("accept", accept)
        .json(&hello())
        .send()
        .await
        .unwrap();
    let id = opened.headers()["mcp-session-id"].clone();
    let events = client
        .get(&url)
        .header("accept", accept)
        .header("mcp-session-id", id);
    let events = events.send().await.unwrap();
    assert_eq!(events.status(), 200);
    let listen = modern_body(
        "subscriptions/listen",
        json!({"notifications": {"toolsListChanged": true}}),
    );
    let listening = client
        .post(&url)
        .header("accept", accept)
        .header("content-type", "application/json")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "subscriptions/listen")
        .body(listen);
    let listening = listening.send().await.unwrap();
    assert_eq!(listening.status(), 200);
    server.ask_to_stop();
    let last = listening.text().await.unwrap();
    assert!(last.contains("subscriptions/acknowledged"), "{last}");
    assert!(
        last.contains(r#""resultType":"complete""#),
        "it ends with its result: {last}"
    );
    events.bytes().await.unwrap();
    assert!(server.stopped().await, "everything was finished in time");
}

#[tokio::test]
async fn the_binary_serves_sessions_and_keeps_their_ids_out_of_its_log() {
    let binary = env!("CARGO_BIN_EXE_mcp-weather-conformance");
    let mut command = command_of(binary, UNUSED);
    command.env("DRAIN_DELAY_SECONDS", "0").env("RUST_LOG", "trace");
    let (child, port) = started(&mut command).await;
    let opened = http()
        .post(format!("http://127.0.0.1:{port}/mcp"))
        .header("accept", "application/json, text/event-stream")
        .json(&hello());
    let opened = opened.send().await.unwrap();
    let id = opened.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    assert!(opened.text().await.unwrap().contains("mcp-weather-conformance"));
    let pid = child.id().to_string();
    assert!(
        std::process::Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    let exit = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let output = exit.await.unwrap();
    let log = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{log}");
    assert!(!log.contains(&id), "a session id is in the log");
    for route in ["GET /mcp", "POST /mcp", "DELETE /mcp"] {
        assert!(log.contains(&format!(r#""route":"{route}""#)), "{log}");
    }
}

#[tokio::test]
async fn every_tool_that_is_listed_is_there() {
    let nws = FakeNws::good().await;
    let (_, router) = fixture(&nws.url, BOUNDS, &[]);
    let listed = send(
        &router,
        modern("tools/list", ""),
        modern_body("tools/list", json!({})),
    );
    let list = answers(listed.await).await.pop().unwrap();
    let tools = list["result"]["tools"].as_array().unwrap();
    assert!(tools.len() > 25, "{list}");
    for tool in tools {
        let name = tool["name"].as_str().unwrap();
        let params = json!({"name": name, "arguments": {"prompt": "x", "message": "x"}, "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}, "sampling": {}, "roots": {}},
        }});
        let request = modern("tools/call", name);
        let request = send(&router, request, modern_body("tools/call", params));
        let answer = answers(request.await).await.pop().unwrap();
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(!message.starts_with("Unknown tool"), "{name}: {answer}");
        assert_ne!(answer["error"]["code"], -32603, "{name}: {answer}");
    }
}

#[tokio::test]
async fn a_tool_that_is_called_too_often_is_told_in_the_status() {
    let nws = FakeNws::good().await;
    let app = Arc::new(App::build(&config(&nws.url, &["--tool-calls-per-minute=1"])).unwrap());
    let sessions = Sessions::build(&app, BOUNDS).unwrap();
    let router = router(Arc::clone(&app), sessions);
    let id = open(&router).await;
    let call = |number: u64, tool: &str| {
        let params = json!({"name": tool, "arguments": {"state": "OR"}});
        send(
            &router,
            in_session(&id, "POST"),
            request(number, "tools/call", &params).to_string(),
        )
    };
    for tool in ["get_alerts", "test_simple_text"] {
        assert_eq!(call(1, tool).await.status(), 200, "{tool}");
        let refused = call(2, tool).await;
        assert_eq!(refused.status(), 429, "{tool}");
        assert!(refused.headers().contains_key("retry-after"));
        let answer = answers(refused).await.pop().unwrap();
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&json!(2), &json!(-32603))
        );
    }
    let metrics = app.metrics.render();
    for tool in ["get_alerts", "other"] {
        let line =
            format!(r#"mcp_weather_tool_calls_total{{tool="{tool}",era="handshake",outcome="limited"}} 1"#);
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }
}
