//! A process that ends after any of its writes: the next one goes on, makes nothing twice and leaves nothing behind.

use serde_json::{Value, json};

use super::scenario::{ACCESS, SECRET, Scenario, api};

/// What is in Azure and in the Secret, without what two subscriptions never have in common.
fn end_state(scenario: &Scenario) -> (Vec<String>, Vec<String>) {
    let secret: Value = scenario.world.cluster.get(SECRET).unwrap();
    let entries = secret["data"].as_object().unwrap().keys().cloned().collect();
    (scenario.world.arm.paths(), entries)
}

async fn made() -> Scenario {
    let mut scenario = Scenario::new(&["weather", "maps"]).await;
    scenario.add_server("weather", "contoso");
    scenario.add_server("maps", "contoso");
    scenario.pass().await;
    scenario.assert_ready();
    scenario
}

#[tokio::test]
async fn a_create_survives_each_cut() {
    let undisturbed = end_state(&made().await);
    for writes in 0..4 {
        let mut scenario = Scenario::new(&["weather", "maps"]).await;
        scenario.add_server("weather", "contoso");
        scenario.add_server("maps", "contoso");
        scenario.world.arm.cut_after(Some(writes));
        let (_, before) = scenario.pass().await;
        assert_eq!(before.len(), writes + 1, "the cut comes after write {writes}");
        assert_eq!(scenario.world.cluster.get(SECRET), None);
        scenario.world.arm.cut_after(None);
        scenario.restart();
        let (_, after) = scenario.pass().await;
        let twice: Vec<_> = after.iter().filter(|write| before.contains(write)).collect();
        assert!(
            twice.is_empty(),
            "written twice after a cut at {writes}: {twice:?}"
        );
        scenario.assert_ready();
        assert_eq!(end_state(&scenario), undisturbed);
        let key = scenario.entry("APIM_SUBSCRIPTION_KEY").unwrap();
        assert!(key.starts_with("key-"), "{key}");
        assert_eq!(scenario.pass().await, (vec![], vec![]));
    }
}

#[tokio::test]
async fn an_update_survives_each_cut() {
    for writes in 0..2 {
        let mut scenario = made().await;
        scenario.add_server("news", "contoso");
        scenario.change_access(|access| {
            access["spec"]["servers"] =
                json!([{"name": "weather", "namespace": "tools"}, {"name": "news", "namespace": "tools"}]);
        });
        scenario.world.arm.cut_after(Some(writes));
        scenario.pass().await;
        scenario.world.arm.cut_after(None);
        scenario.restart();
        scenario.pass().await;
        scenario.assert_ready();
        assert_eq!(scenario.linked(), ["news", "weather"]);
        assert_eq!(scenario.pass().await, (vec![], vec![]));
    }
}

#[tokio::test]
async fn a_delete_survives_a_cut() {
    let mut scenario = made().await;
    scenario.change_access(|access| access["metadata"]["deletionTimestamp"] = json!("2026-11-21T10:00:00Z"));
    scenario.world.arm.cut_after(Some(0));
    scenario.pass().await;
    assert!(
        scenario.world.cluster.get(ACCESS).is_some(),
        "nobody said that it is gone"
    );
    scenario.world.arm.cut_after(None);
    scenario.restart();
    let (_, arm) = scenario.pass().await;
    assert_eq!(arm, [""; 0]);
    assert_eq!(scenario.world.cluster.get(ACCESS), None);
    assert_eq!(
        scenario.world.arm.paths(),
        [
            format!("/apis/{}", api("maps")),
            format!("/apis/{}", api("weather"))
        ]
    );
}
