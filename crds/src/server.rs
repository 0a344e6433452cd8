//! McpServer: one MCP server, its pods, its Service and its registration in a gateway.

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, LocalObjectReference, ResourceRequirements};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod health;
mod pod;
mod ports;
mod probe;
mod registration;
mod service;
mod status;
mod tls;
mod transports;

pub use health::{Health, HealthType};
pub use pod::{DnsPolicy, InitContainer, PodSecurity, PodTemplate, Sidecar, SidecarPort};
pub use ports::{ExtraPort, Monitor};
pub use probe::{ServerProbe, TokenSecret};
pub use registration::{Access, Cors, GatewayRegistration, ManagementPolicy, RateLimit};
pub use service::{ExternalTrafficPolicy, IpFamily, IpFamilyPolicy, ServerService, ServiceType};
pub use status::{Endpoints, LastWrite, McpServerStatus, Protocol, RegisteredGateway, Tool};
pub use tls::{CaReference, GatewayChecks, Tls};
pub use transports::{Sse, StreamableHttp, Transports};

/// What should run and how agents reach it. Everything is optional: an empty spec is the bundled weather server,
/// two replicas, public through the default gateway.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
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
    validation = Rule::new("has(self.image) || (!has(self.command) && !has(self.args))").message("command and args belong to an image of your own: set image"),
    validation = Rule::new("!has(self.preStopSeconds) || self.preStopSeconds < (has(self.terminationGracePeriodSeconds) ? self.terminationGracePeriodSeconds : 30)").message("preStopSeconds is part of terminationGracePeriodSeconds (default 30), and must leave the server some of it: make it smaller, or the period longer"),
    validation = Rule::new("!has(self.monitor) || (has(self.extraPorts) && self.extraPorts.exists(port, port.name == self.monitor.port)) || (!has(self.image) && self.monitor.port == 'metrics')").message("monitor.port names one of extraPorts, or metrics of the bundled image")
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
    /// How pods are replaced. Default: Recreate where a volume's claim can be used by one node only, so that the new pod is
    /// not kept waiting by the old one; else RollingUpdate, in which a new pod is there before an old one goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// How long the container has to end, preStopSeconds included. Default: 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub termination_grace_period_seconds: Option<i64>,
    /// How long the container goes on before it is told to end, while load balancers and gateways learn that its pod takes
    /// no requests any more. Default: 5; 0 for the bundled image, which sees to that itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub pre_stop_seconds: Option<i64>,
    /// Whether pods are replaced when a ConfigMap or Secret that they refer to has another content.
    #[serde(default = "default_true")]
    pub restart_on_config_change: bool,
    /// Further ports of the container, such as its metrics; in the cluster only, by the Service `<name>-extra-ports`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.all(port, self.exists_one(other, other.name == port.name) && self.exists_one(other, other.port == port.port))").message("extraPorts differ by name and by port"))]
    pub extra_ports: Vec<ExtraPort>,
    /// Metrics that Prometheus reads: a ServiceMonitor, where its definition is installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<Monitor>,
    /// The container serves HTTPS on `port`. Default: HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// MCP transports that the server speaks; when given, exactly these. Default: streamable HTTP at /mcp, and for
    /// the bundled image also SSE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transports: Option<Transports>,
    /// How the kubelet asks for health. Default: /health and /ready of the bundled image; for any other image a
    /// connection to the port.
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

fn default_true() -> bool {
    true
}

/// How pods are replaced.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum Strategy {
    /// All old pods go before the first new one comes.
    Recreate,
    /// A new pod is ready before an old one goes.
    RollingUpdate,
}

/// Pull policy of an image.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum ImagePullPolicy {
    Always,
    IfNotPresent,
    Never,
}
