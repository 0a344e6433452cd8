//! Servers by their labels, hindrances beside each other, and the way out of a deletion that waits.

use futures::{FutureExt as _, StreamExt as _};
use serde_json::{Value, json};

use super::scenario::{ACCESS, Scenario, api, product};
use crate::access::triggers;

async fn selecting(servers: &[&str]) -> Scenario {
    let scenario = Scenario::new(&[]).await;
    scenario.change_access(|access| {
        access["spec"] =
            json!({"selector": {"matchLabels": {"audience": "agents"}, "namespaces": ["tools"]}});
    });
    for name in servers {
        scenario.add_server(name, "contoso");
        label(&scenario, name, "agents");
    }
    scenario
}

fn label(scenario: &Scenario, server: &str, audience: &str) {
    scenario.change_server(server, |server| {
        server["metadata"]["labels"] = json!({"audience": audience});
    });
}

fn status(scenario: &Scenario) -> Value {
    scenario.world.cluster.get(ACCESS).unwrap()["status"].clone()
}

#[tokio::test]
async fn servers_come_and_go_by_their_labels() {
    let mut scenario = selecting(&["weather", "maps"]).await;
    scenario.add_server("news", "contoso");
    scenario.pass().await;
    scenario.assert_ready();
    assert_eq!(scenario.linked(), ["maps", "weather"]);
    assert_eq!(status(&scenario)["serverCount"], 2);
    assert_eq!(scenario.pass().await, (vec![], vec![]));

    label(&scenario, "news", "agents");
    label(&scenario, "maps", "others");
    let (_, arm) = scenario.pass().await;
    assert_eq!(
        arm,
        [
            format!("DELETE product/apis/{}", api("maps")),
            format!("PUT product/apis/{}", api("news"))
        ],
        "what goes is first"
    );
    assert_eq!(scenario.linked(), ["news", "weather"]);

    // Consent decides for each of them, and a refusal of one is nobody else's trouble.
    scenario.change_server("news", |server| server["spec"] = json!({}));
    scenario.pass().await;
    assert_eq!(scenario.linked(), ["weather"]);
    scenario.assert_ready();
    let message = scenario.condition("Accepted").2;
    assert!(
        message.contains("1 do not consent") && !message.contains("news"),
        "{message}"
    );
}

#[tokio::test]
async fn a_selector_waits_for_somebody_and_opens_fifty_at_most() {
    let mut scenario = selecting(&[]).await;
    let (_, arm) = scenario.pass().await;
    assert_eq!(arm, [""; 0]);
    assert_eq!(scenario.condition("Ready").1, "NothingSelected");

    let names: Vec<String> = (0..51).map(|number| format!("server{number:02}")).collect();
    for name in &names[1..] {
        scenario.add_server(name, "contoso");
        label(&scenario, name, "agents");
    }
    scenario.pass().await;
    scenario.assert_ready();
    assert_eq!(status(&scenario)["serverCount"], 50);
    // One more, that sorts first: those that are open stay open.
    scenario.add_server(&names[0], "contoso");
    label(&scenario, &names[0], "agents");
    let (_, arm) = scenario.pass().await;
    assert_eq!(arm, [""; 0]);
    let (status, reason, message) = scenario.condition("Accepted");
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "TooManyServers"),
        "{message}"
    );
    assert_eq!(scenario.linked().len(), 50);
}

#[tokio::test]
async fn a_server_of_another_gateway_does_not_stop_the_others() {
    let mut scenario = selecting(&["weather"]).await;
    scenario.pass().await;
    scenario.world.add_gateway("fabrikam", |gateway| {
        gateway["status"] = json!({"conditions": [], "gatewayUrl": "https://other.example"});
    });
    scenario.add_server("alien", "fabrikam");
    label(&scenario, "alien", "agents");
    scenario.add_server("maps", "contoso");
    label(&scenario, "maps", "agents");
    scenario.pass().await;
    assert_eq!(scenario.linked(), ["maps", "weather"]);
    let (_, reason, message) = scenario.condition("Accepted");
    assert_eq!(reason, "DifferentGateways");
    assert!(
        message.contains("tools/alien is in gateway fabrikam"),
        "{message}"
    );
}

/// The consumer sees all that is in the way at once, each with what to do.
#[tokio::test]
async fn hindrances_do_not_hide_each_other() {
    let mut scenario = Scenario::new(&["weather", "maps", "news"]).await;
    for name in ["weather", "maps"] {
        scenario.add_server(name, "contoso");
    }
    scenario.change_server("weather", |server| server["spec"] = json!({}));
    scenario.change_server("maps", |server| {
        server["spec"]["gateway"]["enabled"] = json!(false);
    });
    scenario.pass().await;
    let (_, _, message) = scenario.condition("Ready");
    for expected in [
        "tools/weather does not consent: its owner adds spec: {gateway: {access: {namespaces: [Same, agents]}}}",
        "tools/maps is in no gateway",
        "there is no McpServer tools/news",
    ] {
        assert!(message.contains(expected), "{expected}: {message}");
    }
}

#[tokio::test]
async fn a_platform_that_excludes_a_namespace_closes_its_servers() {
    let mut scenario = Scenario::new(&["weather"]).await;
    scenario.add_server("weather", "contoso");
    scenario.pass().await;
    let gateway = format!("{}/mcpgateways/contoso", crate::fake::GROUP);
    scenario.world.cluster.change(&gateway, |gateway| {
        gateway["spec"]["allowedNamespaces"] = json!(["other"]);
    });
    let (_, arm) = scenario.pass().await;
    assert_eq!(arm, [format!("DELETE product/apis/{}", api("weather"))]);
    let (_, reason, message) = scenario.condition("Accepted");
    assert_eq!(reason, "GatewayNotAllowed");
    assert!(message.contains("spec.allowedNamespaces"), "{message}");
    assert_eq!(status(&scenario)["serverCount"], 0);
}

/// A consumer that strips the claim does not make the operator forget what it has registered.
#[tokio::test]
async fn a_deletion_without_a_claim_still_removes_what_status_tells() {
    let mut scenario = Scenario::new(&["weather"]).await;
    scenario.add_server("weather", "contoso");
    scenario.pass().await;
    scenario.change_access(|access| {
        access["metadata"]["annotations"] = json!({});
        access["metadata"]["deletionTimestamp"] = json!("2026-11-21T10:00:00Z");
    });
    let (_, arm) = scenario.pass().await;
    assert_eq!(arm, ["DELETE product"]);
    assert_eq!(scenario.world.cluster.get(ACCESS), None);
}

#[tokio::test]
async fn what_the_service_refuses_comes_back_slowly() {
    let mut scenario = Scenario::new(&["weather"]).await;
    scenario.add_server("weather", "contoso");
    scenario
        .world
        .arm
        .break_write(&product(), (400, "ValidationError"));
    scenario.world.sync();
    let access = scenario.world.context.caches.accesses.list().pop().unwrap();
    let next = crate::access::reconcile(access, &scenario.controller).await;
    assert_ne!(next, crate::runtime::queue::Again::WhenAsked);
    assert_eq!(scenario.condition("Registered").1, "Refused");
}

/// What asks for a pass, change by change.
#[tokio::test]
async fn each_change_of_a_server_asks_for_a_pass_over_those_it_concerns() {
    type Change = fn(&Scenario);
    let changes: [(&str, Change, bool); 7] = [
        (
            "another label",
            |scenario| label(scenario, "weather", "others"),
            true,
        ),
        (
            "the label again",
            |scenario| label(scenario, "weather", "agents"),
            true,
        ),
        (
            "consent",
            |scenario| {
                scenario.change_server("weather", |server| server["spec"] = json!({}));
            },
            true,
        ),
        (
            "a new server",
            |scenario| {
                scenario.add_server("maps", "contoso");
                label(scenario, "maps", "agents");
            },
            true,
        ),
        (
            "a server without the label",
            |scenario| scenario.add_server("news", "contoso"),
            false,
        ),
        (
            "an API that was made anew",
            |scenario| {
                scenario.change_server("weather", |server| {
                    server["status"]["gateway"]["lastWrite"] =
                        json!({"time": "2026-11-21T10:00:00Z", "what": "api, policy"});
                });
            },
            true,
        ),
        (
            "another write",
            |scenario| {
                scenario.change_server("maps", |server| {
                    server["status"]["gateway"]["lastWrite"] =
                        json!({"time": "2026-11-21T10:00:00Z", "what": "api (path), policy"});
                });
            },
            false,
        ),
    ];
    let mut scenario = selecting(&["weather"]).await;
    scenario.world.sync();
    let mut asked = Box::pin(triggers::all(&scenario.world.context.caches));
    let mut count = || {
        let mut count = 0;
        while let Some(Some(_)) = asked.next().now_or_never() {
            count += 1;
        }
        count
    };
    assert!(count() > 0);
    for (what, change, expected) in changes {
        change(&scenario);
        scenario.world.sync();
        assert_eq!(count() > 0, expected, "{what}");
    }
}

/// The last thing that can be taken away is taken away although the product stays.
#[tokio::test]
async fn a_deletion_that_is_refused_leaves_no_link() {
    let mut scenario = Scenario::new(&["weather", "maps"]).await;
    scenario.add_server("weather", "contoso");
    scenario.add_server("maps", "contoso");
    scenario.pass().await;
    scenario
        .world
        .arm
        .break_write(&product(), (400, "ValidationError"));
    scenario.change_access(|access| access["metadata"]["deletionTimestamp"] = json!("2026-11-21T10:00:00Z"));
    let (_, arm) = scenario.pass().await;
    for name in ["maps", "weather"] {
        assert!(
            arm.contains(&format!("DELETE product/apis/{}", api(name))),
            "{name}: {arm:?}"
        );
    }
    assert_eq!(scenario.linked(), [""; 0]);
    let (_, arm) = scenario.pass().await;
    assert_eq!(arm, [""; 0], "the refused DELETE did not get to the documents");
}

#[tokio::test]
async fn what_is_registered_is_left_behind_only_where_the_platform_allows_it() {
    for allowed in [false, true] {
        let mut scenario = Scenario::new(&["weather"]).await;
        scenario.add_server("weather", "contoso");
        scenario.pass().await;
        let gateway = format!("{}/mcpgateways/contoso", crate::fake::GROUP);
        scenario.world.cluster.change(&gateway, |gateway| {
            gateway["spec"]["allow"] = json!({"orphan": allowed});
        });
        scenario.change_access(|access| access["spec"]["managementPolicy"] = json!("Orphan"));
        assert_eq!(scenario.pass().await.1, [""; 0]);
        let (status, reason, message) = scenario.condition("Ready");
        if allowed {
            assert_eq!(status, "True", "{message}");
        } else {
            assert_eq!((status.as_str(), reason.as_str()), ("False", "OrphanNotAllowed"));
            assert!(
                message.contains("McpGateway contoso spec.allow.orphan"),
                "{message}"
            );
        }
        // The way out while Azure does not answer, also for one that is being deleted already.
        scenario
            .change_access(|access| access["metadata"]["deletionTimestamp"] = json!("2026-11-21T10:00:00Z"));
        scenario.world.arm.fail(Some((403, "AuthorizationFailed")));
        scenario.pass().await;
        assert_eq!(scenario.world.cluster.get(ACCESS).is_none(), allowed);
        assert!(scenario.world.arm.get(&product()).is_some());
        if !allowed {
            scenario.world.arm.fail(None);
            assert_eq!(scenario.pass().await.1, ["DELETE product"]);
        }
    }
}
