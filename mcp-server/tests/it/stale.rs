//! The weather service goes away, and what it said last is served, marked, within bounds.

use crate::fake_nws::{Answer, FakeNws, good};
use crate::harness::{app, call, request, send, text, until_within};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Answers well, but not to be kept, until it is broken.
async fn breakable(
    broken: Answer,
    fine: impl Fn(&str) -> Answer + Send + Sync + 'static,
) -> (FakeNws, Arc<AtomicBool>) {
    let is_broken = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&is_broken);
    let nws = FakeNws::start(move |path, _| {
        if switch.load(Ordering::Acquire) {
            broken.clone()
        } else {
            fine(path)
        }
    });
    (nws.await, is_broken)
}

fn short_lived(path: &str) -> Answer {
    good(path).header("cache-control", "max-age=0")
}

fn down() -> Answer {
    Answer::problem(503, b"").header("retry-after", "60")
}

fn oregon() -> Value {
    json!({"state": "OR"})
}

#[tokio::test]
async fn alerts_are_served_stale_and_the_service_left_alone() {
    let (nws, broken) = breakable(down(), short_lived).await;
    let (app, router) = app(&nws.url, &[]);
    let fresh = call(&router, "get_alerts", &oregon()).await;
    assert_eq!(fresh["structuredContent"]["stale"], false);
    let as_of = &fresh["structuredContent"]["asOf"];
    assert!(as_of.as_str().unwrap().ends_with('Z'), "{as_of}");
    broken.store(true, Ordering::Release);
    let mut stale = Value::Null;
    until_within(Duration::from_secs(20), "the answer is stale", async || {
        stale = call(&router, "get_alerts", &oregon()).await;
        stale["structuredContent"]["stale"] == true
    })
    .await;
    assert_eq!(stale["isError"], false);
    assert_eq!(
        &stale["structuredContent"]["asOf"], as_of,
        "its age is that of the data"
    );
    assert_eq!(
        stale["structuredContent"]["alerts"],
        fresh["structuredContent"]["alerts"]
    );
    let shown = text(&stale);
    assert!(
        shown.starts_with("STALE: the National Weather Service cannot be asked at the moment.")
            && shown.contains("1 minute ago (asOf ")
            && shown.contains("Alerts issued since then are missing")
            && shown.ends_with(text(&fresh)),
        "{shown}"
    );
    let asked = nws.seen().len();
    for _ in 0..100 {
        assert_eq!(
            call(&router, "get_alerts", &oregon()).await["structuredContent"]["stale"],
            true
        );
    }
    assert_eq!(nws.seen().len(), asked, "a service that is down is not hammered");
    let metrics = app.metrics.render();
    for line in [
        r#"mcp_weather_cache_lookups_total{tool="get_alerts",found="stale"} 101"#,
        r#"mcp_weather_cache_lookups_total{tool="get_alerts",found="miss"} 1"#,
        r#"outcome="server_error"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[tokio::test]
async fn answers_have_what_their_schemas_promise() {
    let nws = FakeNws::good().await;
    let (_, router) = app(&nws.url, &[]);
    let list = request(1, "tools/list", &json!({})).to_string();
    let (_, list) = send(&router, &[], &list).await;
    let place = json!({"latitude": 30, "longitude": -85});
    for (at, name, arguments) in [(0, "get_alerts", oregon()), (1, "get_forecast", place)] {
        let tool = &list["result"]["tools"][at];
        assert_eq!(tool["name"], name);
        let result = call(&router, name, &arguments).await;
        let answer = result["structuredContent"].as_object().unwrap();
        let schema = &tool["outputSchema"];
        for required in schema["required"].as_array().unwrap() {
            assert!(
                answer.contains_key(required.as_str().unwrap()),
                "{name}: no {required}"
            );
        }
        for key in answer.keys() {
            assert!(
                schema["properties"][key].is_object(),
                "{name}: {key} is not in the schema"
            );
        }
    }
}

#[tokio::test]
async fn a_stale_no_alerts_is_no_all_clear() {
    let none = |_: &str| Answer::ok(r#"{"features":[]}"#).header("cache-control", "max-age=0");
    let (nws, broken) = breakable(Answer::problem(429, b"{}"), none).await;
    let (_, router) = app(&nws.url, &[]);
    let fresh = call(&router, "get_alerts", &oregon()).await;
    assert_eq!(text(&fresh), "No active alerts for this state.");
    broken.store(true, Ordering::Release);
    until_within(Duration::from_secs(20), "the answer is stale", async || {
        let stale = call(&router, "get_alerts", &oregon()).await;
        let shown = text(&stale);
        shown.starts_with("STALE: ")
            && shown.contains("do not take this as an all-clear")
            && !shown.contains("No active alerts for this state.")
            && stale["structuredContent"]["stale"] == true
    })
    .await;
}

#[tokio::test]
async fn alerts_older_than_ten_minutes_are_not_served() {
    let old = |path: &str| good(path).header("age", "599");
    let (nws, broken) = breakable(down(), old).await;
    let (_, router) = app(&nws.url, &[]);
    assert_eq!(call(&router, "get_alerts", &oregon()).await["isError"], false);
    broken.store(true, Ordering::Release);
    until_within(Duration::from_secs(20), "there is no answer", async || {
        let result = call(&router, "get_alerts", &oregon()).await;
        result["isError"] == true && text(&result).contains("answered 503")
    })
    .await;
}

#[tokio::test]
async fn a_forecast_is_served_stale() {
    let (nws, broken) = breakable(down(), short_lived).await;
    let (_, router) = app(&nws.url, &[]);
    let (here, near) = (
        json!({"latitude": 30, "longitude": -85}),
        json!({"latitude": 30.01, "longitude": -85}),
    );
    let fresh = call(&router, "get_forecast", &here).await;
    assert_eq!(fresh["structuredContent"]["stale"], false);
    assert_eq!(call(&router, "get_forecast", &near).await["isError"], false);
    broken.store(true, Ordering::Release);
    for place in [&here, &near] {
        until_within(Duration::from_secs(30), "the forecast is stale", async || {
            let stale = call(&router, "get_forecast", place).await;
            stale["structuredContent"]["stale"] == true
                && stale["structuredContent"]["asOf"] == fresh["structuredContent"]["asOf"]
                && text(&stale).starts_with("STALE: ")
        })
        .await;
    }
}

#[tokio::test]
async fn what_does_not_pass_is_not_covered_up() {
    let gone = Answer::problem(404, include_bytes!("../fixtures/problem_InvalidPoint_404.json"));
    let (nws, broken) = breakable(gone, short_lived).await;
    let (_, router) = app(&nws.url, &[]);
    assert_eq!(call(&router, "get_alerts", &oregon()).await["isError"], false);
    broken.store(true, Ordering::Release);
    until_within(Duration::from_secs(20), "the error is shown", async || {
        let result = call(&router, "get_alerts", &oregon()).await;
        result["isError"] == true && text(&result).contains("404")
    })
    .await;
}

#[tokio::test]
async fn over_the_budget_there_is_a_stale_answer_or_a_time_to_come_back() {
    let nws = FakeNws::start(|path, _| short_lived(path)).await;
    let (app, router) = app(&nws.url, &["--nws-requests-per-minute=3"]);
    for state in ["OR", "WA", "CA"] {
        let result = call(&router, "get_alerts", &json!({"state": state})).await;
        assert_eq!(result["isError"], false, "{result}");
    }
    let refused = call(&router, "get_alerts", &json!({"state": "NY"})).await;
    assert_eq!(refused["isError"], true);
    let told = text(&refused);
    assert!(
        told.starts_with("Unable to fetch alerts for NY: as many requests as are allowed")
            && told.contains("Try again in "),
        "{told}"
    );
    let seconds: u64 = told
        .rsplit_once("Try again in ")
        .and_then(|(_, rest)| rest.strip_suffix(" seconds.")?.parse().ok())
        .unwrap();
    assert!((1..=20).contains(&seconds), "{told}");
    assert_eq!(nws.seen().len(), 3);
    until_within(Duration::from_secs(20), "the answer is stale", async || {
        let result = call(&router, "get_alerts", &oregon()).await;
        result["structuredContent"]["stale"] == true
    })
    .await;
    assert!(
        app.metrics
            .render()
            .contains(r#"endpoint="alerts",outcome="over_budget"}"#)
    );
}

#[tokio::test]
async fn a_service_that_throttles_us_is_left_alone() {
    let nws = FakeNws::start(|_, _| Answer::problem(429, b"{}").header("retry-after", "30")).await;
    let (_, router) = app(&nws.url, &[]);
    let first = call(&router, "get_alerts", &oregon()).await;
    assert!(text(&first).contains("answered 429"), "{first}");
    for state in ["WA", "CA", "OR"] {
        let result = call(&router, "get_alerts", &json!({"state": state})).await;
        assert!(text(&result).contains("Try again in "), "{result}");
    }
    assert_eq!(nws.seen().len(), 1);
}
