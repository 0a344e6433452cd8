//! The budget: four writes for a plain server, none when nothing changed, and what each change costs.

use mcp_fleet_operator::azure::apim::{
    Cors, Depth, Outcome, SecretString, ServerRegistration, body_logging, ensure_server, service,
};
use serde_json::{Value, json};

use super::fixture::{Fixture, server};

#[tokio::test]
async fn a_plain_server_costs_four_writes_and_a_second_pass_none() {
    let fixture = Fixture::new().await;
    let desired = server("weather");
    let registered = fixture.ensure(&desired).await.unwrap();
    assert_eq!(registered.changed, ["backend", "api", "policy", "subscription"]);
    assert_eq!((registered.writes, fixture.writes().await), (4, 4));
    assert!(
        registered
            .api
            .ends_with(&format!("/service/contoso/apis/{}", desired.ids.api_id))
    );
    let before = fixture.world().await;
    assert_eq!(fixture.written(&desired).await, Vec::<String>::new());
    assert_eq!(fixture.writes().await, 4);
    assert_eq!(fixture.world().await, before);

    let ids = &desired.ids;
    let operations: Vec<String> = [
        "mcp-delete",
        "mcp-get",
        "mcp-head",
        "mcp-messages",
        "mcp-post",
        "sse-connection",
    ]
    .iter()
    .map(|id| format!("apis/{}/operations/{id}", ids.api_id))
    .collect();
    let mut expected = operations;
    expected.push(format!("apis/{}", ids.api_id));
    expected.push(format!("apis/{}/policies/policy", ids.api_id));
    expected.push(format!("backends/{}", ids.backend_id));
    expected.push(format!("subscriptions/{}", ids.subscription_id));
    expected.sort();
    assert_eq!(fixture.paths().await, expected);
    let api = fixture
        .stand_in
        .control
        .document(&format!("apis/{}", ids.api_id))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        api["properties"]["serviceUrl"],
        Value::Null,
        "an API with a serviceUrl would work without a policy"
    );
}

#[tokio::test]
async fn drift_is_looked_for_with_the_lists_and_one_read_and_repaired() {
    let fixture = Fixture::new().await;
    let desired = server("weather");
    fixture.written(&desired).await;
    for round in 0..4 {
        let before = fixture.reads().await;
        let outcome = ensure_server(&fixture.client, &desired, Depth::Drift { round }, None)
            .await
            .unwrap();
        assert!(
            matches!(outcome, Outcome::Done(registered) if registered.writes == 0),
            "round {round}"
        );
        assert_eq!(fixture.reads().await - before, 3 + 1, "round {round}");
    }
    let api = format!("apis/{}", desired.ids.api_id);
    let backend = format!("backends/{}", desired.ids.backend_id);
    let subscription = format!("subscriptions/{}", desired.ids.subscription_id);
    let cases: [(u64, &str, String, Value, &str); 5] = [
        (
            0,
            "PATCH",
            api.clone(),
            json!({"properties": {"path": "tools/elsewhere"}}),
            "api (path)",
        ),
        (
            0,
            "PATCH",
            api.clone(),
            json!({"properties": {"description": "by hand"}}),
            "api (description)",
        ),
        (
            0,
            "DELETE",
            format!("{api}/policies/policy"),
            Value::Null,
            "policy",
        ),
        (
            1,
            "PATCH",
            backend,
            json!({"properties": {"url": "http://127.0.0.1:10"}}),
            "backend (url)",
        ),
        (
            2,
            "PATCH",
            subscription,
            json!({"properties": {"state": "suspended"}}),
            "subscription (state)",
        ),
    ];
    let before = fixture.world().await;
    for (round, method, path, body, change) in cases {
        fixture.by_hand(method, &path, body).await;
        let mut repairs = vec![];
        // The policy gives way to the operations in one of four rounds.
        for round in [round, round + 1] {
            let outcome = ensure_server(&fixture.client, &desired, Depth::Drift { round }, None)
                .await
                .unwrap();
            let Outcome::Done(registered) = outcome else {
                panic!("pending")
            };
            repairs.extend(registered.changed);
        }
        assert_eq!(repairs, [change]);
        assert_eq!(fixture.world().await, before, "{change}");
    }
    // No list shows operations: they are looked at in one of four rounds.
    fixture
        .by_hand("DELETE", &format!("{api}/operations/mcp-post"), Value::Null)
        .await;
    let mut repairs = vec![];
    for round in 0..4 {
        let outcome = ensure_server(&fixture.client, &desired, Depth::Drift { round }, None)
            .await
            .unwrap();
        let Outcome::Done(registered) = outcome else {
            panic!("pending")
        };
        repairs.extend(registered.changed);
    }
    assert_eq!(repairs, ["operation"]);
    assert_eq!(fixture.world().await.len(), before.len());
}

type Change = fn(&mut ServerRegistration);

#[tokio::test]
async fn each_change_is_written_once_and_nothing_else() {
    let fixture = Fixture::new().await;
    fixture.written(&server("weather")).await;
    let cases: Vec<(&str, Change, Vec<&str>)> = vec![
        (
            "rate limit",
            |r| r.rate_limit.as_mut().unwrap().calls = 5,
            vec!["policy"],
        ),
        ("timeout", |r| r.timeout_seconds = 60, vec!["policy"]),
        ("cors", |r| r.cors = Some(cors()), vec!["policy"]),
        (
            "address",
            |r| r.backend_url = "https://127.0.0.1:10/base".parse().unwrap(),
            vec!["backend (url)"],
        ),
        ("path", |r| r.path = "tools/other".into(), vec!["api (path)"]),
        (
            "title",
            |r| r.display_name = "Weather".into(),
            vec!["backend (title)", "api (displayName)"],
        ),
        (
            "open",
            |r| r.subscription_required = false,
            vec!["operation", "api (description, subscriptionRequired)"],
        ),
        ("no sse", |r| r.transports.sse = None, vec!["api (operations)"]),
        (
            "key",
            |r| r.probe_key = Some(SecretString::new("f".repeat(32))),
            vec!["subscription (displayName, primaryKey)"],
        ),
        ("no probe", |r| r.probe_key = None, vec!["subscription (deleted)"]),
        (
            "mcp path",
            |r| r.transports.streamable_http = Some("/v1/mcp".into()),
            vec!["api (operations)"],
        ),
    ];
    let mut desired = server("weather");
    for (name, change, expected) in cases {
        change(&mut desired);
        let before = fixture.writes().await;
        assert_eq!(fixture.written(&desired).await, expected, "{name}");
        assert_eq!(fixture.writes().await - before, expected.len() as u64, "{name}");
        assert_eq!(
            fixture.written(&desired).await,
            Vec::<String>::new(),
            "{name}, second pass"
        );
    }
    fixture.remove(&desired).await;
    assert_eq!(fixture.paths().await, Vec::<String>::new());
}

fn cors() -> Cors {
    Cors {
        allowed_origins: vec!["https://app.example.com".into(), "http://localhost:6274".into()],
        allowed_headers: vec!["X-Team".into()],
        max_age_seconds: 600,
        allow_credentials: true,
    }
}

#[tokio::test]
async fn what_others_set_survives() {
    let fixture = Fixture::new().await;
    let mut desired = server("weather");
    fixture.written(&desired).await;
    let api = format!("apis/{}", desired.ids.api_id);
    fixture
        .by_hand("PUT", "tags/team", json!({"properties": {"displayName": "team"}}))
        .await;
    fixture
        .by_hand("PUT", &format!("{api}/tags/team"), Value::Null)
        .await;
    let settings =
        json!({"properties": {"termsOfServiceUrl": "https://example.com/tos", "contact": {"name": "Ann"}}});
    fixture.by_hand("PATCH", &api, settings).await;
    let breaker = json!({"properties": {"circuitBreaker": {"rules": [{
        "name": "r", "failureCondition": {"count": 3, "interval": "PT1M", "statusCodeRanges": [{"min": 500, "max": 599}]},
        "tripDuration": "PT1M",
    }]}}});
    let backend = format!("backends/{}", desired.ids.backend_id);
    fixture.by_hand("PATCH", &backend, breaker).await;
    desired.path = "tools/other".into();
    desired.backend_url = "http://127.0.0.1:11".parse().unwrap();
    desired.transports.sse = None;
    fixture.written(&desired).await;
    let stored = fixture.stand_in.control.document(&api).await.unwrap().unwrap();
    assert_eq!(
        stored["properties"]["termsOfServiceUrl"],
        "https://example.com/tos"
    );
    assert_eq!(stored["properties"]["contact"]["name"], "Ann");
    assert!(fixture.paths().await.contains(&format!("{api}/tags/team")));
    let stored = fixture
        .stand_in
        .control
        .document(&backend)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stored["properties"]["circuitBreaker"]["rules"][0]["name"], "r");

    let own = json!({"properties": {"displayName": "Health", "method": "GET", "urlTemplate": "/health", "templateParameters": []}});
    fixture
        .by_hand("PUT", &format!("{api}/operations/health"), own)
        .await;
    desired.transports = server("weather").transports;
    assert_eq!(
        fixture.written(&desired).await,
        ["operation", "operation", "api (description)"],
        "no import, which would delete it"
    );
    assert!(
        fixture
            .paths()
            .await
            .contains(&format!("{api}/operations/health"))
    );
}

#[tokio::test]
async fn the_service_says_what_it_is() {
    let fixture = Fixture::new().await;
    let facts = service(&fixture.client).await.unwrap();
    assert_eq!(
        facts.gateway_url.as_str().trim_end_matches('/'),
        fixture.stand_in.gateway_url
    );
    assert_eq!(
        (facts.sku.as_str(), facts.state.as_str()),
        ("Developer", "Succeeded")
    );
    assert_eq!(
        facts.addresses,
        ["127.0.0.1".parse::<std::net::IpAddr>().unwrap()]
    );
}

#[tokio::test]
async fn diagnostics_that_hold_streams_back_are_named() {
    let fixture = Fixture::new().await;
    assert_eq!(body_logging(&fixture.client).await.unwrap(), Vec::<String>::new());
    let message = |bytes: u32| json!({"response": {"body": {"bytes": bytes}, "headers": ["x"]}, "request": {"body": {"bytes": 512}}});
    for (name, frontend, backend) in [
        ("applicationinsights", 1024, 0),
        ("azuremonitor", 0, 8192),
        ("quiet", 0, 0),
    ] {
        let diagnostic = json!({"properties": {"loggerId": "/loggers/l", "frontend": message(frontend), "backend": message(backend)}});
        fixture
            .by_hand("PUT", &format!("diagnostics/{name}"), diagnostic)
            .await;
    }
    assert_eq!(
        body_logging(&fixture.client).await.unwrap(),
        ["applicationinsights (1024 bytes)", "azuremonitor (8192 bytes)"]
    );
}
