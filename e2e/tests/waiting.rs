//! What tools that wait make of our status: kstatus, as Flux and Helm use it, and the health check for Argo CD that
//! docs/argocd-cm.yaml gives, in the Lua that Argo CD runs. In: the states that the operator's own tests go through.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy knows #[test] functions, but not what they call"
)]

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const STATES: &str =
    "operator/src/server/tests/snapshots/mcp_fleet_operator__server__tests__rollouts__states.snap";
const SETTINGS: &str = "docs/argocd-cm.yaml";

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{WORKSPACE}/{path}")).unwrap()
}

/// The script, which is the same for each kind.
fn script() -> String {
    let settings: serde_yaml::Value = serde_yaml::from_str(&read(SETTINGS)).unwrap();
    let scripts: Vec<String> = ["McpServer", "McpGateway", "McpAccess"]
        .map(|kind| format!("resource.customizations.health.mcpfleet.dev_{kind}"))
        .iter()
        .map(|key| {
            settings["data"][key.as_str()]
                .as_str()
                .unwrap_or_else(|| panic!("no {key}"))
                .to_owned()
        })
        .collect();
    assert_eq!(settings["data"].as_mapping().unwrap().len(), scripts.len());
    assert!(scripts.iter().all(|script| *script == scripts[0]));
    scripts[0].clone()
}

/// Asks the tools, all objects at once.
fn judge(objects: &[Value]) -> Vec<Value> {
    let found = Command::new(env!("CARGO_BIN_EXE_mcp-fleet-e2e"))
        .args(["tool", "waiting"])
        .output()
        .unwrap();
    assert!(
        found.status.success(),
        "{}",
        String::from_utf8_lossy(&found.stderr)
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("health.lua");
    std::fs::write(&file, script()).unwrap();
    let mut tool = Command::new(String::from_utf8(found.stdout).unwrap().trim())
        .arg(&file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let text = serde_json::to_vec(objects).unwrap();
    tool.stdin.take().unwrap().write_all(&text).unwrap();
    let output = tool.wait_with_output().unwrap();
    assert!(output.status.success(), "the tool failed");
    let verdicts: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verdicts.len(), objects.len());
    verdicts
}

#[test]
fn flux_helm_and_argo_understand_every_state_of_a_server() {
    let file = read(STATES);
    // Behind the head that the snapshot has.
    let (_, states) = file.split_once("---\n").unwrap().1.split_once("---\n").unwrap();
    let states: Vec<Value> = serde_yaml::from_str(states).unwrap();
    assert!(states.len() > 8, "the states were not understood");
    let objects: Vec<Value> = states.iter().map(|state| state["object"].clone()).collect();
    for (state, verdict) in states.iter().zip(judge(&objects)) {
        let name = &state["name"];
        assert_eq!(verdict["kstatus"], state["kstatus"], "{name}: {verdict}");
        let zero = verdict["message"].as_str().unwrap().starts_with("ScaledToZero");
        let health = match state["kstatus"].as_str().unwrap() {
            "Current" => "Healthy",
            "Failed" => "Degraded",
            "InProgress" if zero => "Suspended",
            "InProgress" => "Progressing",
            other => panic!("{name}: {other}"),
        };
        assert_eq!(verdict["argo"], health, "{name}: {verdict}");
    }
}

#[test]
fn argo_says_what_is_wrong_and_believes_no_former_generation() {
    let object = |observed: i64, conditions: Value| {
        json!({"apiVersion": "mcpfleet.dev/v1alpha1", "kind": "McpGateway", "metadata": {"name": "contoso", "generation": 2},
            "status": {"observedGeneration": observed, "conditions": conditions}})
    };
    let condition = |type_: &str, status: &str, generation: i64| {
        json!({"type": type_, "status": status, "reason": "Forbidden", "message": "assign the role",
            "observedGeneration": generation, "lastTransitionTime": "2026-11-21T10:00:00Z"})
    };
    let objects = [
        object(
            2,
            json!([condition("Ready", "False", 2), condition("Stalled", "True", 2)]),
        ),
        object(2, json!([condition("Ready", "True", 1)])),
        object(1, json!([condition("Ready", "True", 1)])),
        json!({"apiVersion": "mcpfleet.dev/v1alpha1", "kind": "McpAccess", "metadata": {"name": "agents", "generation": 1}}),
    ];
    let verdicts = judge(&objects);
    let said: Vec<_> = verdicts
        .iter()
        .map(|verdict| verdict["argo"].as_str().unwrap())
        .collect();
    assert_eq!(said, ["Degraded", "Progressing", "Progressing", "Progressing"]);
    assert_eq!(verdicts[0]["message"], "Forbidden: assign the role");
}
