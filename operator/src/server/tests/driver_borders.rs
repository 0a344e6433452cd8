//! Scenarios of the driver in which the platform gives or takes leave, or nobody knows yet what it is.

use super::driver::{DEPLOYMENT, GATEWAY, SERVER, SERVICE, Scenario};
use super::*;

#[tokio::test]
async fn a_gateway_that_nobody_has_looked_at_holds_back_no_pods() {
    let mut scenario = Scenario::new("").await;
    let status = scenario.world.cluster.get(GATEWAY).unwrap()["status"].clone();
    scenario
        .world
        .cluster
        .change(GATEWAY, |gateway| gateway["status"] = json!({}));
    let writes = scenario.pass().await;
    assert!(writes.contains(&format!("PATCH {DEPLOYMENT}")), "{writes:?}");
    let type_ = || scenario.world.cluster.get(SERVICE).unwrap()["spec"]["type"].clone();
    assert_eq!(type_(), "ClusterIP", "nobody knows whom to let in");
    assert_eq!(scenario.told("Accepted").1, "GatewayNotReady");
    scenario
        .world
        .cluster
        .change(GATEWAY, |gateway| gateway["status"] = status);
    scenario.pass().await;
    let service = scenario.world.cluster.get(SERVICE).unwrap();
    assert_eq!(service["spec"]["type"], "LoadBalancer");
    assert_eq!(
        service["spec"]["loadBalancerSourceRanges"],
        json!(["203.0.113.9/32"])
    );
}

/// As after a restore of the gateway object from a backup.
#[tokio::test]
async fn a_gateway_that_was_made_anew_changes_no_load_balancer() {
    let mut scenario = Scenario::ready("").await;
    scenario
        .world
        .cluster
        .change(GATEWAY, |gateway| gateway["status"] = json!({}));
    let before = scenario.world.cluster.get(SERVICE);
    scenario.pass().await;
    assert_eq!(scenario.world.cluster.get(SERVICE), before);
    assert!(scenario.world.arm.take_writes().is_empty());
    assert_eq!(
        scenario.told("Registered").0,
        "True",
        "what is registered stays so"
    );
    assert_eq!(scenario.told("Accepted").1, "GatewayNotReady");
}

#[tokio::test]
async fn a_namespace_that_is_no_longer_allowed_is_taken_out_of_the_gateway_and_told() {
    let mut scenario = Scenario::ready("").await;
    scenario.world.cluster.change(GATEWAY, |gateway| {
        gateway["spec"]["allowedNamespaces"] = json!(["payments"]);
    });
    scenario.pass().await;
    assert!(
        scenario.world.arm.paths().is_empty(),
        "{:?}",
        scenario.world.arm.paths()
    );
    let (status, reason, message) = scenario.told("Registered");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "GatewayNotAllowed"));
    assert!(message.contains("taken back"), "{message}");
    assert!(scenario.status()["gateway"].is_null());
    assert!(
        scenario.object()["metadata"]["finalizers"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    scenario.world.cluster.remove(DEPLOYMENT);
    let writes = scenario.pass().await;
    assert!(writes.contains(&format!("PATCH {DEPLOYMENT}")), "{writes:?}");
    let service = scenario.world.cluster.get(SERVICE).unwrap();
    assert_eq!(service["spec"]["type"], "ClusterIP", "of no use to anybody now");
}

/// As after an upgrade from a version that opened it, or a gateway that moved to a v2 tier.
#[tokio::test]
async fn a_load_balancer_whose_gateway_reports_no_addresses_is_closed_after_the_api_is_gone() {
    let mut scenario = Scenario::ready("image: registry.example.com/other:1").await;
    scenario.world.cluster.change(SERVICE, |service| {
        service["spec"]["loadBalancerSourceRanges"] = json!(null);
    });
    scenario.world.cluster.change(GATEWAY, |gateway| {
        gateway["status"]["sourceAddresses"] = json!([]);
        gateway["status"]["sku"] = json!("StandardV2");
    });
    scenario.world.arm.fail(Some((503, "ServiceUnavailable")));
    scenario.pass().await;
    let service = scenario.world.cluster.get(SERVICE).unwrap();
    assert_eq!(
        service["spec"]["loadBalancerSourceRanges"],
        json!(["192.0.2.0/24"]),
        "nobody is let in, and the address is kept"
    );
    scenario.world.arm.fail(None);
    scenario.pass().await;
    assert!(scenario.world.arm.paths().is_empty());
    scenario.pass().await;
    let service = scenario.world.cluster.get(SERVICE).unwrap();
    assert_eq!(service["spec"]["type"], "ClusterIP");
    assert_eq!(scenario.told("Accepted").1, "NoSourceAddresses");
    assert_eq!(scenario.told("Available").0, "True");
    assert_eq!(scenario.pass().await, Vec::<String>::new(), "said once");
}

#[tokio::test]
async fn another_name_of_the_gateway_changes_the_claim_and_nothing_in_azure() {
    let mut scenario = Scenario::ready("").await;
    let status = scenario.world.cluster.get(GATEWAY).unwrap()["status"].clone();
    scenario.world.add_gateway("renamed", |gateway| {
        gateway["status"] = status;
        // As in the ids that the service in memory has.
        gateway["spec"]["apim"]["subscriptionId"] = json!("s");
    });
    scenario.change_spec(|spec| spec["gateway"] = json!({"name": "renamed"}));
    let documents = scenario.world.arm.paths();
    scenario.pass().await;
    assert_eq!(scenario.world.arm.paths(), documents);
    let writes = scenario.world.arm.take_writes();
    assert!(
        !writes.iter().any(|write| write.starts_with("DELETE")),
        "{writes:?}"
    );
    let claim = scenario.object()["metadata"]["annotations"]["mcpfleet.dev/claim"].clone();
    assert!(
        claim.as_str().unwrap().contains("\"gateway\":\"renamed\""),
        "{claim}"
    );
    assert_eq!(scenario.told("Ready").0, "True", "{:?}", scenario.status());
}

/// The platform takes back what a rule had allowed.
#[tokio::test]
async fn a_leave_that_is_withdrawn_deregisters() {
    let mut scenario = Scenario::new("gateway: {subscriptionRequired: false}").await;
    scenario.world.cluster.change(GATEWAY, |gateway| {
        gateway["spec"]["allow"] = json!({"anonymous": true});
    });
    scenario.pass().await;
    scenario.workload_becomes_ready();
    scenario.pass().await;
    assert_eq!(scenario.told("Registered").0, "True", "{:?}", scenario.status());
    scenario
        .world
        .cluster
        .change(GATEWAY, |gateway| gateway["spec"]["allow"] = json!({}));
    scenario.pass().await;
    assert!(scenario.world.arm.paths().is_empty());
    let (status, reason, message) = scenario.told("Registered");
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "AnonymousNotAllowed")
    );
    assert!(
        message.contains("McpGateway contoso spec.allow.anonymous"),
        "{message}"
    );
}

/// Whoever may edit a server may write any names into its claim; they aim no DELETE, and hold nothing up.
#[tokio::test]
async fn a_forged_claim_deletes_nothing() {
    let mut scenario = Scenario::new("gateway: {enabled: false}").await;
    let service = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ApiManagement/service/contoso";
    let victim = format!("{service}/apis/demo-payments-ledger-0badcafe");
    let claim = json!({"uid": "uid-weather", "gateway": "contoso", "service": service, "api": victim,
        "backend": format!("{service}/backends/demo-payments-ledger-0badcafe"),
        "subscription": format!("{service}/subscriptions/demo-payments-ledger-0badcafe")});
    let forge = |scenario: &Scenario| {
        scenario.world.cluster.change(SERVER, |server| {
            server["metadata"]["annotations"] = json!({"mcpfleet.dev/claim": claim.to_string()});
            server["metadata"]["finalizers"] = json!(["mcpfleet.dev/finalizer"]);
        });
    };
    forge(&scenario);
    scenario.pass().await;
    assert_eq!(scenario.world.arm.take_writes(), Vec::<String>::new());
    assert!(scenario.object()["metadata"]["annotations"]["mcpfleet.dev/claim"].is_null());
    forge(&scenario);
    scenario.delete();
    scenario.pass().await;
    assert!(scenario.world.cluster.get(SERVER).is_none());
    assert_eq!(scenario.world.arm.take_writes(), Vec::<String>::new());
}
