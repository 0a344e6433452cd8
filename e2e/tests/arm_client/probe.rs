//! The probe's subscription of a whole gateway (`probe: AllApis`).

use mcp_fleet_operator::azure::apim::{
    Owner, PlainHttp, ProbeRegistration, Purpose, Removal, SecretString, ServerRegistration, ensure_probe,
    http_client, remove_probe, resource_name,
};
use serde_json::{Value, json};

use super::fixture::{Fixture, server};

fn probe() -> ProbeRegistration {
    ProbeRegistration {
        owner: Owner {
            cluster_id: "demo".into(),
            namespace: String::new(),
            name: "contoso".into(),
            uid: "4fd0f1a2-0001-4000-8000-00000000000c".into(),
        },
        subscription_id: resource_name(Purpose::Probe, "demo", "mcp-fleet-probe", "contoso"),
        key: SecretString::new("a-key-for-all-of-them-0123456789abcdef"),
    }
}

fn path() -> String {
    format!("subscriptions/{}", probe().subscription_id)
}

/// The status that a call with the probe's key gets through the gateway.
async fn call(fixture: &Fixture, server: &ServerRegistration) -> u16 {
    let http = http_client(Some(fixture.stand_in.ca_pem.as_bytes()), PlainHttp::Refused).unwrap();
    let base = fixture.stand_in.gateway_url.trim_end_matches('/');
    let request = http
        .post(format!("{base}/{}/mcp", server.path))
        .header("ocp-apim-subscription-key", probe().key.expose())
        .body("{}");
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn one_key_opens_every_api_until_it_is_removed() {
    let fixture = Fixture::new().await;
    let servers = ["weather", "maps"].map(|name| ServerRegistration {
        probe_key: None,
        ..server(name)
    });
    for server in &servers {
        assert_eq!(fixture.written(server).await, ["backend", "api", "policy"]);
        assert_eq!(call(&fixture, server).await, 401);
    }
    let client = &fixture.client;
    let written = ensure_probe(client, &probe(), false).await.unwrap();
    assert_eq!(written.as_deref(), Some("subscription"));
    for server in &servers {
        // Nobody listens at the backend: the key was taken.
        assert_ne!(call(&fixture, server).await, 401, "{}", server.path);
    }
    let before = fixture.writes().await;
    assert_eq!(ensure_probe(client, &probe(), false).await.unwrap(), None);
    assert_eq!(fixture.writes().await, before);

    // Somebody makes a new key: no read shows that, so it takes a refusal to know it.
    fixture
        .by_hand(
            "PATCH",
            &path(),
            json!({"properties": {"primaryKey": "made-by-hand"}}),
        )
        .await;
    assert_eq!(call(&fixture, &servers[0]).await, 401);
    assert_eq!(ensure_probe(client, &probe(), false).await.unwrap(), None);
    let written = ensure_probe(client, &probe(), true).await.unwrap();
    assert_eq!(written.as_deref(), Some("subscription (primaryKey)"));
    assert_ne!(call(&fixture, &servers[0]).await, 401);

    for _ in 0..2 {
        let removal = remove_probe(client, &probe().owner, &probe().subscription_id).await;
        assert_eq!(removal.unwrap(), Removal::Gone { left: vec![] });
        assert_eq!(call(&fixture, &servers[0]).await, 401);
    }
}

#[tokio::test]
async fn somebody_elses_subscription_is_left_alone() {
    let fixture = Fixture::new().await;
    let theirs = json!({"properties": {"displayName": "Load tests", "scope": "/apis", "state": "active"}});
    fixture.by_hand("PUT", &path(), theirs).await;
    let stored = fixture.by_hand("GET", &path(), Value::Null).await;
    let before = fixture.writes().await;
    let error = ensure_probe(&fixture.client, &probe(), true).await.unwrap_err();
    assert_eq!(error.reason(), "Conflict");
    let removal = remove_probe(&fixture.client, &probe().owner, &probe().subscription_id).await;
    let left = format!("subscription {}", probe().subscription_id);
    assert_eq!(removal.unwrap(), Removal::Gone { left: vec![left] });
    assert_eq!(fixture.writes().await, before);
    assert_eq!(fixture.by_hand("GET", &path(), Value::Null).await, stored);
}

#[tokio::test]
async fn a_server_gives_its_own_subscription_up() {
    let fixture = Fixture::new().await;
    let mut desired = server("weather");
    fixture.written(&desired).await;
    desired.probe_key = None;
    assert_eq!(fixture.written(&desired).await, ["subscription (deleted)"]);
    assert_eq!(fixture.written(&desired).await, Vec::<String>::new());
}
