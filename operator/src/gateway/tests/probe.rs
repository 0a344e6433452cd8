//! Scenarios of the subscription with which all servers are verified (`probe: AllApis`).

use mcp_fleet_crds::McpGateway;
use serde_json::{Value, json};

use super::driver::Scenario;
use crate::fake::GROUP;
use crate::gateway::{Controller, probe_key};

const SUBSCRIPTION: &str = "/subscriptions/demo-mcp-fleet-probe-contoso-15bd130c";

async fn all_apis() -> Scenario {
    let scenario = Scenario::new().await;
    scenario
        .world
        .add_gateway("contoso", |gateway| gateway["spec"]["probe"] = json!("AllApis"));
    scenario
}

async fn registered() -> Scenario {
    let mut scenario = all_apis().await;
    scenario.pass().await;
    scenario.world.arm.take_writes();
    scenario.world.arm.take_reads();
    scenario
}

impl Scenario {
    fn subscription(&self) -> Option<Value> {
        self.world.arm.get(SUBSCRIPTION)
    }

    fn claim(&self) -> Value {
        let gateway = self.gateway("contoso").unwrap();
        let text = gateway["metadata"]["annotations"]["mcpfleet.dev/claim"].as_str();
        serde_json::from_str(text.unwrap()).unwrap()
    }

    fn change_mode(&self, mode: &str) {
        let path = format!("{GROUP}/mcpgateways/contoso");
        self.world.cluster.change(&path, |gateway| {
            gateway["spec"]["probe"] = json!(mode);
            gateway["metadata"]["generation"] =
                json!(gateway["metadata"]["generation"].as_i64().unwrap() + 1);
        });
    }

    /// The next check, without waiting for it.
    fn forget_checks(&self) {
        self.controller.checks.lock().unwrap().clear();
    }

    /// A server that uses the gateway and tells how the probe went.
    fn server_tells(&self, reason: &str) {
        self.add_server("weather", "contoso");
        let path = format!("{GROUP}/namespaces/tools/mcpservers/weather");
        self.world.cluster.change(&path, |server| {
            server["status"] = json!({"conditions": [{"type": "Verified", "status": "Unknown", "reason": reason,
                "message": "", "lastTransitionTime": "2026-11-21T10:00:00Z"}]});
        });
    }
}

#[tokio::test]
async fn it_is_made_once_and_then_left_alone() {
    let mut scenario = all_apis().await;
    scenario.pass().await;
    assert_eq!(scenario.world.arm.take_writes(), [format!("PUT {SUBSCRIPTION}")]);
    assert_eq!(
        SUBSCRIPTION.strip_prefix("/subscriptions/"),
        scenario.claim()["probe"].as_str()
    );
    let made = scenario.subscription().unwrap();
    let gateway: McpGateway = serde_json::from_value(scenario.gateway("contoso").unwrap()).unwrap();
    let client = scenario.world.arm.client();
    let key = probe_key(&gateway, client.target(), &scenario.world.context.probe_keys);
    assert_eq!(
        (&made["scope"], &made["state"], &made["primaryKey"]),
        (&json!("/apis"), &json!("active"), &json!(key.expose()))
    );
    assert!(
        made["displayName"]
            .as_str()
            .unwrap()
            .starts_with("mcp-fleet/contoso "),
        "{made}"
    );
    assert_eq!(scenario.condition("contoso", "Registered").0, "True");
    assert_eq!(scenario.condition("contoso", "Ready").0, "True");

    scenario.world.arm.take_reads();
    assert_eq!(scenario.pass().await, [""; 0]);
    assert_eq!(scenario.world.arm.take_reads(), 0);

    // After a restart service, diagnostics and subscription are read once, and nothing is written.
    scenario.controller = Controller::new(scenario.world.context.clone(), scenario.world.events());
    assert_eq!(scenario.pass().await, [""; 0]);
    assert_eq!(scenario.world.arm.take_reads(), 3);
    assert_eq!(scenario.world.arm.take_writes(), [""; 0]);
}

#[tokio::test]
async fn the_claim_comes_first() {
    let mut scenario = all_apis().await;
    scenario.world.cluster.break_path("mcpgateways/contoso", 500);
    scenario.pass().await;
    assert_eq!(scenario.world.arm.take_writes(), [""; 0]);
    assert_eq!(scenario.subscription(), None);
}

#[tokio::test]
async fn what_somebody_changed_or_removed_comes_back() {
    let mut scenario = registered().await;
    let mut suspended = scenario.subscription().unwrap();
    suspended["state"] = json!("suspended");
    scenario.world.arm.put(SUBSCRIPTION, suspended);
    scenario.forget_checks();
    scenario.pass().await;
    assert_eq!(scenario.subscription().unwrap()["state"], "active");
    scenario.world.arm.remove(SUBSCRIPTION);
    scenario.forget_checks();
    scenario.pass().await;
    assert_eq!(
        scenario.world.arm.take_writes(),
        [format!("PATCH {SUBSCRIPTION}"), format!("PUT {SUBSCRIPTION}")]
    );
}

#[tokio::test]
async fn somebody_elses_is_a_conflict_and_stays() {
    for label in ["mcp-fleet/fabrikam 0123456789abcdef uid-1", "Our own tests"] {
        let mut scenario = all_apis().await;
        let theirs = json!({"displayName": label, "scope": "/apis", "state": "active"});
        scenario.world.arm.put(SUBSCRIPTION, theirs.clone());
        scenario.pass().await;
        for type_ in ["Registered", "Ready"] {
            let (status, reason, message) = scenario.condition("contoso", type_);
            assert_eq!((status.as_str(), reason.as_str()), ("False", "Conflict"));
            assert!(message.contains("left alone"), "{message}");
        }
        assert_eq!(scenario.condition("contoso", "Available").0, "True");
        scenario.forget_checks();
        assert_eq!(scenario.pass().await, [""; 0], "said once");

        scenario.delete("contoso");
        scenario.pass().await;
        assert_eq!(scenario.gateway("contoso"), None);
        assert_eq!(scenario.subscription(), Some(theirs));
        assert_eq!(scenario.world.arm.take_writes(), [""; 0]);
    }
}

#[tokio::test]
async fn a_refused_key_is_written_again_once() {
    let mut scenario = registered().await;
    scenario.server_tells("ProbeKeyRefused");
    scenario.pass().await;
    assert_eq!(
        scenario.world.arm.take_writes(),
        [""; 0],
        "a new key is on its way to the gateway"
    );
    scenario.server_tells("Verified");
    scenario.forget_checks();
    scenario.pass().await;

    let mut regenerated = scenario.subscription().unwrap();
    let key = regenerated["primaryKey"].clone();
    regenerated["primaryKey"] = json!("regenerated by hand");
    scenario.world.arm.put(SUBSCRIPTION, regenerated);
    scenario.server_tells("Unauthorized");
    scenario.pass().await;
    assert_eq!(scenario.world.arm.take_writes(), [""; 0], "of no concern here");

    scenario.server_tells("ProbeKeyRefused");
    scenario.pass().await;
    assert_eq!(
        scenario.world.arm.take_writes(),
        [format!("PATCH {SUBSCRIPTION}")]
    );
    assert_eq!(scenario.subscription().unwrap()["primaryKey"], key);
    scenario.pass().await;
    assert_eq!(
        scenario.world.arm.take_writes(),
        [""; 0],
        "the next time is the next check's"
    );
}

#[tokio::test]
async fn another_mode_takes_it_away() {
    for mode in ["PerServer", "None"] {
        let mut scenario = registered().await;
        scenario.change_mode(mode);
        // What cannot be removed now is not forgotten, over a restart neither.
        scenario.world.arm.fail(Some((403, "AuthorizationFailed")));
        scenario.pass().await;
        assert!(scenario.claim()["probe"].is_string());
        scenario.world.arm.fail(None);
        scenario.controller = Controller::new(scenario.world.context.clone(), scenario.world.events());
        scenario.pass().await;
        assert_eq!(
            scenario.world.arm.take_writes(),
            [format!("DELETE {SUBSCRIPTION}")]
        );
        assert_eq!(scenario.claim(), json!({"uid": "uid-contoso"}));
        let gateway = scenario.gateway("contoso").unwrap();
        let conditions = gateway["status"]["conditions"].as_array().unwrap();
        assert!(
            !conditions.iter().any(|one| one["type"] == "Registered"),
            "{mode}"
        );
        assert_eq!(scenario.condition("contoso", "Ready").0, "True");
        assert_eq!(scenario.pass().await, [""; 0]);

        scenario.change_mode("AllApis");
        scenario.pass().await;
        assert!(scenario.subscription().is_some());
    }
}

#[tokio::test]
async fn it_goes_before_its_gateway() {
    let mut scenario = registered().await;
    scenario.server_tells("Verified");
    scenario.delete("contoso");
    scenario.pass().await;
    assert!(scenario.subscription().is_some(), "a server still uses it");

    let server = format!("{GROUP}/namespaces/tools/mcpservers/weather");
    scenario.world.cluster.remove(&server);
    scenario.world.arm.fail(Some((403, "AuthorizationFailed")));
    scenario.pass().await;
    let (status, reason, message) = scenario.condition("contoso", "Ready");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Forbidden"));
    assert!(message.starts_with("deletion waits: "), "{message}");
    assert_eq!(scenario.pass().await, [""; 0], "said once");

    scenario.world.arm.fail(None);
    scenario.pass().await;
    assert_eq!(
        scenario.world.arm.take_writes(),
        [format!("DELETE {SUBSCRIPTION}")]
    );
    assert_eq!(scenario.gateway("contoso"), None);
}

#[tokio::test]
async fn a_service_that_is_gone_holds_nobody() {
    let mut scenario = registered().await;
    scenario.delete("contoso");
    scenario.world.arm.fail(Some((404, "ResourceGroupNotFound")));
    scenario.pass().await;
    assert_eq!(scenario.gateway("contoso"), None);
}

#[tokio::test]
async fn a_gateway_of_the_same_name_takes_over_what_a_former_one_left() {
    let mut scenario = registered().await;
    scenario.world.add_gateway("contoso", |gateway| {
        gateway["spec"]["probe"] = json!("AllApis");
        gateway["metadata"]["uid"] = json!("uid-later");
    });
    scenario.forget_checks();
    let former = scenario.subscription().unwrap();
    scenario.pass().await;
    assert_eq!(
        scenario.world.arm.take_writes(),
        [format!("PATCH {SUBSCRIPTION}")]
    );
    let now = scenario.subscription().unwrap();
    assert_ne!(now["primaryKey"], former["primaryKey"]);
    assert!(
        now["displayName"].as_str().unwrap().contains(" uid-later "),
        "{now}"
    );
}
