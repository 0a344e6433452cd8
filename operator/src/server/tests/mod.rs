//! Tests of the line. Fixtures are YAML, as a person would write it.

mod borders;
mod build;
mod driver;
mod driver_borders;
mod driver_deletion;
mod driver_lanes;
mod driver_probe;
mod driver_secret;
mod driver_token;
mod driver_trouble;
mod driver_verify;
mod driver_workload;
mod exposure;
mod manifests;
mod observe;
mod requeue;
mod rollouts;
mod status;
mod validate;

use std::sync::Arc;
use std::time::Duration;

use mcp_fleet_crds::{McpGateway, McpServer};
use serde_json::{Value, json};

use super::build::Replicas;
use super::error::InvalidServer;
use super::load::Loaded;
use super::validate::{Valid, validate};
use crate::args::ServerAccess;
use crate::runtime::context::Settings;

/// A server from its spec. Its name differs from the namespace and the gateway, so that mixed-up names show.
fn server(spec: &str) -> McpServer {
    named("weather", spec)
}

fn named(name: &str, spec: &str) -> McpServer {
    let spec: Value = serde_yaml::from_str(spec).unwrap();
    let spec = if spec.is_null() { json!({}) } else { spec };
    serde_json::from_value(json!({
        "apiVersion": "mcpfleet.dev/v1alpha1",
        "kind": "McpServer",
        "metadata": {"name": name, "namespace": "tools", "uid": format!("uid-{name}"), "generation": 3,
            "creationTimestamp": "2026-11-21T10:00:00Z"},
        "spec": spec,
    }))
    .unwrap()
}

/// A gateway that was reached and reports one address.
fn gateway(name: &str, change: impl FnOnce(&mut Value)) -> Arc<McpGateway> {
    let mut gateway = json!({
        "apiVersion": "mcpfleet.dev/v1alpha1",
        "kind": "McpGateway",
        "metadata": {"name": name, "uid": format!("uid-{name}"),
            "annotations": {"mcpfleet.dev/is-default-gateway": "true"}},
        "spec": {"clusterId": "demo", "apim": {
            "subscriptionId": "00000000-0000-0000-0000-000000000001", "resourceGroup": "g", "serviceName": "contoso"}},
        "status": {"gatewayUrl": "https://contoso.azure-api.net", "sourceAddresses": ["203.0.113.9"]},
    });
    change(&mut gateway);
    Arc::new(serde_json::from_value(gateway).unwrap())
}

fn world(gateways: Vec<Arc<McpGateway>>) -> Loaded {
    Loaded {
        gateways,
        ..Loaded::default()
    }
}

fn settings() -> Settings {
    Settings {
        weather_image: "registry.example.com/mcp-weather:1.2.3".to_owned(),
        weather_image_pull_policy: "IfNotPresent".to_owned(),
        weather_env: vec![],
        namespace: "mcp-fleet-system".to_owned(),
        drift: Duration::from_mins(10),
        server_access: ServerAccess::Direct,
        pass_limit: Duration::from_secs(20),
        catch_up: Duration::ZERO,
    }
}

fn judged(server: &McpServer) -> Result<Valid, InvalidServer> {
    wholly(server, &world(vec![gateway("contoso", |_| ())]), &settings())
}

/// Nothing may be refused.
fn wholly(server: &McpServer, loaded: &Loaded, settings: &Settings) -> Result<Valid, InvalidServer> {
    let valid = validate(server, loaded, settings)?;
    match valid.refusals().first() {
        Some(refusal) => Err((*refusal).clone()),
        None => Ok(valid),
    }
}

fn valid(spec: &str) -> Valid {
    judged(&server(spec)).unwrap()
}
