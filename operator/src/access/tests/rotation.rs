//! Rotation: a key that callers have is refused at no time, wherever a process ends; and keys that somebody else makes
//! anew.

use serde_json::{Value, json};

use super::scenario::{ACCESS, SECRET, Scenario, id};

const PAST: &str = "2026-01-01T00:00:00Z";

async fn made() -> Scenario {
    let mut scenario = Scenario::new(&["weather"]).await;
    scenario.add_server("weather", "contoso");
    scenario.pass().await;
    scenario.assert_ready();
    scenario
}

fn subscription() -> String {
    format!("/subscriptions/{}", id())
}

/// The keys that the gateway takes.
fn taken(scenario: &Scenario) -> [String; 2] {
    let subscription = scenario.world.arm.get(&subscription()).unwrap();
    ["primaryKey", "secondaryKey"].map(|slot| subscription[slot].as_str().unwrap().to_owned())
}

fn key(scenario: &Scenario) -> String {
    scenario.entry("APIM_SUBSCRIPTION_KEY").unwrap()
}

fn status(scenario: &Scenario) -> Value {
    scenario.world.cluster.get(ACCESS).unwrap()["status"]["key"].clone()
}

fn ask(scenario: &Scenario, rotate: &str) {
    scenario.change_access(|access| access["spec"]["rotate"] = json!(rotate));
}

/// The time that callers have is over.
fn end_grace(scenario: &Scenario) {
    scenario.change_access(|access| access["status"]["key"]["formerEnds"] = json!(PAST));
}

#[tokio::test]
async fn a_rotation_moves_to_the_other_key_and_then_ends_the_former() {
    let mut scenario = made().await;
    let [primary, secondary] = taken(&scenario);
    assert_eq!(key(&scenario), primary);
    assert_eq!(status(&scenario), json!({"inUse": "Primary"}));

    ask(&scenario, "1");
    let (cluster, arm) = scenario.pass().await;
    assert_eq!(cluster, ["PATCH secret", "PATCH access/status"]);
    assert_eq!(arm, [format!("POST {}/listSecrets", subscription())]);
    assert_eq!(key(&scenario), secondary);
    assert_eq!(
        taken(&scenario),
        [primary.clone(), secondary.clone()],
        "both work"
    );
    let told = status(&scenario);
    assert_eq!(
        (&told["inUse"], &told["rotate"]),
        (&json!("Secondary"), &json!("1"))
    );
    assert!(told["formerEnds"].is_string(), "{told}");
    scenario.assert_ready();
    assert_eq!(scenario.pass().await, (vec![], vec![]));

    // Another one waits: both keys are with somebody.
    ask(&scenario, "2");
    scenario.pass().await;
    assert_eq!(key(&scenario), secondary);
    assert_eq!(status(&scenario), told);

    end_grace(&scenario);
    let (_, arm) = scenario.pass().await;
    assert_eq!(arm, [format!("POST {}/regeneratePrimaryKey", subscription())]);
    let [anew, kept] = taken(&scenario);
    assert!(anew != primary && kept == secondary);
    assert_eq!(status(&scenario)["formerEnds"], Value::Null);
    assert_eq!(
        scenario.controller.state.backoff.len(),
        1,
        "and it is looked at again at once"
    );

    // Now the one that waited.
    scenario.pass().await;
    assert_eq!(key(&scenario), anew);
    assert_eq!(status(&scenario)["rotate"], "2");
    end_grace(&scenario);
    scenario.pass().await;
    assert_ne!(taken(&scenario)[1], secondary);
    assert_eq!(key(&scenario), anew);
    // The ETag tells that a key was made anew: it is looked at once, and then there is silence.
    scenario.pass().await;
    assert_eq!(scenario.pass().await, (vec![], vec![]));
}

/// After every write of the rotation the process ends, and the next one knows only what is in the cluster.
#[tokio::test]
async fn a_rotation_survives_the_end_of_the_process_after_each_write() {
    type Fail = fn(&mut Scenario);
    let cuts: [(&str, Fail); 4] = [
        ("the keys were asked for", |scenario| {
            scenario.world.arm.cut_after(Some(0));
        }),
        ("the Secret could not be written", |scenario| {
            scenario.world.cluster.break_path("secrets/agents-mcp", 500);
        }),
        ("the Secret was written, status was not", |scenario| {
            scenario
                .world
                .cluster
                .break_path("mcpaccesses/agents/status", 500);
        }),
        ("nothing", |_| {}),
    ];
    for (what, cut) in cuts {
        let mut scenario = made().await;
        let before = taken(&scenario);
        ask(&scenario, "1");
        for end in [false, true] {
            if end {
                end_grace(&scenario);
            }
            cut(&mut scenario);
            for _ in 0..2 {
                scenario.pass().await;
                assert!(
                    taken(&scenario).contains(&key(&scenario)),
                    "{what}: a key that is refused is in the Secret"
                );
            }
            scenario.world.arm.cut_after(None);
            scenario.world.cluster.break_path("nothing", 500);
            scenario.restart();
            scenario.pass().await;
            assert!(taken(&scenario).contains(&key(&scenario)), "{what}");
            assert_eq!(key(&scenario), before[1], "{what}: it moved once");
            assert_eq!(status(&scenario)["inUse"], "Secondary", "{what}");
        }
        scenario.pass().await;
        let [primary, secondary] = taken(&scenario);
        assert!(
            primary != before[0] && secondary == before[1],
            "{what}: the former key ended"
        );
        assert_eq!(status(&scenario)["formerEnds"], Value::Null, "{what}");
        scenario.assert_ready();
        scenario.pass().await;
        assert_eq!(scenario.pass().await, (vec![], vec![]), "{what}");
    }
}

/// A cache that is behind must not end the key that callers have by now.
#[tokio::test]
async fn the_key_that_is_in_the_secret_is_never_made_anew() {
    let mut scenario = made().await;
    ask(&scenario, "1");
    scenario.pass().await;
    // Status says that the former key, the primary one, is over, and the Secret has it again.
    scenario.world.cluster.change(SECRET, |secret| {
        secret["metadata"]["annotations"]["mcpfleet.dev/key"] = json!("Primary");
    });
    end_grace(&scenario);
    let (_, arm) = scenario.pass().await;
    assert_eq!(
        arm,
        [format!("POST {}/listSecrets", subscription())],
        "the Secret comes first"
    );
    let (_, arm) = scenario.pass().await;
    assert_eq!(arm, [format!("POST {}/regeneratePrimaryKey", subscription())]);
    assert!(taken(&scenario).contains(&key(&scenario)));
}

#[tokio::test]
async fn a_key_that_somebody_makes_anew_reaches_the_secret() {
    let mut scenario = made().await;
    let mut changed = scenario.world.arm.get(&subscription()).unwrap();
    changed["primaryKey"] = json!("by hand");
    scenario.world.arm.put(&subscription(), changed);
    let (cluster, arm) = scenario.pass().await;
    assert_eq!(arm, [format!("POST {}/listSecrets", subscription())]);
    assert_eq!(cluster, ["PATCH secret"]);
    assert_eq!(key(&scenario), "by hand");
    assert_eq!(scenario.world.cluster.take_events(), ["KeyReplaced"]);
    assert_eq!(scenario.pass().await, (vec![], vec![]));

    // So does one of a subscription that somebody deleted, which is made again.
    scenario.world.arm.remove(&subscription());
    let (_, arm) = scenario.pass().await;
    assert_eq!(arm, [format!("PUT {}", subscription())]);
    assert_ne!(key(&scenario), "by hand");
    assert_eq!(scenario.world.cluster.take_events(), ["KeyReplaced"]);
    assert!(taken(&scenario).contains(&key(&scenario)));
    assert_eq!(scenario.pass().await, (vec![], vec![]));
}
