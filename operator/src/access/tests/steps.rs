//! The pure steps, rule by rule.

use std::time::Duration;

use mcp_fleet_crds::McpAccess;
use serde_json::json;

use crate::access::build::{secret, secret_name};
use crate::access::requeue::settled;
use crate::access::validate::Grant;
use crate::azure::apim::{KeySlot, SecretString};

fn access() -> McpAccess {
    serde_json::from_value(json!({
        "apiVersion": "mcpfleet.dev/v1alpha1", "kind": "McpAccess",
        "metadata": {"name": "agents", "namespace": "agents", "uid": "u"},
        "spec": {"servers": [{"name": "weather"}]},
    }))
    .unwrap()
}

fn grant(namespace: &str, name: &str) -> Grant {
    Grant {
        namespace: namespace.into(),
        name: name.into(),
        api: "api".into(),
        url: format!("https://gw/{namespace}/{name}"),
        key_header: None,
    }
}

fn secret_of(grants: &[Grant]) -> k8s_openapi::api::core::v1::Secret {
    let key = (&SecretString::new("key"), KeySlot::Secondary, Some("7"));
    secret(&access(), "https://gw", grants, key)
}

/// The variables of the Secret that are addresses of servers.
fn variables(grants: &[Grant]) -> Vec<String> {
    let secret = secret_of(grants);
    let names = secret.data.unwrap().into_keys();
    names.filter(|name| name.ends_with("_URL")).collect()
}

#[test]
fn every_server_has_a_variable_of_its_own() {
    assert_eq!(variables(&[grant("tools", "weather")]), ["TOOLS_WEATHER_URL"]);
    assert_eq!(variables(&[grant("my-tools", "a-b")]), ["MY_TOOLS_A_B_URL"]);
    assert_eq!(variables(&[grant("1st", "weather")]), ["_1ST_WEATHER_URL"]);
    let shared = variables(&[grant("a-b", "c"), grant("a", "b-c"), grant("a", "d")]);
    assert_eq!(shared.len(), 3);
    assert!(
        shared.contains(&"A_D_URL".to_owned()) && !shared.contains(&"A_B_C_URL".to_owned()),
        "{shared:?}"
    );
    assert_eq!(
        shared,
        variables(&[grant("a", "d"), grant("a", "b-c"), grant("a-b", "c")]),
        "order is no matter"
    );
}

#[test]
fn a_server_whose_key_goes_elsewhere_says_where() {
    let elsewhere = Grant {
        key_header: Some("X-Api-Key".into()),
        ..grant("tools", "orders")
    };
    let data = secret_of(&[grant("tools", "weather"), elsewhere]).data.unwrap();
    let headers: Vec<&String> = data.keys().filter(|name| name.ends_with("_HEADER")).collect();
    assert_eq!(headers, ["TOOLS_ORDERS_KEY_HEADER"]);
    assert_eq!(data["TOOLS_ORDERS_KEY_HEADER"].0, b"X-Api-Key");
    let file = String::from_utf8(data[".env"].0.clone()).unwrap();
    assert!(file.contains("TOOLS_ORDERS_KEY_HEADER=X-Api-Key\n"), "{file}");
}

#[test]
fn a_secret_is_labelled_and_named() {
    assert_eq!(secret_name(&access()), "agents-mcp");
    let metadata = secret_of(&[]).metadata;
    let notes = metadata.annotations.unwrap();
    assert_eq!(
        (
            notes["mcpfleet.dev/key"].as_str(),
            notes["mcpfleet.dev/key-etag"].as_str()
        ),
        ("Secondary", "7")
    );
    let labels = metadata.labels.unwrap();
    assert_eq!(labels["mcpfleet.dev/access"], "agents");
    assert_eq!(labels["app.kubernetes.io/managed-by"], "mcp-fleet-operator");
}

#[test]
fn drift_is_looked_for_until_the_end() {
    let period = Duration::from_mins(10);
    assert_eq!(settled(&access(), period, 0.5, None), Some(period));
    let end = Duration::from_mins(3);
    assert_eq!(
        settled(&access(), period, 0.5, Some(end)),
        Some(end),
        "or until a former key ends"
    );
    assert_eq!(settled(&access(), period, 0.5, Some(period * 9)), Some(period));
    let mut gone = access();
    gone.metadata.deletion_timestamp = serde_json::from_value(json!("2026-11-21T10:00:00Z")).unwrap();
    assert_eq!(settled(&gone, period, 0.5, Some(end)), None);
}
