//! McpServer: one MCP server, its pods, its Service and its registration in a gateway.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, EnvFromSource, EnvVar, LocalObjectReference, ResourceRequirements, Toleration,
    TopologySpreadConstraint, VolumeMount,
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::RestrictedVolume;

mod probe;
mod registration;
mod service;
mod status;
mod transports;

pub use probe::{ServerProbe, TokenSecret};
pub use registration::{Access, Cors, GatewayRegistration, ManagementPolicy, RateLimit};
pub use service::{ExternalTrafficPolicy, ServerService, ServiceType};
pub use status::{Endpoints, LastWrite, McpServerStatus, Protocol, RegisteredGateway, Tool};
pub use transports::{Health, Sse, StreamableHttp, Transports};

/// What should run and how agents reach it. Everything is optional: an empty spec is the bundled weather server,
/// two replicas, public through the default gateway.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "mcpfleet.dev",
    version = "v1alpha1",
    kind = "McpServer",
    namespaced,
    doc = "An MCP server: its Deployment and Service in the cluster, and its API in a gateway.",
    status = "McpServerStatus",
    derive = "PartialEq",
    shortname = "mcps",
    category = "mcp",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Replicas", type_ = "string", json_path = ".status.pods"),
    printcolumn(name = "Gateway", type_ = "string", json_path = ".status.gateway.name"),
    printcolumn(name = "Tools", type_ = "integer", json_path = ".status.toolCount"),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.endpoints.gateway"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#, priority = 1),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,48}[a-z0-9])?$')").message("metadata.name is a DNS-1035 label of at most 50 characters: lower-case letters, digits and dashes, a letter first")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.service) && has(self.service.type) && self.service.type == 'ClusterIP') || (has(self.gateway) && has(self.gateway.enabled) && !self.gateway.enabled) || (has(self.gateway) && has(self.gateway.backendUrl))").message("a Service of type ClusterIP has no address that the gateway can reach: set gateway.backendUrl, or gateway.enabled: false"),
    validation = Rule::new("!has(self.podTemplate) || !has(self.podTemplate.volumeMounts) || self.podTemplate.volumeMounts.all(mount, has(self.podTemplate.volumes) && self.podTemplate.volumes.exists(volume, volume.name == mount.name))").message("every podTemplate.volumeMounts entry names a volume of podTemplate.volumes"),
    validation = Rule::new("!has(oldSelf.gateway) || !has(oldSelf.gateway.name) || (has(self.gateway) && has(self.gateway.name) && self.gateway.name == oldSelf.gateway.name)").message("gateway.name cannot be changed or removed: delete the McpServer and create it again for another gateway"),
    validation = Rule::new("(has(self.service) && has(self.service.loadBalancerClass) ? self.service.loadBalancerClass : '') == (has(oldSelf.service) && has(oldSelf.service.loadBalancerClass) ? oldSelf.service.loadBalancerClass : '')").message("service.loadBalancerClass cannot be changed, added or removed: Kubernetes keeps it for the life of a Service; delete the McpServer and create it again"),
    validation = Rule::new("has(self.image) || (!has(self.command) && !has(self.args))").message("command and args belong to an image of your own: set image")
)]
pub struct McpServerSpec {
    /// Container image. Default: the weather server that the operator was installed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^[^\s]+$"))]
    pub image: Option<String>,
    /// When to pull the image. Default: Kubernetes' own rule (Always for the tag latest, else IfNotPresent).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Secrets with registry credentials.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Replaces the image's entry point.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub command: Vec<String>,
    /// Arguments of the entry point.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub args: Vec<String>,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub env: Vec<EnvVar>,
    /// Environment variables taken from ConfigMaps and Secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub env_from: Vec<EnvFromSource>,
    /// Port on which the container serves MCP.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Number of pods. An autoscaler may own it through the scale subresource.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,
    /// Compute resources of the container. Default: 64Mi and 250m requested, limits of 128Mi and 500m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Service account of the pods. Default: the namespace's, without a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
    /// What else the pods carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
    /// MCP transports that the server speaks; when given, exactly these. Default: streamable HTTP at /mcp, and for
    /// the bundled image also SSE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transports: Option<Transports>,
    /// HTTP health endpoints. Default: those of the bundled image; for any other image a TCP probe of the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// How the Service is exposed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServerService>,
    /// How the operator looks whether an MCP client gets through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ServerProbe>,
    /// How the server is registered in a gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayRegistration>,
}

fn default_port() -> i32 {
    8000
}

fn default_replicas() -> i32 {
    2
}

/// Pull policy of an image.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum ImagePullPolicy {
    Always,
    IfNotPresent,
    Never,
}

/// Additions to the pods. What the restricted Pod Security Standard forbids has no field.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// Extra labels; those under mcpfleet.dev and app.kubernetes.io are the operator's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Extra annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// As in a pod.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// As in a pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tolerations: Vec<Toleration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Default: spread over nodes and zones where possible.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// As in a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// Volumes of the kinds that restricted pods may have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub volumes: Vec<RestrictedVolume>,
    /// Where the container sees them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub volume_mounts: Vec<VolumeMount>,
}
