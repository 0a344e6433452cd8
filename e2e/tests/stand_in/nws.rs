//! The weather replay: documents, headers, errors.

use mcp_fleet_e2e::nws::{Options, Replay};
use reqwest::{Client, redirect::Policy};
use serde_json::Value;

async fn start() -> (Replay, Client) {
    let replay = Replay::start(Options::default()).await.unwrap();
    let client = Client::builder()
        .user_agent("(test, test@example.com)")
        .redirect(Policy::none())
        .build()
        .unwrap();
    (replay, client)
}

#[tokio::test]
async fn a_point_leads_to_its_forecast() {
    let (replay, client) = start().await;
    let response = client
        .get(format!("{}/points/47.6062,-122.3321", replay.url))
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["content-type"], "application/geo+json");
    assert_eq!(response.headers()["vary"], "Accept,Feature-Flags,Accept-Language");
    for name in ["cache-control", "expires", "last-modified", "x-correlation-id"] {
        assert!(response.headers().contains_key(name), "{name}");
    }
    let point: Value = response.json().await.unwrap();
    let grid = &point["properties"];
    assert_eq!(
        grid["forecast"],
        "https://api.weather.gov/gridpoints/SEW/124,125/forecast"
    );
    let path = format!(
        "/gridpoints/{}/{},{}/forecast",
        grid["gridId"].as_str().unwrap(),
        grid["gridX"],
        grid["gridY"]
    );
    let forecast: Value = client
        .get(format!("{}{path}", replay.url))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let periods = forecast["properties"]["periods"].as_array().unwrap();
    assert_eq!(periods.len(), 14);
    let start: jiff::Timestamp = periods[0]["startTime"].as_str().unwrap().parse().unwrap();
    let age = jiff::Timestamp::now().duration_since(start).as_secs();
    assert!((0..4 * 3600).contains(&age), "times are relative to now: {start}");
    assert!(!forecast.to_string().contains("date:"));
    assert_eq!(replay.requests(), ["/points/47.6062,-122.3321".to_owned(), path]);
}

#[tokio::test]
async fn some_states_have_alerts() {
    let (replay, client) = start().await;
    for (state, count) in [("CA", 2), ("TX", 1), ("WA", 1), ("NY", 0), ("PZ", 0)] {
        let url = format!("{}/alerts/active/area/{state}", replay.url);
        let alerts: Value = client.get(url).send().await.unwrap().json().await.unwrap();
        assert_eq!(alerts["features"].as_array().unwrap().len(), count, "{state}");
        assert!(!alerts.to_string().contains("date:"));
    }
}

#[tokio::test]
async fn errors_are_problems() {
    let (replay, client) = start().await;
    for (path, status, kind) in [
        ("/points/999,999", 400, "InvalidParameter"),
        ("/points/-20.9512,55.3085", 404, "InvalidPoint"),
        ("/points/47.60,-122.33", 301, "AdjustPointPrecision"),
        ("/points/40.5,-100.5", 500, "UnexpectedProblem"),
        ("/gridpoints/XXX/1,1/forecast", 400, "InvalidParameter"),
        ("/alerts/active/area/ca", 400, "InvalidParameter"),
        ("/alerts/active/area/ZZ", 400, "InvalidParameter"),
        ("/alerts/active/area/GU", 500, "UnexpectedProblem"),
        ("/alerts/active/area/CA?x=1", 400, "BadRequest"),
        ("/nothing", 404, "NotFound"),
    ] {
        let response = client.get(format!("{}{path}", replay.url)).send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        if status == 301 {
            assert_eq!(response.headers()["location"], "/points/47.6,-122.33");
        }
        let problem: Value = response.json().await.unwrap();
        assert_eq!(
            problem["type"],
            format!("https://api.weather.gov/problems/{kind}")
        );
        assert_eq!(problem["status"], status);
    }
    let url = format!("{}/points/40.5,-101.5", replay.url);
    let point: Value = client.get(url).send().await.unwrap().json().await.unwrap();
    let forecast = point["properties"]["forecast"]
        .as_str()
        .unwrap()
        .replace("https://api.weather.gov", &replay.url);
    assert_eq!(client.get(forecast).send().await.unwrap().status(), 503);
    let anonymous = Client::builder().build().unwrap();
    assert_eq!(
        anonymous
            .get(format!("{}/", replay.url))
            .send()
            .await
            .unwrap()
            .status(),
        403
    );
}

#[tokio::test]
async fn errors_and_delays_can_be_asked_for() {
    let options = Options {
        error_rate: 1.0,
        delay: std::time::Duration::from_millis(80),
        ..Options::default()
    };
    let replay = Replay::start(options).await.unwrap();
    let client = Client::builder().user_agent("test").build().unwrap();
    let begin = std::time::Instant::now();
    let response = client
        .get(format!("{}/alerts/active/area/CA", replay.url))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 500);
    assert!(begin.elapsed() >= std::time::Duration::from_millis(80));
}
