//! Scenarios in which something is in the way.

use crate::runtime::queue::Again;
use serde_json::{Value, json};

use super::scenario::{ACCESS, SECRET, Scenario, api, id, product};
use crate::access::reconcile;

#[tokio::test]
async fn nothing_is_made_before_every_server_agrees() {
    type Change = fn(&mut Value);
    let cases: [(&str, Change, &str); 5] = [
        (
            "consent is missing",
            |server| server["spec"] = json!({}),
            "NoConsent",
        ),
        (
            "consent is for others",
            |server| server["spec"] = json!({"gateway": {"access": {"namespaces": ["Same", "other"]}}}),
            "NoConsent",
        ),
        (
            "it is in no gateway",
            |server| server["spec"]["gateway"]["enabled"] = json!(false),
            "GatewayDisabled",
        ),
        (
            "it is not registered yet",
            |server| server["status"]["conditions"][0]["status"] = json!("Unknown"),
            "ServerNotRegistered",
        ),
        (
            "it is a copy that was never registered",
            |server| server["status"] = json!({"conditions": []}),
            "ServerNotRegistered",
        ),
    ];
    for (what, change, expected) in cases {
        let mut scenario = Scenario::new(&["weather", "maps"]).await;
        scenario.add_server("weather", "contoso");
        scenario.add_server("maps", "contoso");
        scenario.change_server("maps", change);
        let (cluster, arm) = scenario.pass().await;
        assert_eq!(
            (cluster, arm),
            (vec!["PATCH access/status".to_owned()], vec![]),
            "{what}"
        );
        let (status, reason, message) = scenario.condition("Ready");
        // Refused by somebody, or only waited for.
        let refused = ["NoConsent", "GatewayDisabled"].contains(&expected);
        assert_eq!(
            (status.as_str(), reason.as_str()),
            (if refused { "False" } else { "Unknown" }, expected),
            "{what}: {message}"
        );
        assert!(
            message.contains("tools/maps") && !message.contains("tools/weather"),
            "{message}"
        );
        assert_eq!(scenario.world.arm.take_reads(), 0, "{what}");
        assert_eq!(scenario.pass().await, (vec![], vec![]), "{what}");

        scenario.add_server("maps", "contoso");
        scenario.pass().await;
        scenario.assert_ready();
    }
}

#[tokio::test]
async fn servers_of_two_gateways_are_refused() {
    let mut scenario = Scenario::new(&["weather", "maps"]).await;
    scenario.add_server("weather", "contoso");
    scenario.add_server("maps", "fabrikam");
    let (_, arm) = scenario.pass().await;
    assert_eq!(arm, [""; 0]);
    let (status, reason, message) = scenario.condition("Accepted");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "DifferentGateways"));
    assert!(message.contains("contoso, fabrikam"), "{message}");
}

#[tokio::test]
async fn a_secret_of_somebody_else_stops_everything() {
    let mut scenario = Scenario::new(&["weather"]).await;
    scenario.add_server("weather", "contoso");
    let foreign = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "agents-mcp", "namespace": "agents", "uid": "x"},
        "data": {"password": "aHVudGVyMg=="},
    });
    scenario.world.cluster.put(SECRET, foreign);
    let before = scenario.world.cluster.get(SECRET);
    let (cluster, arm) = scenario.pass().await;
    assert_eq!((cluster, arm), (vec!["PATCH access/status".to_owned()], vec![]));
    let (status, reason, message) = scenario.condition("Accepted");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "ChildNotOwned"));
    assert!(message.contains("agents/agents-mcp"), "{message}");
    assert_eq!(scenario.world.cluster.get(SECRET), before);
    assert!(
        !scenario
            .world
            .cluster
            .take_contents()
            .iter()
            .any(|path| path == SECRET),
        "the content of a Secret of somebody else was read"
    );
}

#[tokio::test]
async fn a_lost_or_broken_secret_is_written_again_with_the_same_key() {
    let mut scenario = Scenario::new(&["weather"]).await;
    scenario.add_server("weather", "contoso");
    scenario.pass().await;
    let key = scenario.entry("APIM_SUBSCRIPTION_KEY");
    let asked = [format!("POST /subscriptions/{}/listSecrets", id())];

    scenario.world.cluster.remove(SECRET);
    let (cluster, arm) = scenario.pass().await;
    assert_eq!((cluster, arm), (vec!["PATCH secret".to_owned()], asked.to_vec()));
    assert_eq!(scenario.entry("APIM_SUBSCRIPTION_KEY"), key);

    scenario.world.cluster.change(SECRET, |secret| {
        secret["data"]["APIM_SUBSCRIPTION_KEY"] = json!("");
    });
    let (_, arm) = scenario.pass().await;
    assert_eq!(arm, asked);
    assert_eq!(scenario.entry("APIM_SUBSCRIPTION_KEY"), key);

    scenario.world.cluster.change(SECRET, |secret| {
        secret["data"]["APIM_SUBSCRIPTION_KEY"] = json!("ZWRpdGVk");
    });
    let (_, arm) = scenario.pass().await;
    assert_eq!(arm, asked);
    assert_eq!(scenario.entry("APIM_SUBSCRIPTION_KEY"), key);

    // What else is damaged needs no key from Azure.
    scenario.world.cluster.change(SECRET, |secret| {
        secret["data"]["APIM_ENDPOINT"] = json!("aHR0cDovL2V2aWw=");
    });
    let (cluster, arm) = scenario.pass().await;
    assert_eq!((cluster, arm), (vec!["PATCH secret".to_owned()], vec![]));
    assert_eq!(
        scenario.entry("APIM_ENDPOINT").as_deref(),
        Some("https://gw.example")
    );
}

#[tokio::test]
async fn a_product_of_somebody_else_is_left_alone() {
    let mut scenario = Scenario::new(&["weather"]).await;
    scenario.add_server("weather", "contoso");
    scenario.world.arm.put(
        &product(),
        json!({"displayName": "Theirs", "description": "Not ours."}),
    );
    let (_, arm) = scenario.pass().await;
    assert_eq!(arm, [""; 0]);
    assert_eq!(scenario.condition("Registered").1, "Conflict");

    // Its deletion leaves it alone, too.
    scenario.change_access(|access| access["metadata"]["deletionTimestamp"] = json!("2026-11-21T10:00:00Z"));
    scenario.pass().await;
    assert_eq!(scenario.world.cluster.get(ACCESS), None);
    assert_eq!(
        scenario.world.arm.get(&product()).unwrap()["displayName"],
        "Theirs"
    );
}

#[tokio::test]
async fn deletion_waits_for_the_gateway_and_says_so() {
    let mut scenario = Scenario::new(&["weather"]).await;
    scenario.add_server("weather", "contoso");
    scenario.pass().await;
    scenario.change_access(|access| access["metadata"]["deletionTimestamp"] = json!("2026-11-21T10:00:00Z"));
    scenario.world.arm.fail(Some((403, "AuthorizationFailed")));
    scenario.pass().await;
    let (status, reason, message) = scenario.condition("Ready");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Deleting"));
    assert!(message.starts_with("deletion waits: failed to"), "{message}");
    assert_eq!(
        scenario.pass().await,
        (vec![], vec![]),
        "the same trouble is no news"
    );

    scenario.world.arm.fail(None);
    scenario.pass().await;
    assert_eq!(scenario.world.cluster.get(ACCESS), None);
    assert_eq!(scenario.world.arm.get(&product()), None);
}

#[tokio::test]
async fn an_access_that_never_registered_goes_at_once() {
    let mut scenario = Scenario::new(&["weather"]).await;
    scenario.change_access(|access| {
        access["metadata"]["finalizers"] = json!(["mcpfleet.dev/finalizer"]);
        // Somebody applied a copy of another access: its claim is not ours to act on.
        let claim = json!({"uid": "other", "gateway": "contoso", "service": "s", "product": product(), "subscription": "t"});
        access["metadata"]["annotations"] = json!({"mcpfleet.dev/claim": claim.to_string()});
        access["metadata"]["deletionTimestamp"] = json!("2026-11-21T10:00:00Z");
    });
    scenario
        .world
        .arm
        .put(&product(), json!({"displayName": "of the other"}));
    let (_, arm) = scenario.pass().await;
    assert_eq!(arm, [""; 0]);
    assert_eq!(scenario.world.cluster.get(ACCESS), None);
}

#[tokio::test]
async fn an_api_that_is_not_there_yet_is_awaited() {
    let mut scenario = Scenario::new(&["weather"]).await;
    scenario.add_server("weather", "contoso");
    scenario.world.arm.remove(&format!("/apis/{}", api("weather")));
    scenario.pass().await;
    let (status, reason, _) = scenario.condition("Ready");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "ApiMissing"));
    assert_eq!(scenario.controller.state.backoff.len(), 1);
    scenario.add_api("weather");
    scenario.pass().await;
    scenario.assert_ready();
    assert_eq!(scenario.controller.state.backoff.len(), 0);
}

#[tokio::test]
async fn a_suspended_subscription_stays_so_and_is_told() {
    let mut scenario = Scenario::new(&["weather"]).await;
    scenario.add_server("weather", "contoso");
    scenario.pass().await;
    let path = format!("/subscriptions/{}", id());
    let mut subscription = scenario.world.arm.get(&path).unwrap();
    subscription["state"] = json!("suspended");
    scenario.world.arm.put(&path, subscription);
    // What was changed there may have been the key.
    let (_, arm) = scenario.pass().await;
    assert_eq!(arm, [format!("POST {path}/listSecrets")]);
    assert_eq!(scenario.condition("Ready").1, "SubscriptionNotActive");
    assert_eq!(scenario.pass().await, (vec![], vec![]));
}

/// Who may edit a server may edit its annotations, and must not get a key to an API of somebody else by that.
#[tokio::test]
async fn a_forged_claim_opens_nothing_else() {
    let mut scenario = Scenario::new(&["weather"]).await;
    scenario.add_server("weather", "contoso");
    scenario
        .world
        .arm
        .put("/apis/payments", json!({"path": "payments"}));
    scenario.change_server("weather", |server| {
        let claim = &mut server["metadata"]["annotations"]["mcpfleet.dev/claim"];
        *claim = json!(claim.as_str().unwrap().replace(&api("weather"), "payments"));
    });
    scenario.pass().await;
    assert_eq!(scenario.linked(), ["weather"]);
}

/// The service refuses to delete what others refer to with 400; that ends without a word to us.
#[tokio::test]
async fn a_deletion_that_is_refused_is_tried_again() {
    let mut scenario = Scenario::new(&["weather"]).await;
    scenario.add_server("weather", "contoso");
    scenario.pass().await;
    scenario.change_access(|access| access["metadata"]["deletionTimestamp"] = json!("2026-11-21T10:00:00Z"));
    scenario.world.arm.fail(Some((400, "ValidationError")));
    scenario.world.sync();
    let access = scenario.world.context.caches.accesses.list().pop().unwrap();
    let next = reconcile(access, &scenario.controller).await;
    assert_ne!(next, Again::WhenAsked);
}
