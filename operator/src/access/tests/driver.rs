//! Scenarios in which everything works.

use serde_json::json;

use super::scenario::{ACCESS, SECRET, Scenario, api, id, product};

#[tokio::test]
async fn an_access_is_made_and_then_left_alone() {
    let mut scenario = Scenario::new(&["weather", "maps"]).await;
    scenario.add_server("weather", "contoso");
    scenario.add_server("maps", "contoso");
    let (cluster, arm) = scenario.pass().await;
    assert_eq!(cluster, ["PATCH access", "PATCH secret", "PATCH access/status"]);
    let subscription = format!("PUT /subscriptions/{}", id());
    let links = [
        format!("PUT product/apis/{}", api("maps")),
        format!("PUT product/apis/{}", api("weather")),
    ];
    assert_eq!(
        arm,
        [
            "PUT product".to_owned(),
            links[0].clone(),
            links[1].clone(),
            subscription
        ]
    );
    scenario.assert_ready();

    let made = scenario.world.arm.get(&product()).unwrap();
    assert_eq!(
        (&made["state"], &made["subscriptionRequired"]),
        (&json!("published"), &json!(true))
    );
    assert_eq!(made["approvalRequired"], json!(false));
    assert_eq!(
        scenario.entry("APIM_ENDPOINT").as_deref(),
        Some("https://gw.example")
    );
    assert_eq!(scenario.entry("APIM_SUBSCRIPTION_KEY").as_deref(), Some("key-4"));
    assert_eq!(
        scenario.entry("TOOLS_WEATHER_URL").as_deref(),
        Some("https://gw.example/demo/tools/weather/mcp")
    );
    assert_eq!(
        scenario.entry(".env").as_deref(),
        Some(
            "APIM_ENDPOINT=https://gw.example\nAPIM_SUBSCRIPTION_KEY=key-4\n\
             TOOLS_MAPS_URL=https://gw.example/demo/tools/maps/mcp\n\
             TOOLS_WEATHER_URL=https://gw.example/demo/tools/weather/mcp\n"
        )
    );
    let secret = scenario.world.cluster.get(SECRET).unwrap();
    assert_eq!(secret["metadata"]["ownerReferences"][0]["uid"], "uid-access");
    let status = &scenario.world.cluster.get(ACCESS).unwrap()["status"];
    assert_eq!(status["servers"].as_array().unwrap().len(), 2);
    assert_eq!(status["secretName"], "agents-mcp");
    assert!(
        status["gateway"]["productId"]
            .as_str()
            .unwrap()
            .ends_with(&product())
    );
    assert!(!status.to_string().contains("key-4"));

    for _ in 0..2 {
        assert_eq!(scenario.pass().await, (vec![], vec![]));
        scenario.restart();
    }
}

#[tokio::test]
async fn the_claim_precedes_the_first_write() {
    let mut scenario = Scenario::new(&["weather"]).await;
    scenario.add_server("weather", "contoso");
    scenario.world.arm.fail(Some((500, "InternalServerError")));
    scenario.pass().await;
    let access = scenario.world.cluster.get(ACCESS).unwrap();
    assert_eq!(
        access["metadata"]["finalizers"],
        json!(["mcpfleet.dev/finalizer"])
    );
    let claim = access["metadata"]["annotations"]["mcpfleet.dev/claim"]
        .as_str()
        .unwrap();
    assert!(
        claim.contains("uid-access") && claim.contains(&product()),
        "{claim}"
    );
    assert_eq!(scenario.condition("Ready").1, "ServiceError");
    assert_eq!(scenario.world.cluster.get(SECRET), None);
    scenario.world.arm.fail(None);
    scenario.pass().await;
    scenario.assert_ready();
}

#[tokio::test]
async fn servers_come_and_go() {
    let mut scenario = Scenario::new(&["weather", "maps"]).await;
    scenario.add_server("weather", "contoso");
    scenario.add_server("maps", "contoso");
    scenario.pass().await;

    // One is taken from the spec.
    scenario.change_access(|access| {
        access["spec"]["servers"] = json!([{"name": "weather", "namespace": "tools"}]);
    });
    let (cluster, arm) = scenario.pass().await;
    assert_eq!(cluster, ["PATCH secret", "PATCH access/status"]);
    assert_eq!(arm, [format!("DELETE product/apis/{}", api("maps"))]);
    assert_eq!(scenario.linked(), ["weather"]);
    scenario.assert_ready();

    // The other takes its consent back: its link goes, and status says what to do.
    scenario.change_server("weather", |server| server["spec"] = json!({}));
    scenario.pass().await;
    assert_eq!(scenario.linked(), [""; 0]);
    let (status, reason, message) = scenario.condition("Ready");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "NoConsent"));
    assert!(
        message.contains("tools/weather")
            && message.contains("spec: {gateway: {access: {namespaces: [Same, agents]}}}"),
        "{message}"
    );

    scenario.change_server("weather", |server| {
        server["spec"] = json!({"gateway": {"access": {"namespaces": ["All"]}}});
    });
    let (_, arm) = scenario.pass().await;
    assert_eq!(arm, [format!("PUT product/apis/{}", api("weather"))]);
    scenario.assert_ready();
}

#[tokio::test]
async fn a_server_that_is_made_anew_is_linked_again() {
    let mut scenario = Scenario::new(&["weather"]).await;
    scenario.add_server("weather", "contoso");
    scenario.pass().await;
    // Its API goes with it, and with the API the link.
    scenario
        .world
        .cluster
        .remove("/apis/mcpfleet.dev/v1alpha1/namespaces/tools/mcpservers/weather");
    scenario.world.arm.remove(&format!("/apis/{}", api("weather")));
    scenario.pass().await;
    assert_eq!(scenario.condition("Ready").1, "ServerNotFound");

    scenario.add_server("weather", "contoso");
    let (_, arm) = scenario.pass().await;
    assert_eq!(arm, [format!("PUT product/apis/{}", api("weather"))]);
    assert_eq!(scenario.linked(), ["weather"]);
    scenario.assert_ready();
    assert_eq!(
        scenario.entry("APIM_SUBSCRIPTION_KEY").as_deref(),
        Some("key-3"),
        "callers keep their key"
    );
}

#[tokio::test]
async fn trouble_of_a_registered_server_does_not_shut_callers_out() {
    let mut scenario = Scenario::new(&["weather"]).await;
    scenario.add_server("weather", "contoso");
    scenario.pass().await;
    scenario.change_server("weather", |server| {
        server["status"]["conditions"][0]["status"] = json!("False");
    });
    assert_eq!(scenario.pass().await, (vec![], vec![]));
    scenario.assert_ready();
}

#[tokio::test]
async fn another_secret_name_moves_the_secret() {
    let mut scenario = Scenario::new(&["weather"]).await;
    scenario.add_server("weather", "contoso");
    scenario.pass().await;
    scenario.change_access(|access| access["spec"]["secretName"] = json!("other"));
    let (cluster, arm) = scenario.pass().await;
    let other = "PATCH /api/v1/namespaces/agents/secrets/other";
    assert_eq!(cluster, [other, "DELETE secret", "PATCH access/status"]);
    assert_eq!(arm, [format!("POST /subscriptions/{}/listSecrets", id())]);
    assert_eq!(scenario.world.cluster.get(SECRET), None);
    assert_eq!(scenario.pass().await, (vec![], vec![]));
}

#[tokio::test]
async fn a_deleted_access_leaves_nothing() {
    let mut scenario = Scenario::new(&["weather"]).await;
    scenario.add_server("weather", "contoso");
    scenario.pass().await;
    scenario.change_access(|access| access["metadata"]["deletionTimestamp"] = json!("2026-11-21T10:00:00Z"));
    // Neither servers nor the Secret are needed for it.
    scenario
        .world
        .cluster
        .remove("/apis/mcpfleet.dev/v1alpha1/namespaces/tools/mcpservers/weather");
    scenario.world.cluster.remove(SECRET);
    let (cluster, arm) = scenario.pass().await;
    assert_eq!(
        (cluster, arm),
        (vec!["PATCH access".to_owned()], vec!["DELETE product".to_owned()])
    );
    assert_eq!(scenario.world.cluster.get(ACCESS), None);
    assert_eq!(scenario.world.arm.paths(), [format!("/apis/{}", api("weather"))]);
}

#[tokio::test]
async fn servers_that_moved_are_followed_to_their_gateway() {
    let mut scenario = Scenario::new(&["weather"]).await;
    scenario.world.add_gateway("fabrikam", |gateway| {
        gateway["status"] = json!({"conditions": [], "gatewayUrl": "https://other.example"});
    });
    scenario.add_server("weather", "contoso");
    scenario.pass().await;
    scenario.add_server("weather", "fabrikam");
    let (_, arm) = scenario.pass().await;
    assert_eq!(arm[0], "DELETE product");
    assert_eq!(
        scenario.entry("APIM_ENDPOINT").as_deref(),
        Some("https://other.example")
    );
    let status = &scenario.world.cluster.get(ACCESS).unwrap()["status"];
    assert_eq!(status["gateway"]["name"], "fabrikam");
    scenario.assert_ready();
}
