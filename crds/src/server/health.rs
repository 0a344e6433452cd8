//! How the kubelet asks whether a container has started, lives, and takes requests.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Probes of the container.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.type) || self.type == 'Http' || (!has(self.path) && !has(self.readyPath))").message("path and readyPath belong to health.type Http: remove them, or the type"),
    validation = Rule::new("!has(self.type) || self.type != 'None' || (!has(self.startupSeconds) && !has(self.initialDelaySeconds) && !has(self.periodSeconds) && !has(self.timeoutSeconds) && !has(self.failureThreshold))").message("health.type None asks nothing, so it stands alone"),
)]
pub struct Health {
    /// What is asked: `Http` a GET of the paths, `Tcp` a connection to the port, `None` nothing. Default: Http where
    /// a path is given or the image is the bundled one, else Tcp.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<HealthType>,
    /// Path that answers 200 to 399 while the container lives. Default: /health of the bundled image; for another one
    /// a connection is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200), regex(pattern = r"^/[^\s?#]*$"))]
    pub path: Option<String>,
    /// Path that answers 200 to 399 while the container takes requests. Default: /ready of the bundled image, `path`
    /// of another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200), regex(pattern = r"^/[^\s?#]*$"))]
    pub ready_path: Option<String>,
    /// How long the container may take to start before it is restarted. Default: 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub startup_seconds: Option<i32>,
    /// How long nothing is asked after the container began. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub initial_delay_seconds: Option<i32>,
    /// Time between two questions once it has started. Default: 10 for liveness, 5 for readiness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 600))]
    pub period_seconds: Option<i32>,
    /// How long an answer may take. Default: 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 300))]
    pub timeout_seconds: Option<i32>,
    /// Failed answers in a row after which it counts as dead, or not ready. Default: 3 and 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub failure_threshold: Option<i32>,
}

/// What the kubelet asks.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum HealthType {
    Http,
    Tcp,
    None,
}
