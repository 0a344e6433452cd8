//! Scenarios of the secret that a gateway sends to its servers.

use serde_json::{Value, json};

use super::driver::Scenario;
use crate::fake::GROUP;
use crate::gateway::Controller;

const NAMED_VALUE: &str = "/namedValues/demo-mcp-fleet-secret-contoso-";
const GATEWAY: &str = "/apis/mcpfleet.dev/v1alpha1/mcpgateways/contoso";

impl Scenario {
    /// A server whose Secret holds these numbers of the gateway's secret.
    fn server_accepts(&self, name: &str, gateway: &str, numbers: &str) {
        self.world.cluster.put(
            &format!("/api/v1/namespaces/tools/secrets/{name}-gateway"),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("{name}-gateway"), "namespace": "tools",
                "uid": format!("uid-{name}-gateway"),
                "annotations": {"mcpfleet.dev/gateway-secret": format!("{gateway} {numbers} 0123abcd")}}}),
        );
    }

    fn named_value(&self) -> Option<Value> {
        let paths = self.world.arm.paths();
        let path = paths.iter().find(|path| path.starts_with(NAMED_VALUE))?;
        self.world.arm.get(path)
    }

    fn told_secret(&self) -> Value {
        self.gateway("contoso").unwrap()["status"]["secret"].clone()
    }

    fn named_value_writes(&self) -> Vec<String> {
        let writes = self.world.arm.take_writes();
        writes
            .iter()
            .map(|write| write.split(NAMED_VALUE).next().unwrap_or_default().to_owned())
            .collect()
    }

    /// As if so much time had passed since status told of the last stage.
    fn time_passes(&self, minutes: i64) {
        self.world.cluster.change(GATEWAY, |gateway| {
            let since = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(minutes);
            gateway["status"]["secret"]["since"] = json!(since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        });
    }
}

async fn with_secret() -> Scenario {
    let mut scenario = Scenario::new().await;
    scenario.world.add_gateway("contoso", |_| ());
    scenario.server_accepts("weather", "contoso", "1");
    scenario.pass().await;
    assert_eq!(scenario.named_value_writes(), ["PUT "]);
    scenario.world.arm.take_reads();
    scenario
}

#[tokio::test]
async fn there_is_one_as_soon_as_a_server_demands_it() {
    let mut scenario = Scenario::new().await;
    scenario.world.add_gateway("contoso", |_| ());
    scenario.server_accepts("maps", "fabrikam", "1");
    scenario.pass().await;
    assert_eq!(scenario.named_value(), None, "another gateway's server");
    assert_eq!(scenario.told_secret(), Value::Null);

    let mut scenario = with_secret().await;
    let value = scenario.named_value().unwrap();
    assert_eq!(value["secret"], true);
    assert_eq!(value["value"].as_str().unwrap().len(), 44);
    assert_eq!(scenario.told_secret(), json!({"number": 1}));
    let claim = scenario.gateway("contoso").unwrap()["metadata"]["annotations"]["mcpfleet.dev/claim"].clone();
    assert!(
        claim.as_str().unwrap().contains("demo-mcp-fleet-secret-contoso-"),
        "{claim}"
    );
    let shown = scenario.gateway("contoso").unwrap().to_string();
    assert!(!shown.contains(value["value"].as_str().unwrap()));

    assert_eq!(scenario.pass().await, [""; 0], "silent");
    assert_eq!(scenario.world.arm.take_reads(), 0);
    // After a restart it is read once, and nothing is written.
    scenario.controller = Controller::new(scenario.world.context.clone(), scenario.world.events());
    assert_eq!(scenario.pass().await, [""; 0]);
    assert_eq!(scenario.world.arm.take_writes(), [""; 0]);
    // The last server goes, the secret stays: it costs nothing, and the next one finds it.
    scenario
        .world
        .cluster
        .remove("/api/v1/namespaces/tools/secrets/weather-gateway");
    scenario.pass().await;
    assert!(scenario.named_value().is_some());
    assert_eq!(scenario.told_secret(), json!({"number": 1}));
}

#[tokio::test]
async fn the_claim_comes_before_the_named_value() {
    let mut scenario = Scenario::new().await;
    scenario.world.add_gateway("contoso", |_| ());
    scenario.server_accepts("weather", "contoso", "1");
    scenario.world.cluster.break_path("mcpgateways/contoso", 500);
    scenario.pass().await;
    assert_eq!(scenario.named_value(), None);
}

#[tokio::test]
async fn what_somebody_changed_comes_back_with_the_next_check() {
    let mut scenario = with_secret().await;
    let path = scenario
        .world
        .arm
        .paths()
        .into_iter()
        .find(|path| path.starts_with(NAMED_VALUE))
        .unwrap();
    let ours = scenario.named_value().unwrap();
    let mut open = ours.clone();
    open["secret"] = json!(false);
    scenario.world.arm.put(&path, open);
    scenario.controller.checks.lock().unwrap().clear();
    scenario.pass().await;
    assert_eq!(scenario.named_value(), Some(ours));
}

#[tokio::test]
async fn a_rotation_goes_through_its_stages_and_outlives_every_restart() {
    let mut scenario = with_secret().await;
    let first = scenario.named_value().unwrap()["value"].clone();
    scenario.world.cluster.change(GATEWAY, |gateway| {
        gateway["spec"]["rotateSecret"] = json!("monday");
    });
    scenario.pass().await;
    assert_eq!(
        scenario.told_secret(),
        json!({"number": 1, "other": 2, "rotation": "monday"})
    );
    assert_eq!(scenario.named_value_writes(), [""; 0]);
    // The server follows; from then on time counts.
    scenario.pass().await;
    assert!(scenario.told_secret().get("since").is_none());
    scenario.server_accepts("weather", "contoso", "2,1");
    scenario.pass().await;
    assert!(scenario.told_secret().get("since").is_some());
    assert_eq!(scenario.pass().await, [""; 0], "silent while it waits");
    scenario.time_passes(3);
    // A process that knows nothing takes it up.
    scenario.controller = Controller::new(scenario.world.context.clone(), scenario.world.events());
    scenario.pass().await;
    assert_eq!(scenario.named_value_writes(), ["PUT "]);
    assert_ne!(scenario.named_value().unwrap()["value"], first);
    let told = scenario.told_secret();
    assert_eq!((&told["number"], &told["other"]), (&json!(2), &json!(1)));
    scenario.time_passes(5);
    scenario.pass().await;
    assert_eq!(scenario.told_secret(), json!({"number": 2, "rotation": "monday"}));
    assert_eq!(scenario.pass().await, [""; 0]);
    assert_eq!(scenario.named_value_writes(), [""; 0]);

    // A status that is lost, as by a restore: the service tells which number it has.
    scenario.world.cluster.change(GATEWAY, |gateway| {
        gateway["status"].as_object_mut().unwrap().remove("secret");
    });
    scenario.pass().await;
    assert_eq!(scenario.told_secret()["number"], 2);
    assert_eq!(scenario.named_value_writes(), [""; 0]);
}

#[tokio::test]
async fn a_switch_that_the_service_refuses_is_tried_again_and_nothing_is_told_before() {
    let mut scenario = with_secret().await;
    scenario.world.cluster.change(GATEWAY, |gateway| {
        gateway["spec"]["rotateSecret"] = json!("monday");
    });
    scenario.pass().await;
    scenario.server_accepts("weather", "contoso", "2,1");
    scenario.pass().await;
    scenario.time_passes(3);
    scenario.world.arm.fail(Some((403, "AuthorizationFailed")));
    scenario.controller.checks.lock().unwrap().clear();
    scenario.pass().await;
    assert_eq!(scenario.told_secret()["number"], 1);
    scenario.world.arm.fail(None);
    scenario.controller.checks.lock().unwrap().clear();
    scenario.pass().await;
    assert_eq!(scenario.told_secret()["number"], 2);
}

#[tokio::test]
async fn what_bears_its_name_and_is_not_ours_is_told() {
    let mut scenario = with_secret().await;
    let path = scenario
        .world
        .arm
        .paths()
        .into_iter()
        .find(|path| path.starts_with(NAMED_VALUE))
        .unwrap();
    let theirs = json!({"displayName": "theirs", "secret": true});
    scenario.world.arm.put(&path, theirs.clone());
    scenario.controller.checks.lock().unwrap().clear();
    scenario.pass().await;
    let (status, reason, message) = scenario.condition("contoso", "Registered");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Conflict"));
    assert!(
        message.contains("secret") && message.contains("named value"),
        "{message}"
    );
    assert_eq!(scenario.world.arm.get(&path), Some(theirs));
}

#[tokio::test]
async fn it_goes_with_the_gateway() {
    let mut scenario = with_secret().await;
    scenario
        .world
        .cluster
        .remove("/api/v1/namespaces/tools/secrets/weather-gateway");
    scenario.delete("contoso");
    scenario.world.arm.fail(Some((500, "down")));
    scenario.pass().await;
    assert!(
        scenario.gateway("contoso").is_some(),
        "it waits for the end of what it made"
    );
    scenario.world.arm.fail(None);
    scenario.pass().await;
    assert_eq!(
        scenario
            .world
            .cluster
            .get(&format!("{GROUP}/mcpgateways/contoso")),
        None
    );
    assert_eq!(scenario.named_value(), None);
}
