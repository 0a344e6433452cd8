//! Scenarios of the driver in which the platform gives or takes leave, or nobody knows yet what it is.

use super::driver::{DEPLOYMENT, GATEWAY, SERVICE, Scenario};
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
}
