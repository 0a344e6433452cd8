//! Arguments as attacks, and callers that must not be mixed up.

use crate::fake_nws::{Answer, FakeNws, good};
use crate::harness::{Events, Server, app, call, post, request, send, text};
use axum::body::Body;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tower::ServiceExt as _;

#[tokio::test]
async fn no_argument_makes_an_odd_request() {
    let nws = FakeNws::good().await;
    let (_, router) = app(&nws.url, &[]);
    for state in [
        "CA/../../points/1,1",
        "CA?x=1",
        "CA&x",
        "C%41",
        "CA\r\nX: y",
        "CA#",
        "..",
        "ſd",
        "Kansaſ",
        "\0",
        "",
        "カ",
    ] {
        let result = call(&router, "get_alerts", &json!({"state": state})).await;
        assert_eq!(result["isError"], true, "{state}");
        assert!(text(&result).contains("pass a two-letter code"), "{result}");
    }
    let long = "C".repeat(10_000);
    assert!(text(&call(&router, "get_alerts", &json!({"state": long})).await).len() < 300);
    for arguments in [
        r#"{"latitude":1e309,"longitude":0}"#,
        r#"{"latitude":-1e309,"longitude":0}"#,
        r#"{"latitude":90.0001,"longitude":0}"#,
        r#"{"latitude":"47.6","longitude":0}"#,
        r#"{"latitude":[1],"longitude":0}"#,
        r#"{"latitude":1,"longitude":0,"path":"/x"}"#,
        r#"{"latitude":true,"longitude":0}"#,
    ] {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"get_forecast","arguments":{arguments}}}}}"#
        );
        let (status, answer) = send(&router, &[], &body).await;
        assert_eq!(
            (status, &answer["result"]["isError"]),
            (200, &json!(true)),
            "{arguments}"
        );
    }
    for number in ["NaN", "Infinity", "0x10", "01", "+1"] {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"get_forecast","arguments":{{"latitude":{number},"longitude":0}}}}}}"#
        );
        assert_eq!(send(&router, &[], &body).await.0, 400, "{number} is not JSON");
    }
    assert_eq!(nws.seen(), Vec::<String>::new());
    assert_eq!(
        call(
            &router,
            "get_forecast",
            &json!({"latitude": -0.0, "longitude": 0})
        )
        .await["isError"],
        false
    );
    assert_eq!(nws.seen()[0], "/points/0,0");
}

/// A different alert for each state, so that an answer tells whose it is.
async fn telling() -> FakeNws {
    FakeNws::start(|path, _| match path.strip_prefix("/alerts/active/area/") {
        Some(state) => Answer::ok(
            json!({"features": [{"properties": {"event": format!("Event in {state}")}}]}).to_string(),
        ),
        None => good(path),
    })
    .await
}

const STATES: [&str; 10] = ["AL", "AK", "AZ", "CA", "CO", "FL", "GA", "NY", "OR", "WA"];

#[tokio::test]
async fn two_hundred_callers_with_the_same_id_get_their_own_answers() {
    let nws = telling().await;
    let server = Server::start(&nws.url, &[]).await;
    let http = crate::harness::http();
    let calls = (0..200).map(|at| {
        let state = STATES[at % STATES.len()];
        let body = request(
            7,
            "tools/call",
            &json!({"name": "get_alerts", "arguments": {"state": state}}),
        );
        let request = http
            .post(format!("{}/mcp", server.url))
            .header("accept", "application/json, text/event-stream");
        async move {
            let answer: Value = request.json(&body).send().await.unwrap().json().await.unwrap();
            assert_eq!(answer["id"], 7);
            assert!(
                text(&answer["result"]).starts_with(&format!("Event: Event in {state}\n")),
                "{answer}"
            );
        }
    });
    futures::future::join_all(calls).await;
}

#[tokio::test]
async fn two_hundred_streams_with_the_same_ids_get_their_own_answers() {
    let nws = telling().await;
    let server = Server::start(&nws.url, &[]).await;
    let streams = (0..200).map(|at| {
        let (state, server) = (STATES[at % STATES.len()], &server);
        async move {
            let mut events = server.open().await;
            for id in 1..4 {
                let call = json!({"name": "get_alerts", "arguments": {"state": state}});
                assert_eq!(events.post(&request(id, "tools/call", &call)).await, 202);
                let answer = events.message().await;
                assert_eq!(answer["id"], id);
                assert!(
                    text(&answer["result"]).contains(&format!("Event in {state}")),
                    "{answer}"
                );
            }
        }
    });
    futures::future::join_all(streams).await;
}

#[tokio::test]
async fn a_guessed_id_is_nobodys() {
    let (app, router) = app("http://127.0.0.1:9", &[]);
    let opened = http::Request::get("/sse")
        .header("host", "localhost")
        .body(Body::empty());
    let _stream = router.clone().oneshot(opened.unwrap()).await.unwrap();
    let (_, real) = app.replica.name_stream().unwrap();
    let ping = request(1, "ping", &json!({})).to_string();
    let mut guesses: Vec<String> = (0..1000)
        .map(|_| BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>().repeat(3))[..real.len()].to_owned())
        .collect();
    guesses.extend([
        real.clone(),
        real.to_ascii_lowercase(),
        format!("{real}="),
        real[1..].to_owned(),
        "0".repeat(real.len()),
        "1".to_owned(),
    ]);
    for guess in guesses {
        let message = post(&format!("/messages/{guess}")).body(Body::from(ping.clone()));
        let response = router.clone().oneshot(message.unwrap()).await.unwrap();
        assert_eq!(response.status(), 404, "{guess}");
    }
}

#[tokio::test]
async fn someone_elses_id_gives_no_answers_and_no_stream() {
    let nws = telling().await;
    let server = Server::start(&nws.url, &[]).await;
    let mut owner = server.open().await;
    let mut thief = server.open().await;
    let stolen = owner.id().to_owned();
    // Another GET that names the id opens a stream of its own.
    let opened = Events::open(&format!("{}/sse?session_id={stolen}", server.url)).await;
    assert_ne!(opened.id(), stolen);
    drop(opened);
    let call = json!({"name": "get_alerts", "arguments": {"state": "OR"}});
    let body = request(9, "tools/call", &call).to_string();
    let forged = format!("messages/{stolen}?session_id={}", thief.id());
    let sent = crate::harness::http()
        .post(format!("{}/{forged}", server.url))
        .header("content-type", "application/json")
        .body(body.clone());
    assert_eq!(sent.send().await.unwrap().status(), 400, "two ids");
    let response = owner.post_to(&server.url, body).await;
    assert_eq!(response.status(), 202);
    assert_eq!(
        response.text().await.unwrap(),
        "",
        "the sender of a message reads nothing"
    );
    assert_eq!(
        owner.message().await["id"],
        9,
        "the stream stays with whoever opened it"
    );
    assert_eq!(thief.post(&request(1, "ping", &json!({}))).await, 202);
    assert_eq!(
        thief.message().await["id"],
        1,
        "and nothing of it came to another"
    );
}
