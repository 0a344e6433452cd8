//! Scenarios of the driver in which a registration, or all of a server, goes.

use super::driver::{SERVER, SERVICE, Scenario};
use super::*;
use crate::fake::GROUP;
use crate::server::work;

#[tokio::test]
async fn deletion_takes_everything_and_lets_the_object_go() {
    let mut scenario = Scenario::ready("").await;
    scenario.delete();
    scenario.pass().await;
    assert!(
        scenario.world.cluster.get(SERVER).is_none(),
        "the finalizer is gone"
    );
    assert!(
        scenario.world.arm.paths().is_empty(),
        "{:?}",
        scenario.world.arm.paths()
    );
}

#[tokio::test]
async fn deletion_waits_for_the_gateway_and_says_so() {
    let mut scenario = Scenario::ready("").await;
    scenario.delete();
    scenario.world.arm.fail(Some((503, "ServiceUnavailable")));
    scenario.pass().await;
    assert_eq!(scenario.told("Ready").1, "GatewayUnreachable");
    assert_eq!(
        scenario.object()["metadata"]["finalizers"],
        json!(["mcpfleet.dev/finalizer"])
    );
    assert_eq!(scenario.pass().await, Vec::<String>::new(), "said once");
    scenario.world.arm.fail(None);
    scenario.pass().await;
    assert!(scenario.world.cluster.get(SERVER).is_none());
    assert!(scenario.world.arm.paths().is_empty());
}

#[tokio::test]
async fn deletion_without_the_gateway_object_says_what_to_do_and_orphan_ends_it() {
    let mut scenario = Scenario::ready("").await;
    scenario.delete();
    scenario
        .world
        .cluster
        .remove(&format!("{GROUP}/mcpgateways/contoso"));
    scenario.pass().await;
    let (_, reason, message) = scenario.told("Ready");
    assert_eq!(reason, "GatewayNotFound");
    assert!(message.contains("managementPolicy: Orphan"), "{message}");
    scenario.world.sync();
    // The policy changes after the cache was read: the object itself decides.
    scenario.change_spec(|spec| spec["gateway"] = json!({"managementPolicy": "Orphan"}));
    let documents = scenario.world.arm.paths();
    work::registration(Scenario::key(), Arc::clone(&scenario.controller)).await;
    assert!(scenario.world.cluster.get(SERVER).is_none());
    assert_eq!(scenario.world.arm.paths(), documents, "left as it was");
}

#[tokio::test]
async fn a_copied_claim_deletes_nothing() {
    let mut scenario = Scenario::ready("").await;
    scenario.world.cluster.change(SERVER, |server| {
        server["metadata"]["uid"] = json!("uid-copy");
        // A manifest's status is not taken over.
        server["status"] = json!({});
    });
    scenario.delete();
    let documents = scenario.world.arm.paths();
    scenario.pass().await;
    assert!(scenario.world.cluster.get(SERVER).is_none());
    assert_eq!(scenario.world.arm.paths(), documents);
}

#[tokio::test]
async fn switching_registration_off_takes_it_back() {
    let mut scenario = Scenario::ready("").await;
    scenario.change_spec(|spec| spec["gateway"] = json!({"enabled": false}));
    let before = scenario.world.cluster.get(SERVICE).unwrap();
    let writes = scenario.pass().await;
    assert!(!writes.iter().any(|write| write.ends_with(SERVICE)), "{writes:?}");
    assert_eq!(
        before["spec"]["loadBalancerSourceRanges"],
        json!(["203.0.113.9/32"]),
        "restricted as long as it is there"
    );
    assert!(scenario.world.arm.paths().is_empty());
    assert_eq!(scenario.told("Registered").1, "GatewayDisabled");
    assert_eq!(scenario.told("Ready").0, "True");
    assert!(scenario.status()["gateway"].is_null());
    assert!(scenario.object()["metadata"]["annotations"]["mcpfleet.dev/claim"].is_null());
    // The address is given up when nothing is published there any more.
    let writes = scenario.pass().await;
    assert!(writes.contains(&format!("PATCH {SERVICE}")), "{writes:?}");
    let service = scenario.world.cluster.get(SERVICE).unwrap();
    assert_eq!(service["spec"]["type"], "ClusterIP");
    assert!(service["spec"]["loadBalancerSourceRanges"].is_null());
    assert_eq!(scenario.pass().await, Vec::<String>::new());
}

/// While Azure does not answer, the API stays, and so does the address that it points to; nobody else is let in.
#[tokio::test]
async fn what_cannot_be_taken_back_keeps_its_address_and_its_sources() {
    let mut scenario = Scenario::ready("").await;
    scenario.change_spec(|spec| spec["gateway"] = json!({"enabled": false}));
    scenario.world.arm.fail(Some((503, "ServiceUnavailable")));
    let before = scenario.world.cluster.get(SERVICE).unwrap();
    for _ in 0..3 {
        scenario.pass().await;
        assert_eq!(scenario.world.cluster.get(SERVICE).unwrap(), before);
    }
}

#[tokio::test]
async fn orphan_without_leave_deregisters() {
    let mut scenario = Scenario::ready("gateway: {managementPolicy: Manage}").await;
    scenario.change_spec(|spec| spec["gateway"] = json!({"managementPolicy": "Orphan"}));
    scenario.pass().await;
    assert_eq!(scenario.told("Accepted").1, "OrphanNotAllowed");
    assert_eq!(scenario.told("Registered").0, "True");
    scenario.delete();
    scenario.pass().await;
    assert!(scenario.world.cluster.get(SERVER).is_none());
    assert!(scenario.world.arm.paths().is_empty());
}
