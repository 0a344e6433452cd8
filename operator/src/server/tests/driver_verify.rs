//! Scenarios of the driver in which the probe meets something.

use axum::Router;

use super::driver::{SERVER, Scenario};
use super::*;
use crate::fake::GROUP;

#[tokio::test]
async fn a_server_that_is_not_mcp_is_told() {
    let mut scenario = Scenario::new("").await;
    let (address, _stop) = {
        let router = Router::new().fallback(|| async { "<html>hello</html>" });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (
            address,
            tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }),
        )
    };
    scenario.change_spec(|spec| spec["service"]["port"] = json!(address.port()));
    scenario.pass().await;
    scenario.workload_becomes_ready();
    scenario.pass().await;
    assert_eq!(scenario.told("Verified").1, "NotMcp");
    assert_eq!(scenario.told("Registered").0, "True");
}

#[tokio::test]
async fn a_disabled_probe_verifies_the_server_alone() {
    let mut scenario = Scenario::new("").await;
    scenario
        .world
        .cluster
        .change(&format!("{GROUP}/mcpgateways/contoso"), |gateway| {
            gateway["spec"]["probe"] = json!("None");
        });
    scenario.pass().await;
    scenario.workload_becomes_ready();
    scenario.pass().await;
    let (status, _, message) = scenario.told("Verified");
    assert_eq!(status, "True");
    assert!(message.contains("probe is None"), "{message}");
    assert_eq!(scenario.world.arm.take_writes().len(), 3);
}

#[tokio::test]
async fn a_probe_that_comes_a_moment_too_early_is_no_news() {
    let mut scenario = Scenario::new("").await;
    let port = scenario.object()["spec"]["service"]["port"].clone();
    // Nobody listens there yet.
    scenario.change_spec(|spec| spec["service"]["port"] = json!(1));
    scenario.pass().await;
    scenario.workload_becomes_ready();
    assert_eq!(
        scenario.pass().await,
        [format!("PATCH {SERVER}")],
        "the claim alone"
    );
    assert_eq!(scenario.pass().await, Vec::<String>::new());
    scenario.change_spec(|spec| spec["service"]["port"] = port);
    let writes = scenario.pass().await;
    assert!(writes.contains(&format!("PATCH {SERVER}/status")), "{writes:?}");
    assert_eq!(scenario.told("Ready").0, "True");
    let last = scenario.status()["gateway"]["lastWrite"]["what"].clone();
    assert!(
        last.as_str()
            .unwrap()
            .starts_with("backend, api, policy, subscription"),
        "{last}"
    );
}

/// Whoever may change Services must not send the operator elsewhere, not even for the moment until it is changed back.
#[tokio::test]
async fn a_service_that_leads_elsewhere_is_not_called() {
    const SERVICE: &str = "/api/v1/namespaces/tools/services/weather";
    let mut scenario = Scenario::new("").await;
    scenario.pass().await;
    scenario.workload_becomes_ready();
    scenario.world.cluster.change(SERVICE, |service| {
        service["spec"]["type"] = json!("ExternalName");
        service["spec"]["externalName"] = json!("kubernetes.default.svc.cluster.local");
    });
    let writes = scenario.pass().await;
    assert!(writes.contains(&format!("PATCH {SERVICE}")), "{writes:?}");
    // The probe comes after the pass that changed it back; one that comes before is in `driver_lanes`.
    scenario.pass().await;
    assert_eq!(scenario.told("Ready").0, "True", "{:?}", scenario.status());
}

#[tokio::test]
async fn a_server_that_stays_unreachable_is_told() {
    let mut scenario = Scenario::new("").await;
    scenario.change_spec(|spec| spec["service"]["port"] = json!(1));
    scenario.pass().await;
    scenario.workload_becomes_ready();
    for _ in 0..5 {
        scenario.pass().await;
    }
    let (status, reason, _) = scenario.told("Verified");
    assert_eq!((status.as_str(), reason.as_str()), ("Unknown", "Unreachable"));
    assert_eq!(scenario.told("Registered").0, "True");
}
