//! The chart's alerts, tried by promtool: each fires when it should, and none does on a healthy fleet. The words in them come
//! from the operator's own code, so that a renamed label cannot leave an alert that never or always fires.
#![expect(
    clippy::unwrap_used,
    reason = "clippy knows #[test] functions, but not what they call"
)]

use std::path::Path;
use std::process::Command;

use mcp_fleet_operator::azure::apim::{GOOD_OUTCOMES, OUTCOMES};
use serde::Deserialize as _;
use serde_json::{Value, json};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/mcp-fleet");

fn tool(name: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_mcp-fleet-e2e"))
        .args(["tool", name])
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "no {name}: {words}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The groups of the chart's PrometheusRule, as Prometheus reads them.
fn rules() -> Value {
    let values = format!("{CHART}/ci/full.yaml");
    let output = Command::new(tool("helm"))
        .args(["template", "mcp-fleet", CHART, "--namespace", "mcp-fleet-system"])
        .args(["--kube-version", "1.36.3", "--values", &values])
        .args(["--show-only", "templates/prometheusrule.yaml"])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let rule = serde_yaml::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).unwrap())
        .find(|document| !document.is_null())
        .unwrap();
    rule["spec"].clone()
}

/// Runs promtool over the rules with these test groups.
fn promtool(tests: &[Value]) {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &Value| {
        std::fs::write(folder.path().join(name), serde_yaml::to_string(content).unwrap()).unwrap();
    };
    write("whole.yaml", &rules());
    write("rules.yaml", &without_annotations(rules()));
    write(
        "tests.yaml",
        &json!({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}),
    );
    run(folder.path(), &["check", "rules", "whole.yaml"]);
    run(folder.path(), &["test", "rules", "tests.yaml"]);
}

/// promtool wants them word for word; whether they are templates that work is checked on the whole rules.
fn without_annotations(mut rules: Value) -> Value {
    for group in rules["groups"].as_array_mut().unwrap() {
        for rule in group["rules"].as_array_mut().unwrap() {
            rule.as_object_mut().unwrap().remove("annotations");
        }
    }
    rules
}

fn run(folder: &Path, arguments: &[&str]) {
    let output = Command::new(tool("promtool"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let words = [&output.stdout[..], &output.stderr[..]].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&words));
}

/// One series with the same value, or the same growth, each minute for an hour.
fn series(name: &str, values: &str) -> Value {
    json!({"series": name, "values": values})
}

fn scraped() -> Value {
    series(
        r#"up{namespace="mcp-fleet-system", service="mcp-fleet-operator-metrics"}"#,
        "1x100",
    )
}

fn ready(kind: &str, namespace: &str, status: &str, reason: &str, count: u32) -> Value {
    let labels = format!(
        r#"kind="{kind}", namespace="{namespace}", type="Ready", status="{status}", reason="{reason}""#
    );
    series(
        &format!("mcp_fleet_conditions{{{labels}}}"),
        &format!("{count}x100"),
    )
}

fn requests(outcome: &str) -> Value {
    let labels = format!(r#"verb="GET", resource="api", outcome="{outcome}""#);
    series(&format!("mcp_fleet_arm_requests_total{{{labels}}}"), "0+6x100")
}

fn missing_fields(kind: &str, count: u32) -> Value {
    let name = format!(r#"mcp_fleet_definition_missing_fields{{kind="{kind}"}}"#);
    series(&name, &format!("{count}x100"))
}

/// With these series, after an hour this alert fires in so many namespaces or places, with these labels.
fn case(name: &str, input: &[Value], alert: &str, firing: &[Value]) -> Value {
    let expected: Vec<Value> = firing
        .iter()
        .map(|labels| json!({"exp_labels": labels}))
        .collect();
    json!({
        "name": name,
        "interval": "1m",
        "input_series": input,
        "alert_rule_test": [{"eval_time": "65m", "alertname": alert, "exp_alerts": expected}],
    })
}

fn alerts() -> Vec<String> {
    let rules = rules();
    let groups = rules["groups"].as_array().unwrap();
    groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
        .map(|rule| rule["alert"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_healthy_fleet_is_silent() {
    let healthy = || {
        vec![
            scraped(),
            ready("McpGateway", "", "True", "Ready", 1),
            ready("McpServer", "tools", "True", "Ready", 40),
            ready("McpServer", "idle", "False", "ScaledToZero", 20),
            ready("McpAccess", "agents", "True", "Ready", 3),
            requests(GOOD_OUTCOMES[0]),
            requests(GOOD_OUTCOMES[1]),
            missing_fields("McpServer", 0),
        ]
    };
    let alerts = alerts();
    assert!(alerts.len() >= 6, "{alerts:?}");
    let cases: Vec<Value> = alerts
        .iter()
        .map(|alert| case(alert, &healthy(), alert, &[]))
        .collect();
    promtool(&cases);
}

#[test]
fn every_outcome_of_a_request_counts_as_what_it_is() {
    let failing = [json!({"severity": "warning"})];
    let cases: Vec<Value> = OUTCOMES
        .iter()
        .map(|outcome| {
            let good = GOOD_OUTCOMES.contains(outcome);
            let firing = if good { &[][..] } else { &failing };
            case(
                outcome,
                &[scraped(), requests(outcome)],
                "McpFleetAzureFailing",
                firing,
            )
        })
        .collect();
    promtool(&cases);
}

#[test]
fn each_alert_fires_for_its_cause_and_names_the_namespace() {
    let of = |severity: &str, namespace: &str| json!({"severity": severity, "namespace": namespace});
    let cases = [
        case(
            "nobody scrapes",
            &[ready("McpServer", "tools", "True", "Ready", 1)],
            "McpFleetOperatorDown",
            &[json!({"severity": "critical"})],
        ),
        case(
            "a gateway",
            &[scraped(), ready("McpGateway", "", "False", "Forbidden", 1)],
            "McpFleetGatewayNotReady",
            &[json!({"severity": "critical"})],
        ),
        case(
            "two teams, one alert each, and none for the third",
            &[
                scraped(),
                ready("McpServer", "a", "False", "CrashLoop", 1),
                ready("McpServer", "b", "Unknown", "Pending", 2),
                ready("McpServer", "c", "True", "Ready", 9),
            ],
            "McpFleetServerNotReady",
            &[of("warning", "a"), of("warning", "b")],
        ),
        case(
            "a fifth of the fleet",
            &[
                scraped(),
                ready("McpServer", "a", "False", "GatewayUnreachable", 3),
                ready("McpServer", "b", "True", "Ready", 9),
            ],
            "McpFleetManyServersNotReady",
            &[json!({"severity": "critical"})],
        ),
        case(
            "old definitions",
            &[
                scraped(),
                missing_fields("McpServer", 2),
                missing_fields("McpAccess", 0),
            ],
            "McpFleetDefinitionsOld",
            &[json!({"severity": "warning", "kind": "McpServer"})],
        ),
        case(
            "an access",
            &[
                scraped(),
                ready("McpAccess", "agents", "False", "NotConsented", 1),
            ],
            "McpFleetAccessNotReady",
            &[of("warning", "agents")],
        ),
    ];
    promtool(&cases);
}
