//! Ports beside MCP's, and who reads metrics there.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// A port beside MCP's.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExtraPort {
    /// Name, unlike that of any other port of the pod; mcp, peer and metrics of the bundled image are taken.
    #[schemars(length(min = 1, max = 15))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && self.matches('[a-z]') && !self.contains('--') && self != 'mcp'").message("a port's name has lower-case letters, digits and single dashes inside, at least one letter, and is not mcp"))]
    pub name: String,
    /// Number of the port, in the container and in the Service.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// Where Prometheus finds metrics, and how often it reads them.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Monitor {
    /// Name of the port: one of extraPorts, or metrics of the bundled image.
    #[schemars(length(min = 1, max = 15))]
    pub port: String,
    /// Path of the metrics.
    #[serde(default = "default_path")]
    #[schemars(length(min = 1, max = 200), regex(pattern = r"^/[^\s?#]*$"))]
    pub path: String,
    /// Time between two reads.
    #[serde(default = "default_interval")]
    #[schemars(range(min = 1, max = 3600))]
    pub interval_seconds: i32,
    /// Labels of the ServiceMonitor, by which a Prometheus chooses what it reads.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

fn default_path() -> String {
    "/metrics".to_owned()
}

fn default_interval() -> i32 {
    30
}
