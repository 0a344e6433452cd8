//! The secret that the gateway sends: derived by the operator and, from the named value, by the policy's expression.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use axum::Router;
use axum::routing::any;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use mcp_fleet_crds::McpGateway;
use mcp_fleet_operator::azure::apim::{
    Outcome, Owner, PlainHttp, Removal, SecretReference, SecretRegistration, ServerRegistration,
    ensure_secret, http_client, known_number, remove_secret,
};
use mcp_fleet_operator::azure::gateway_secret::{GatewaySecret, named_value};
use mcp_fleet_operator::azure::probe_key::ProbeKeys;
use serde_json::{Value, json};

use super::fixture::{Fixture, server};

const HEADER: &str = "X-Gateway-Secret";

fn gateway() -> McpGateway {
    serde_json::from_value(json!({
        "apiVersion": "mcpfleet.dev/v1alpha1", "kind": "McpGateway", "metadata": {"name": "contoso"},
        "spec": {"clusterId": "demo", "apim": {"subscriptionId": "00000000-0000-0000-0000-000000000001",
            "resourceGroup": "g", "serviceName": "contoso"}},
    }))
    .unwrap()
}

fn secret(number: i64) -> GatewaySecret {
    GatewaySecret::derive(&ProbeKeys::new(&[7; 32]), &gateway(), number)
}

fn owner() -> Owner {
    Owner {
        cluster_id: "demo".into(),
        namespace: String::new(),
        name: "contoso".into(),
        uid: "4fd0f1a2-0001-4000-8000-00000000000c".into(),
    }
}

/// Whether it was written.
async fn ensure(fixture: &Fixture, number: i64) -> bool {
    let desired = SecretRegistration {
        owner: owner(),
        name: named_value(&gateway()),
        number,
        value: secret(number).value(),
    };
    for _ in 0..50 {
        match ensure_secret(&fixture.client, &desired).await.unwrap() {
            Outcome::Done(written) => return written.is_some(),
            Outcome::Pending(_) => {}
        }
    }
    panic!("the named value is not written");
}

/// A server that answers with the headers that it got.
async fn echo() -> SocketAddr {
    async fn headers(headers: HeaderMap) -> axum::Json<Value> {
        let texts = headers
            .iter()
            .map(|(name, value)| (name.to_string(), json!(value.to_str().unwrap_or_default())));
        axum::Json(Value::Object(texts.collect()))
    }
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(any(headers));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

async fn desired(name: &str) -> ServerRegistration {
    ServerRegistration {
        backend_url: format!("http://{}", echo().await).parse().unwrap(),
        secret: Some(SecretReference {
            named_value: named_value(&gateway()),
            header: HEADER.into(),
        }),
        ..server(name)
    }
}

/// What reaches the server of a call with the probe's key, by a caller who forges all that the gateway says.
async fn told(fixture: &Fixture, server: &ServerRegistration) -> Value {
    let http = http_client(Some(fixture.stand_in.ca_pem.as_bytes()), PlainHttp::Refused).unwrap();
    let base = fixture.stand_in.gateway_url.trim_end_matches('/');
    let mut request = http
        .post(format!("{base}/{}/mcp", server.path))
        .header(
            "ocp-apim-subscription-key",
            server.probe_key.as_ref().unwrap().expose(),
        )
        .body("{}");
    for name in [
        HEADER,
        "x-mcp-caller",
        "x-mcp-caller-time",
        "x-mcp-caller-signature",
    ] {
        request = request.header(name, "forged");
    }
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

#[tokio::test]
async fn the_gateway_derives_what_the_operator_does_and_signs_who_calls() {
    let fixture = Fixture::new().await;
    assert!(ensure(&fixture, 1).await);
    assert!(!ensure(&fixture, 1).await, "the same again is no write");
    let before = fixture.writes().await;
    let servers = [desired("weather").await, desired("maps").await];
    for server in &servers {
        fixture.written(server).await;
    }
    assert_eq!(
        fixture.writes().await - before,
        8,
        "four writes for each, as without"
    );
    let mut seen = vec![];
    for server in &servers {
        let told = told(&fixture, server).await;
        let text = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
        let expected = secret(1).of_server(&server.ids.api_id);
        assert_eq!(text("x-gateway-secret"), expected.expose());
        let caller = text("x-mcp-caller");
        assert_eq!(caller, server.ids.subscription_id);
        let time = text("x-mcp-caller-time");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!(now.abs_diff(time.parse().unwrap()) <= 5, "{time}");
        let key = hmac::Key::new(hmac::HMAC_SHA256, expected.expose().as_bytes());
        let signature = STANDARD.decode(text("x-mcp-caller-signature")).unwrap();
        hmac::verify(&key, format!("{caller}\n{time}").as_bytes(), &signature).unwrap();
        seen.push(text("x-gateway-secret"));
    }
    assert_ne!(seen[0], seen[1], "each server has its own");
}

#[tokio::test]
async fn a_reader_of_the_service_learns_no_secret() {
    let fixture = Fixture::new().await;
    ensure(&fixture, 1).await;
    let server = desired("weather").await;
    fixture.written(&server).await;
    let name = named_value(&gateway());
    let (value, own) = (secret(1).value(), secret(1).of_server(&server.ids.api_id));
    let id = &server.ids.api_id;
    for path in [
        format!("namedValues/{name}"),
        "namedValues".to_owned(),
        "apis".to_owned(),
        format!("apis/{id}"),
        format!("apis/{id}/operations"),
        format!("apis/{id}/policies/policy"),
        format!("backends/{id}"),
        "subscriptions".to_owned(),
    ] {
        let shown = fixture.by_hand("GET", &path, Value::Null).await.to_string();
        assert!(
            !shown.contains(value.expose()) && !shown.contains(own.expose()),
            "{path}: {shown}"
        );
    }
    let shown = fixture
        .by_hand("GET", &format!("namedValues/{name}"), Value::Null)
        .await;
    assert_eq!(shown["properties"]["secret"], true);
    let policy = fixture
        .by_hand("GET", &format!("apis/{id}/policies/policy"), Value::Null)
        .await;
    assert!(
        policy["properties"]["value"]
            .as_str()
            .unwrap()
            .contains(&format!("{{{{{name}}}}}"))
    );
}

#[tokio::test]
async fn a_rotation_is_one_write_and_no_policy_changes() {
    let fixture = Fixture::new().await;
    ensure(&fixture, 1).await;
    let server = desired("weather").await;
    fixture.written(&server).await;
    let before = fixture.writes().await;
    assert!(ensure(&fixture, 2).await);
    assert_eq!(fixture.writes().await - before, 1);
    assert_eq!(fixture.written(&server).await, Vec::<String>::new());
    let expected = secret(2).of_server(&server.ids.api_id);
    let mut sent = String::new();
    // The stand-in's gateway takes a change over after a moment, as the service's does.
    for _ in 0..100 {
        told(&fixture, &server).await["x-gateway-secret"]
            .as_str()
            .unwrap_or_default()
            .clone_into(&mut sent);
        if sent == expected.expose() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(sent, expected.expose());
    let name = named_value(&gateway());
    let number = known_number(&fixture.client, &owner(), &name).await.unwrap();
    assert_eq!(
        number,
        Some(2),
        "a process that has forgotten everything goes on from here"
    );
}

#[tokio::test]
async fn a_policy_whose_secret_is_not_there_is_refused_and_nothing_half_made_stays() {
    let fixture = Fixture::new().await;
    let server = desired("weather").await;
    let error = fixture.ensure(&server).await.unwrap_err().to_string();
    assert!(error.contains(&named_value(&gateway())), "{error}");
    let left = fixture.paths().await;
    assert!(
        !left.iter().any(|path| path.contains(&server.ids.api_id)),
        "{left:?}"
    );
}

#[tokio::test]
async fn it_goes_with_the_gateway_and_what_is_not_ours_stays() {
    let fixture = Fixture::new().await;
    ensure(&fixture, 1).await;
    let name = named_value(&gateway());
    for _ in 0..2 {
        let removal = remove_secret(&fixture.client, &owner(), &name).await.unwrap();
        assert_eq!(removal, Removal::Gone { left: vec![] });
    }
    // A registration that was left, with managementPolicy: Orphan, goes on working.
    ensure(&fixture, 1).await;
    let left = desired("weather").await;
    fixture.written(&left).await;
    match remove_secret(&fixture.client, &owner(), &name).await.unwrap() {
        Removal::Gone { left } => assert!(
            left.len() == 1 && left[0].contains("is used by policies"),
            "{left:?}"
        ),
        pending @ Removal::Pending(_) => panic!("{pending:?}"),
    }
    told(&fixture, &left).await;
    fixture.remove(&left).await;
    let removal = remove_secret(&fixture.client, &owner(), &name).await.unwrap();
    assert_eq!(removal, Removal::Gone { left: vec![] });

    let theirs = json!({"properties": {"displayName": name, "value": "theirs", "secret": true}});
    fixture
        .by_hand("PUT", &format!("namedValues/{name}"), theirs)
        .await;
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !fixture.paths().await.iter().any(|path| path.contains(&name)) {
        assert!(std::time::Instant::now() < limit, "the service is at it for ever");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let removal = remove_secret(&fixture.client, &owner(), &name).await.unwrap();
    assert_eq!(
        removal,
        Removal::Gone {
            left: vec![format!("named value {name}")]
        }
    );
}
