//! A weather service that takes questions and does not answer, and callers who ask all the same: nothing falls over, and nobody pays
//! for what others wait for.

use crate::fake_nws::{Answer, FakeNws, Gate, good};
use crate::harness::{app, call, request, send, text, until};
use futures::future::join_all;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Answers what is not behind the gate: only questions for points are.
async fn points_hang(gate: &Gate) -> FakeNws {
    let held = gate.clone();
    FakeNws::start(move |path, _| {
        let answer = good(path);
        if path.starts_with("/points/") {
            answer.behind(&held)
        } else {
            answer
        }
    })
    .await
}

fn place(number: u32) -> Value {
    json!({"latitude": 25.0 + f64::from(number) / 50.0, "longitude": -85})
}

#[tokio::test]
async fn three_hundred_callers_who_leave_in_order_make_one_request() {
    let gate = Gate::closed();
    let nws = points_hang(&gate).await;
    let (app, router) = app(&nws.url, &[]);
    let callers: Vec<_> = (0..300)
        .map(|_| {
            let router = router.clone();
            tokio::spawn(async move { call(&router, "get_forecast", &place(0)).await })
        })
        .collect();
    until("all of them wait", async || app.metrics.calls_running() == 300).await;
    for caller in callers {
        tokio::time::sleep(Duration::from_millis(1)).await;
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled(), "a caller panicked");
    }
    assert_eq!(nws.seen(), ["/points/25,-85"]);
    gate.open();
    let after = call(&router, "get_forecast", &place(0)).await;
    assert_eq!(after["isError"], false, "{after}");
    assert_eq!(nws.seen().len(), 2);
}

#[tokio::test]
async fn a_crowd_on_a_hung_service_costs_few_requests_and_nobody_else_anything() {
    let gate = Gate::closed();
    let nws = points_hang(&gate).await;
    let (app, router) = app(&nws.url, &[]);
    let oregon = json!({"state": "OR"});
    assert_eq!(call(&router, "get_alerts", &oregon).await["isError"], false);
    let began = Instant::now();
    let crowd: Vec<_> = (0..500)
        .map(|number| {
            let router = router.clone();
            tokio::spawn(async move { call(&router, "get_forecast", &place(number)).await })
        })
        .collect();
    until("the crowd waits", async || app.metrics.calls_running() == 500).await;
    let list = request(1, "tools/list", &json!({})).to_string();
    for (what, state) in [("cached", "OR"), ("not asked for before", "WA")] {
        let before = Instant::now();
        assert_eq!(
            call(&router, "get_alerts", &json!({"state": state})).await["isError"],
            false
        );
        assert_eq!(send(&router, &[], &list).await.0, 200);
        assert!(
            before.elapsed() < Duration::from_secs(1),
            "alerts {what}: {:?}",
            before.elapsed()
        );
    }
    for told in join_all(crowd).await {
        let told = told.expect("no caller panicked");
        let told = text(&told);
        assert!(told.contains("Try again in "), "{told}");
    }
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    let points = || {
        nws.seen()
            .iter()
            .filter(|path| path.starts_with("/points/"))
            .count()
    };
    assert!(points() <= 30, "{} requests for 500 calls", points());
    let (before, asked) = (Instant::now(), points());
    for number in 1000..1100 {
        let told = call(&router, "get_forecast", &place(number)).await;
        let told = text(&told);
        assert!(
            told.contains("does not answer at the moment. Try again in "),
            "{told}"
        );
    }
    assert!(
        before.elapsed() < Duration::from_secs(1),
        "what is known to fail ends at once"
    );
    assert_eq!(points(), asked);
    gate.open();
    until("one request finds out that it answers again", async || {
        call(&router, "get_forecast", &place(0)).await["isError"] == false
    })
    .await;
}

#[tokio::test]
async fn a_crowd_of_forecasts_leaves_alerts_their_part_of_the_budget() {
    let nws = FakeNws::good().await;
    let (_, router) = app(&nws.url, &["--nws-requests-per-minute=20"]);
    let mut refused = Value::Null;
    for number in 0..20 {
        refused = call(&router, "get_forecast", &place(number)).await;
    }
    assert!(
        text(&refused).contains("as many requests as are allowed"),
        "{refused}"
    );
    for state in ["OR", "WA", "CA", "NY", "TX"] {
        let result = call(&router, "get_alerts", &json!({"state": state})).await;
        assert_eq!(result["isError"], false, "{state}: {result}");
    }
}

#[tokio::test]
async fn without_a_budget_a_service_that_throttles_us_is_left_alone_too() {
    let nws = FakeNws::start(|_, _| Answer::problem(429, b"{}").header("retry-after", "30")).await;
    let (_, router) = app(&nws.url, &["--nws-requests-per-minute=0"]);
    for state in ["OR", "WA", "CA", "OR"] {
        let result = call(&router, "get_alerts", &json!({"state": state})).await;
        assert!(text(&result).contains("Try again in "), "{result}");
    }
    assert_eq!(nws.seen().len(), 1);
}
