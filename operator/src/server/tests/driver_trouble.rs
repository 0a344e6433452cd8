//! Scenarios of the driver in which something fails that the line itself does not see.

use axum::Router;
use axum::http::StatusCode;

use super::driver::{SERVER, Scenario};
use super::*;
use crate::fake::GROUP;

/// A status that was not written must be written soon, and not with the next look for drift.
#[tokio::test]
async fn a_status_that_was_not_written_is_written_soon() {
    let mut scenario = Scenario::ready("").await;
    scenario.change_spec(|spec| spec["replicas"] = json!(2));
    scenario
        .world
        .cluster
        .break_path("mcpservers/weather/status", 500);
    scenario.pass().await;
    assert_eq!(scenario.controller.state.backoff.len(), 1);
}

/// The service refuses to delete what others refer to with 400; that ends without a word to us.
#[tokio::test]
async fn a_deletion_that_is_refused_is_tried_again() {
    let mut scenario = Scenario::ready("").await;
    scenario.delete();
    scenario.world.arm.fail(Some((400, "ValidationError")));
    scenario.pass().await;
    assert!(scenario.is_tried_again());
    assert!(scenario.world.cluster.get(SERVER).is_some());
}

/// A gateway needs seconds to know a new key: until then, writing the key again would be a write for nothing.
#[tokio::test]
async fn a_key_that_is_new_is_not_written_again_at_once() {
    let mut scenario = Scenario::ready("").await;
    let router = Router::new().fallback(|| async { StatusCode::UNAUTHORIZED });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    scenario
        .world
        .cluster
        .change(&format!("{GROUP}/mcpgateways/contoso"), |gateway| {
            gateway["status"]["gatewayUrl"] = json!(format!("http://{address}"));
        });
    for _ in 0..3 {
        scenario.pass().await;
    }
    assert_eq!(scenario.world.arm.take_writes(), [""; 0]);
}

#[tokio::test]
async fn a_service_that_is_gone_holds_no_deletion_up() {
    let mut scenario = Scenario::ready("").await;
    scenario.delete();
    scenario.world.arm.fail(Some((404, "ResourceGroupNotFound")));
    scenario.pass().await;
    assert!(scenario.world.cluster.get(SERVER).is_none());
}

/// The process died when it had sent the import, and the service does not show the API yet.
#[tokio::test]
async fn an_api_that_is_not_seen_yet_is_deleted_too() {
    let mut scenario = Scenario::ready("").await;
    let apis = scenario.world.arm.paths();
    let api = apis.iter().find(|path| path.starts_with("/apis/")).unwrap();
    scenario.world.arm.remove(api);
    scenario.delete();
    scenario.pass().await;
    let writes = scenario.world.arm.take_writes();
    assert!(writes.contains(&format!("DELETE {api}")), "{writes:?}");
    assert!(scenario.world.cluster.get(SERVER).is_none());
}

#[tokio::test]
async fn a_lost_claim_leaves_nothing_behind() {
    let mut scenario = Scenario::ready("").await;
    scenario.world.cluster.change(SERVER, |server| {
        server["metadata"]["annotations"] = json!({});
    });
    scenario.delete();
    scenario.pass().await;
    assert!(scenario.world.cluster.get(SERVER).is_none());
    let left = scenario.world.arm.paths();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_refused_end_of_a_registration_is_tried_again() {
    let mut scenario = Scenario::ready("").await;
    scenario.change_spec(|spec| spec["gateway"] = json!({"enabled": false}));
    scenario.world.arm.fail(Some((400, "ValidationError")));
    scenario.pass().await;
    assert!(scenario.is_tried_again());
}
