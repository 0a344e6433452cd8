//! The two tools against a weather service that redirects, fails, hangs and lies.

use crate::fake_nws::{Answer, FakeNws, good};
use crate::harness::{app, call, text, until};
use serde_json::json;
use std::time::{Duration, Instant};

const ALERTS: &str = "/alerts/active/area/OR";

#[tokio::test]
async fn answers_are_kept_while_fresh() {
    let nws = FakeNws::good().await;
    let (app, router) = app(&nws.url, &["--nws-user-agent=(test, me@example.com)"]);
    for state in ["OR", "or", "Oregon"] {
        let result = call(&router, "get_alerts", &json!({"state": state})).await;
        assert!(
            text(&result).contains("Instructions: A Flood Watch means"),
            "{result}"
        );
    }
    for longitude in [-85.0, -85.000_01] {
        let result = call(
            &router,
            "get_forecast",
            &json!({"latitude": 30.0, "longitude": longitude}),
        )
        .await;
        assert_eq!(result["structuredContent"]["longitude"], -85.0);
    }
    assert_eq!(
        nws.seen(),
        [ALERTS, "/points/30,-85", "/gridpoints/TAE/58,65/forecast"]
    );
    for (agent, accept) in nws.agents() {
        assert_eq!(
            (agent.as_str(), accept.as_str()),
            ("(test, me@example.com)", "application/geo+json")
        );
    }
    assert!(
        app.metrics
            .render()
            .contains(r#"mcp_weather_upstream_requests_total{endpoint="alerts",outcome="ok"} 1"#)
    );
}

#[tokio::test]
async fn many_callers_make_one_request() {
    let nws = FakeNws::start(|path, _| good(path).after(Duration::from_millis(200))).await;
    let (_, router) = app(&nws.url, &[]);
    let arguments = json!({"latitude": 30, "longitude": -85});
    let results = futures::future::join_all((0..50).map(|_| call(&router, "get_forecast", &arguments))).await;
    assert!(results.iter().all(|result| result["isError"] == false));
    assert_eq!(nws.seen().len(), 2);
}

#[tokio::test]
async fn stale_answers_are_fetched_again() {
    let nws = FakeNws::start(|path, _| good(path).header("cache-control", "max-age=0")).await;
    let (_, router) = app(&nws.url, &[]);
    call(&router, "get_alerts", &json!({"state": "OR"})).await;
    call(&router, "get_alerts", &json!({"state": "OR"})).await;
    assert_eq!(nws.seen().len(), 1, "two seconds are kept in any case");
    until("the answer is fetched again", async || {
        call(&router, "get_alerts", &json!({"state": "OR"})).await;
        nws.seen().len() == 2
    })
    .await;
}

#[tokio::test]
async fn the_forecast_url_of_a_point_is_not_followed() {
    let trap = FakeNws::good().await;
    let url = format!("{}/gridpoints/TAE/58,65/forecast", trap.url);
    let point =
        json!({"properties": {"gridId": "TAE", "gridX": 58, "gridY": 65, "forecast": url}}).to_string();
    let nws = FakeNws::start(move |path, _| {
        if path.starts_with("/points/") {
            Answer::ok(point.clone())
        } else {
            good(path)
        }
    })
    .await;
    let (_, router) = app(&nws.url, &[]);
    let result = call(
        &router,
        "get_forecast",
        &json!({"latitude": 30, "longitude": -85}),
    )
    .await;
    assert_eq!(result["isError"], false, "{result}");
    assert!(trap.seen().is_empty());
    assert_eq!(nws.seen().last().unwrap(), "/gridpoints/TAE/58,65/forecast");
}

#[tokio::test]
async fn a_redirect_is_followed_on_its_own_origin_only() {
    let moved = |location: &str| {
        Answer::problem(
            301,
            include_bytes!("../fixtures/problem_AdjustPointPrecision_301.json"),
        )
        .header("location", location)
    };
    let nws = FakeNws::start(move |path, _| match path {
        "/points/30,-85" => moved("/points/30.1,-85"),
        _ => good(path),
    });
    let nws = nws.await;
    let (_, router) = app(&nws.url, &[]);
    let arguments = json!({"latitude": 30, "longitude": -85});
    assert_eq!(call(&router, "get_forecast", &arguments).await["isError"], false);
    assert_eq!(nws.seen()[1], "/points/30.1,-85");

    let trap = FakeNws::good().await;
    for location in [
        format!("{}/points/30,-85", trap.url),
        "//evil.invalid/x".into(),
        "/points/30,-85".into(),
        String::new(),
    ] {
        let location = location.clone();
        let nws = FakeNws::start(move |_, _| moved(&location)).await;
        let (_, router) = app(&nws.url, &[]);
        let result = call(&router, "get_forecast", &arguments).await;
        assert_eq!(result["isError"], true);
        assert!(text(&result).contains("redirected"), "{result}");
        assert!(nws.seen().len() <= 3, "a loop ends");
    }
    assert!(trap.seen().is_empty());
}

#[tokio::test]
async fn a_passing_error_is_tried_again() {
    let nws = FakeNws::start(|path, before| match before {
        0 => Answer::problem(
            500,
            include_bytes!("../fixtures/problem_UnexpectedProblem_500.json"),
        ),
        1 => Answer::problem(503, b"<html>busy</html>").header("retry-after", "0"),
        _ => good(path),
    });
    let nws = nws.await;
    let (app, router) = app(&nws.url, &[]);
    assert_eq!(
        call(&router, "get_alerts", &json!({"state": "OR"})).await["isError"],
        false
    );
    assert_eq!(nws.seen().len(), 3);
    assert!(app.metrics.render().contains(r#"outcome="server_error"} 2"#));
}

#[tokio::test]
async fn a_lasting_error_is_explained() {
    for (answer, attempts, part) in [
        (
            Answer::problem(
                503,
                include_bytes!("../fixtures/problem_ForecastGridExpired_503.json"),
            ),
            3,
            "503 Forecast Grid Expired: The requested forecast grid",
        ),
        (
            Answer::problem(404, include_bytes!("../fixtures/problem_InvalidPoint_404.json")),
            1,
            "404 Data Unavailable For Requested Point: Unable to provide data for requested point -20.9512,55.3085. It covers the United States",
        ),
        (
            Answer::problem(503, b"").header("retry-after", "60"),
            1,
            "answered 503. Try again",
        ),
        (
            Answer::problem(403, b"not json"),
            1,
            "answered 403. Check the arguments.",
        ),
        (
            Answer::problem(429, b"{}"),
            1,
            "answered 429. Try again in a few seconds.",
        ),
        (Answer::ok("{}"), 1, "cannot be read: no list of alerts"),
        (Answer::ok("<html>"), 1, "cannot be read"),
    ] {
        let nws = FakeNws::start(move |_, _| answer.clone()).await;
        let (_, router) = app(&nws.url, &[]);
        let result = call(&router, "get_alerts", &json!({"state": "OR"})).await;
        assert_eq!(result["isError"], true);
        assert!(
            text(&result).starts_with("Unable to fetch alerts for OR: "),
            "{result}"
        );
        assert!(text(&result).contains(part), "{part}: {result}");
        assert!(result.get("structuredContent").is_none());
        assert_eq!(nws.seen().len(), attempts, "{part}");
    }
}

#[tokio::test]
async fn errors_are_not_kept() {
    let nws = FakeNws::start(|path, before| {
        if before == 0 {
            Answer::problem(404, b"{}")
        } else {
            good(path)
        }
    })
    .await;
    let (_, router) = app(&nws.url, &[]);
    assert_eq!(
        call(&router, "get_alerts", &json!({"state": "OR"})).await["isError"],
        true
    );
    assert_eq!(
        call(&router, "get_alerts", &json!({"state": "OR"})).await["isError"],
        false
    );
}

#[tokio::test]
async fn nobody_there() {
    let (_, router) = app("http://127.0.0.1:1", &[]);
    let result = call(&router, "get_alerts", &json!({"state": "OR"})).await;
    assert_eq!(result["isError"], true);
    assert!(
        text(&result).contains("failed to reach the National Weather Service"),
        "{result}"
    );
    assert!(!text(&result).contains("127.0.0.1"), "internals are for the log");
}

#[tokio::test]
async fn a_service_that_hangs_costs_ten_seconds_once() {
    let nws = FakeNws::start(|path, _| good(path).after(Duration::from_mins(1))).await;
    let (_, router) = app(&nws.url, &[]);
    let before = Instant::now();
    let result = call(
        &router,
        "get_forecast",
        &json!({"latitude": 30, "longitude": -85}),
    )
    .await;
    assert!(text(&result).contains("did not answer in time"), "{result}");
    let took = before.elapsed();
    assert!(
        took > Duration::from_secs(9) && took < Duration::from_secs(13),
        "{took:?}"
    );
    assert_eq!(
        nws.seen().len(),
        3,
        "a connection that hangs leaves time for another"
    );
    let before = Instant::now();
    let arguments = json!({"latitude": 30, "longitude": -85});
    let result = call(&router, "get_forecast", &arguments).await;
    let told = text(&result);
    assert!(
        told.contains("did not answer in time") && told.contains("Try again in "),
        "{told}"
    );
    assert!(
        before.elapsed() < Duration::from_secs(1),
        "what is known to fail is told at once"
    );
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_spoil_it_for_others() {
    let nws = FakeNws::start(move |path, _| good(path).after(Duration::from_millis(300)));
    let nws = nws.await;
    let (app, router) = app(&nws.url, &[]);
    let arguments = json!({"state": "OR"});
    let impatient = tokio::time::timeout(
        Duration::from_millis(100),
        call(&router, "get_alerts", &arguments),
    );
    let (gone, answered) = tokio::join!(impatient, call(&router, "get_alerts", &arguments));
    assert!(gone.is_err());
    assert_eq!(answered["isError"], false);
    assert!(app.metrics.render().contains("mcp_weather_tool_calls_running 0"));
}
