//! Consent that is withdrawn, in every state in which something else is in the way: the link is deleted in that pass.
//! Taking away depends on nothing that the consumer writes.

use serde_json::{Value, json};

use super::scenario::{ACCESS, SECRET, Scenario, api, id, product};

/// What stands in the way of all the rest.
type Hinder = fn(&mut Scenario);

fn foreign_secret(scenario: &mut Scenario) {
    scenario.world.cluster.put(
        SECRET,
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "agents-mcp", "namespace": "agents", "uid": "x"},
            "data": {"password": "aHVudGVyMg=="},
        }),
    );
}

fn another_secret_name(scenario: &mut Scenario) {
    scenario.world.cluster.put(
        "/api/v1/namespaces/agents/secrets/theirs",
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "theirs", "namespace": "agents", "uid": "x"},
            "data": {"password": "aHVudGVyMg=="},
        }),
    );
    scenario.change_access(|access| access["spec"]["secretName"] = json!("theirs"));
}

fn two_gateways(scenario: &mut Scenario) {
    for (name, gateway) in [("news", "fabrikam"), ("stocks", "adatum")] {
        scenario.add_server(name, gateway);
    }
    scenario.change_access(|access| {
        access["spec"]["servers"] = json!([
            {"name": "weather", "namespace": "tools"},
            {"name": "news", "namespace": "tools"},
            {"name": "stocks", "namespace": "tools"},
        ]);
    });
}

fn change_gateway(scenario: &Scenario, change: impl FnOnce(&mut Value)) {
    let path = format!("{}/mcpgateways/contoso", crate::fake::GROUP);
    scenario.world.cluster.change(&path, change);
}

fn wanted_gateway_is_another(scenario: &mut Scenario) {
    scenario.world.add_gateway("fabrikam", |gateway| {
        gateway["status"] = json!({"conditions": []});
    });
    scenario.add_server("news", "fabrikam");
    scenario.change_access(|access| {
        access["spec"]["servers"] = json!([{"name": "news", "namespace": "tools"}]);
    });
}

const STATES: [(&str, Hinder); 20] = [
    ("nothing is in the way", |_| {}),
    ("a planted Secret", foreign_secret),
    ("secretName names a Secret that is not ours", another_secret_name),
    ("the servers are in different gateways", two_gateways),
    ("the gateway reports no URL", |scenario| {
        change_gateway(scenario, |gateway| gateway["status"] = json!({"conditions": []}));
    }),
    ("another server is gone", |scenario| {
        scenario
            .world
            .cluster
            .remove("/apis/mcpfleet.dev/v1alpha1/namespaces/tools/mcpservers/maps");
    }),
    ("the server itself is gone", |scenario| {
        scenario
            .world
            .cluster
            .remove("/apis/mcpfleet.dev/v1alpha1/namespaces/tools/mcpservers/weather");
    }),
    ("the server is not ready", |scenario| {
        scenario.change_server("weather", |server| {
            server["status"]["conditions"] = json!([]);
        });
    }),
    (
        "the server is not registered, and its status is lost",
        |scenario| {
            scenario.change_server("weather", |server| {
                server["status"] = json!({"conditions": []});
                server["metadata"]["annotations"] = json!({});
            });
        },
    ),
    ("the gateway allows the server's namespace no more", |scenario| {
        change_gateway(scenario, |gateway| {
            gateway["spec"]["allowedNamespaces"] = json!(["other"]);
        });
    }),
    ("the consumer's spec is invalid", |scenario| {
        scenario.change_access(|access| access["spec"] = json!({}));
    }),
    (
        "the gateway that is wanted now is another one",
        wanted_gateway_is_another,
    ),
    ("the namespace of the consumer terminates", |scenario| {
        scenario.world.cluster.remove(SECRET);
        scenario
            .world
            .cluster
            .break_path("/namespaces/agents/secrets", 403);
    }),
    ("the Secret cannot be read or written", |scenario| {
        scenario
            .world
            .cluster
            .break_path("/namespaces/agents/secrets", 500);
    }),
    ("the claim is taken off, and cannot be written", |scenario| {
        scenario.change_access(|access| {
            access["metadata"]["annotations"] = json!({});
            access["metadata"]["finalizers"] = json!([]);
        });
        scenario.world.cluster.break_path("mcpaccesses/agents", 422);
    }),
    ("the claim names another gateway", |scenario| {
        scenario.world.add_gateway("fabrikam", |_| {});
        scenario.change_access(|access| {
            let claim = access["metadata"]["annotations"]["mcpfleet.dev/claim"]
                .as_str()
                .unwrap()
                .replace("contoso", "fabrikam");
            access["metadata"]["annotations"]["mcpfleet.dev/claim"] = json!(claim);
            access["spec"]["secretName"] = json!("theirs");
        });
        another_secret_name(scenario);
    }),
    ("ARM does not show the subscription", |scenario| {
        scenario
            .world
            .arm
            .break_path("/subscriptions/", (500, "InternalServerError"));
    }),
    ("ARM refuses the product", |scenario| {
        let mut changed = scenario.world.arm.get(&product()).unwrap();
        changed["displayName"] = json!("by hand");
        scenario.world.arm.put(&product(), changed);
        scenario
            .world
            .arm
            .break_write(&product(), (400, "ValidationError"));
    }),
    ("somebody took the mark from the API", |scenario| {
        let path = format!("{}/apis/{}", product(), api("weather"));
        scenario.world.arm.put(
            &path,
            json!({"path": "demo/tools/weather", "description": "By hand."}),
        );
    }),
    ("somebody took the mark from the product", |scenario| {
        let mut changed = scenario.world.arm.get(&product()).unwrap();
        changed["description"] = json!("by hand");
        scenario.world.arm.put(&product(), changed);
    }),
];

#[tokio::test]
async fn withdrawn_consent_is_unlinked_in_every_state_in_one_pass() {
    let mut kept = vec![];
    for (state, hinder) in STATES {
        let mut scenario = Scenario::new(&["weather", "maps"]).await;
        scenario.add_server("weather", "contoso");
        scenario.add_server("maps", "contoso");
        scenario.pass().await;
        scenario.assert_ready();
        hinder(&mut scenario);
        let server = "/apis/mcpfleet.dev/v1alpha1/namespaces/tools/mcpservers/weather";
        if scenario.world.cluster.get(server).is_some() {
            scenario.change_server("weather", |server| server["spec"] = json!({}));
        }
        let (_, arm) = scenario.pass().await;
        let unlinked = format!("DELETE product/apis/{}", api("weather"));
        if !arm.contains(&unlinked) && !arm.contains(&"DELETE product".to_owned()) {
            kept.push(format!("{state}: {arm:?}"));
        }
        assert!(scenario.world.cluster.get(ACCESS).is_some() && !id().is_empty());
    }
    assert!(kept.is_empty(), "a link outlives consent: {kept:#?}");
}
