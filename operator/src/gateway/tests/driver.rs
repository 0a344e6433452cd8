//! Scenarios of the driver.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::azure::apim::{Purpose, resource_name};
use crate::fake::{GROUP, World};
use crate::gateway::{Controller, reconcile};

pub(super) struct Scenario {
    pub(super) world: World,
    pub(super) controller: Controller,
}

impl Scenario {
    pub(super) async fn new() -> Self {
        let world = World::new().await;
        world.arm.put("", service(&["20.1.2.3"]));
        let controller = Controller::new(Arc::clone(&world.context), world.events());
        Self { world, controller }
    }

    /// One pass over each gateway, and what it wrote.
    pub(super) async fn pass(&mut self) -> Vec<String> {
        self.world.sync();
        for gateway in self.world.context.caches.gateways.list() {
            reconcile(gateway, &self.controller).await;
        }
        self.world.sync();
        self.world.cluster.take_writes()
    }

    pub(super) fn gateway(&self, name: &str) -> Option<Value> {
        self.world.cluster.get(&format!("{GROUP}/mcpgateways/{name}"))
    }

    pub(super) fn condition(&self, name: &str, type_: &str) -> (String, String, String) {
        let gateway = self.gateway(name).unwrap();
        let conditions = gateway["status"]["conditions"].as_array().unwrap();
        let found = conditions.iter().find(|one| one["type"] == type_).unwrap();
        let text = |member: &str| found[member].as_str().unwrap().to_owned();
        (text("status"), text("reason"), text("message"))
    }

    pub(super) fn add_server(&self, name: &str, gateway: &str) {
        let uid = format!("uid-{name}");
        let api = resource_name(Purpose::Server, "demo", "tools", name);
        let claim = json!({"uid": uid, "gateway": gateway, "api": format!("/s/apis/{api}")}).to_string();
        self.world.cluster.put(
            &format!("{GROUP}/namespaces/tools/mcpservers/{name}"),
            json!({"apiVersion": "mcpfleet.dev/v1alpha1", "kind": "McpServer", "spec": {},
                "metadata": {"name": name, "namespace": "tools", "uid": uid, "annotations": {"mcpfleet.dev/claim": claim}}}),
        );
    }

    pub(super) fn delete(&self, name: &str) {
        self.world
            .cluster
            .change(&format!("{GROUP}/mcpgateways/{name}"), |gateway| {
                gateway["metadata"]["deletionTimestamp"] = json!("2026-11-21T10:00:00Z");
            });
    }
}

fn service(addresses: &[&str]) -> Value {
    json!({
        "name": "contoso", "sku": {"name": "Developer"},
        "properties": {
            "gatewayUrl": "https://contoso.azure-api.net", "provisioningState": "Succeeded",
            "publicIPAddresses": addresses, "virtualNetworkType": "None",
        },
    })
}

#[tokio::test]
async fn a_new_gateway_is_held_and_described_and_then_left_alone() {
    let mut scenario = Scenario::new().await;
    scenario.world.add_gateway("contoso", |_| ());
    let writes = scenario.pass().await;
    let path = format!("{GROUP}/mcpgateways/contoso");
    assert_eq!(writes, [format!("PATCH {path}"), format!("PATCH {path}/status")]);
    let gateway = scenario.gateway("contoso").unwrap();
    assert_eq!(
        gateway["metadata"]["finalizers"],
        json!(["mcpfleet.dev/finalizer"])
    );
    assert_eq!(gateway["status"]["sourceAddresses"], json!(["20.1.2.3"]));
    assert_eq!(gateway["status"]["gatewayUrl"], "https://contoso.azure-api.net");
    assert_eq!(scenario.condition("contoso", "Ready").0, "True");
    assert_eq!(
        scenario.world.arm.take_reads(),
        2,
        "the service and its diagnostics"
    );

    // Silent: nothing to write, and nothing to ask before the next poll.
    assert_eq!(scenario.pass().await, [""; 0]);
    assert_eq!(scenario.world.arm.take_reads(), 0);

    // After a restart it asks again, and writes nothing.
    scenario.controller = Controller::new(Arc::clone(&scenario.world.context), scenario.world.events());
    assert_eq!(scenario.pass().await, [""; 0]);
    assert_eq!(
        scenario.world.arm.take_reads(),
        2,
        "the service and its diagnostics"
    );
    assert_eq!(scenario.world.arm.take_writes(), [""; 0]);
}

#[tokio::test]
async fn diagnostics_that_break_streams_are_told() {
    let mut scenario = Scenario::new().await;
    let logging = json!({"frontend": {"response": {"body": {"bytes": 1024}}}});
    scenario
        .world
        .arm
        .put("/diagnostics/applicationinsights", logging);
    scenario.world.add_gateway("contoso", |_| ());
    scenario.pass().await;
    let (status, _, message) = scenario.condition("contoso", "Available");
    assert_eq!(status, "True");
    assert!(
        message.contains("response to 0 in applicationinsights (1024 bytes)"),
        "{message}"
    );
    assert_eq!(scenario.condition("contoso", "Ready").0, "True");
}

#[tokio::test]
async fn servers_are_counted_without_asking_azure() {
    let mut scenario = Scenario::new().await;
    scenario.world.add_gateway("contoso", |_| ());
    scenario.pass().await;
    scenario.world.arm.take_reads();
    scenario.add_server("a", "contoso");
    scenario.add_server("b", "contoso");
    scenario.add_server("c", "fabrikam");
    assert_eq!(scenario.pass().await.len(), 1);
    assert_eq!(scenario.gateway("contoso").unwrap()["status"]["servers"], 2);
    assert_eq!(scenario.world.arm.take_reads(), 0);
}

#[tokio::test]
async fn a_changed_address_is_noticed() {
    let mut scenario = Scenario::new().await;
    scenario.world.add_gateway("contoso", |_| ());
    scenario.pass().await;
    scenario.world.arm.put("", service(&["20.1.2.9", "20.1.2.10"]));
    // The next poll, without waiting for it.
    scenario.controller.forget("contoso");
    scenario.world.add_gateway("contoso", |object| {
        let present = scenario.gateway("contoso").unwrap();
        object["metadata"] = present["metadata"].clone();
        object["status"] = present["status"].clone();
    });
    assert_eq!(scenario.pass().await.len(), 1);
    let addresses = &scenario.gateway("contoso").unwrap()["status"]["sourceAddresses"];
    assert_eq!(*addresses, json!(["20.1.2.9", "20.1.2.10"]));
}

#[tokio::test]
async fn trouble_is_told_and_what_was_known_stays() {
    let mut scenario = Scenario::new().await;
    scenario.world.add_gateway("contoso", |_| ());
    scenario.pass().await;
    let cases = [
        (401, "InvalidAuthenticationToken", "AuthenticationFailed"),
        (403, "AuthorizationFailed", "Forbidden"),
        (404, "ResourceNotFound", "ServiceNotFound"),
        (500, "InternalServerError", "ServiceError"),
    ];
    for (status, code, reason) in cases {
        scenario.world.arm.fail(Some((status, code)));
        scenario.controller.checks.lock().unwrap().clear();
        assert_eq!(scenario.pass().await.len(), 1, "{code}");
        let (ready, shown, message) = scenario.condition("contoso", "Ready");
        assert_eq!((ready.as_str(), shown.as_str()), ("False", reason), "{message}");
        assert_eq!(
            scenario.gateway("contoso").unwrap()["status"]["gatewayUrl"],
            "https://contoso.azure-api.net"
        );
        // The same trouble again is no news.
        scenario.controller.checks.lock().unwrap().clear();
        assert_eq!(scenario.pass().await, [""; 0], "{code}");
    }
    scenario.world.arm.fail(None);
    scenario.controller.checks.lock().unwrap().clear();
    scenario.pass().await;
    assert_eq!(scenario.condition("contoso", "Ready").0, "True");
}

#[tokio::test]
async fn two_defaults_are_refused_and_one_is_enough() {
    let mut scenario = Scenario::new().await;
    let default = |object: &mut Value| {
        object["metadata"]["annotations"] = json!({"mcpfleet.dev/is-default-gateway": "true"});
    };
    scenario.world.add_gateway("contoso", default);
    scenario.world.add_gateway("fabrikam", default);
    scenario.pass().await;
    for (name, other) in [("contoso", "fabrikam"), ("fabrikam", "contoso")] {
        let (status, reason, message) = scenario.condition(name, "Accepted");
        assert_eq!((status.as_str(), reason.as_str()), ("False", "TwoDefaults"));
        assert!(message.starts_with(other), "{message}");
        assert_eq!(scenario.condition(name, "Available").0, "True");
    }
    scenario
        .world
        .cluster
        .change(&format!("{GROUP}/mcpgateways/fabrikam"), |gateway| {
            gateway["metadata"]["annotations"] = json!({});
        });
    scenario.pass().await;
    assert_eq!(scenario.condition("contoso", "Ready").0, "True");
    assert_eq!(scenario.condition("fabrikam", "Ready").0, "True");
}

#[tokio::test]
async fn a_deleted_gateway_waits_for_its_servers_and_goes() {
    let mut scenario = Scenario::new().await;
    scenario.world.add_gateway("contoso", |_| ());
    scenario.pass().await;
    scenario.add_server("weather", "contoso");
    scenario.delete("contoso");
    // Azure is not asked any more.
    scenario.world.arm.fail(Some((500, "down")));
    scenario.pass().await;
    let (status, reason, message) = scenario.condition("contoso", "Ready");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Deleting"));
    assert!(message.contains("McpServer tools/weather"), "{message}");
    assert_eq!(scenario.pass().await, [""; 0]);

    // The server's claim counts even when no cache has seen it.
    scenario.world.sync();
    let server = format!("{GROUP}/namespaces/tools/mcpservers/weather");
    let object = scenario.world.cluster.get(&server).unwrap();
    scenario.world.cluster.remove(&server);
    scenario.world.sync();
    scenario.world.cluster.put(&server, object);
    for gateway in scenario.world.context.caches.gateways.list() {
        reconcile(gateway, &scenario.controller).await;
    }
    assert!(scenario.gateway("contoso").is_some());

    scenario.world.cluster.remove(&server);
    scenario.pass().await;
    assert_eq!(scenario.gateway("contoso"), None);
}

#[tokio::test]
async fn a_status_that_cannot_be_written_is_written_later() {
    let mut scenario = Scenario::new().await;
    scenario.world.add_gateway("contoso", |_| ());
    scenario.world.cluster.break_path("/status", 500);
    scenario.pass().await;
    assert_eq!(scenario.controller.state.backoff.len(), 1);
    scenario.world.cluster.break_path("nothing", 500);
    scenario.pass().await;
    assert_eq!(scenario.condition("contoso", "Ready").0, "True");
    assert_eq!(scenario.controller.state.backoff.len(), 0);
}
