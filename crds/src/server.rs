//! McpServer: one MCP server, its pods, its Service and its registration in a gateway.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, EnvFromSource, EnvVar, LocalObjectReference, ResourceRequirements, Toleration,
    TopologySpreadConstraint, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::RestrictedVolume;

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
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.readyReplicas"),
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

/// MCP transports of a server. A transport that is absent is off.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.streamableHttp) || has(self.sse)").message("transports names at least one of streamableHttp and sse; leave transports out for the default"))]
pub struct Transports {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streamable_http: Option<StreamableHttp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sse: Option<Sse>,
}

/// Streamable HTTP: one endpoint for POST, GET and DELETE.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
pub struct StreamableHttp {
    /// Path of the endpoint at the server, which is also its path below the API in the gateway.
    #[serde(default = "default_mcp_path")]
    #[schemars(length(min = 2, max = 200))]
    #[x_kube(validation = Rule::new("self.matches(r'^(/[A-Za-z0-9._~-]+)+$')").message("path starts with a slash and has segments of letters, digits, dots, dashes, underscores and tildes: such as /mcp"))]
    pub path: String,
}

impl Default for StreamableHttp {
    fn default() -> Self {
        Self {
            path: default_mcp_path(),
        }
    }
}

fn default_mcp_path() -> String {
    "/mcp".to_owned()
}

/// HTTP with server-sent events (protocol revision 2024-11-05 and later handshake revisions).
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sse {
    /// Path of the event stream.
    #[serde(default = "default_sse_path")]
    #[schemars(length(min = 2, max = 200))]
    #[x_kube(validation = Rule::new("self.matches(r'^(/[A-Za-z0-9._~-]+)+$')").message("path starts with a slash and has segments of letters, digits, dots, dashes, underscores and tildes: such as /sse"))]
    pub path: String,
    /// Template of the path that takes the client's messages; a segment may be a parameter such as {session_id}.
    #[serde(default = "default_messages_path")]
    #[schemars(length(min = 2, max = 200))]
    #[x_kube(validation = Rule::new(r"self.matches(r'^(/([A-Za-z0-9._~-]+|\{[A-Za-z_][A-Za-z0-9_]*\}))+/?$')").message("messagesPath starts with a slash, and each segment is plain or one parameter in braces: such as /messages/{session_id}"))]
    pub messages_path: String,
}

impl Default for Sse {
    fn default() -> Self {
        Self {
            path: default_sse_path(),
            messages_path: default_messages_path(),
        }
    }
}

fn default_sse_path() -> String {
    "/sse".to_owned()
}

fn default_messages_path() -> String {
    "/messages/{session_id}".to_owned()
}

/// Health endpoints of the container.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Path of the liveness and startup probe.
    #[serde(default = "default_health_path")]
    #[schemars(length(min = 1, max = 200), regex(pattern = r"^/[^\s?#]*$"))]
    pub path: String,
    /// Path of the readiness probe.
    #[serde(default = "default_ready_path")]
    #[schemars(length(min = 1, max = 200), regex(pattern = r"^/[^\s?#]*$"))]
    pub ready_path: String,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            path: default_health_path(),
            ready_path: default_ready_path(),
        }
    }
}

fn default_health_path() -> String {
    "/health".to_owned()
}

fn default_ready_path() -> String {
    "/ready".to_owned()
}

/// The Service in front of the pods.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.sources) || self.type != 'ClusterIP'").message("sources restrict a load balancer: a ClusterIP Service has none"),
    validation = Rule::new("!has(self.loadBalancerClass) || self.type != 'ClusterIP'").message("loadBalancerClass needs type LoadBalancer"),
    validation = Rule::new("!has(self.externalTrafficPolicy) || self.type != 'ClusterIP'").message("externalTrafficPolicy needs type LoadBalancer"),
    validation = Rule::new("!has(self.sources) || !('Any' in self.sources) || size(self.sources) == 1").message("sources: Any stands alone"),
    validation = Rule::new("(has(self.loadBalancerClass) ? self.loadBalancerClass : '') == (has(oldSelf.loadBalancerClass) ? oldSelf.loadBalancerClass : '')").message("loadBalancerClass cannot be changed: Kubernetes keeps it for the life of a Service")
)]
pub struct ServerService {
    #[serde(default, rename = "type")]
    pub type_: ServiceType,
    /// Port of the Service.
    #[serde(default = "default_service_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Who may reach the load balancer: CIDRs, `Gateway` (the addresses that the gateway reports; the default) or
    /// `Any`, alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 49)))]
    #[x_kube(validation = Rule::new("self.all(source, source == 'Gateway' || source == 'Any' || isCIDR(source))").message("each source is a CIDR such as 203.0.113.0/24 or 2001:db8::/32, or Gateway, or Any"))]
    pub sources: Option<Vec<String>>,
    /// Annotations of the Service, for the cloud's load balancer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Which load balancer implementation serves it; fixed once set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub load_balancer_class: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
}

impl Default for ServerService {
    fn default() -> Self {
        Self {
            type_: ServiceType::default(),
            port: default_service_port(),
            sources: None,
            annotations: BTreeMap::new(),
            load_balancer_class: None,
            external_traffic_policy: None,
        }
    }
}

fn default_service_port() -> i32 {
    80
}

/// Type of the Service.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum ServiceType {
    #[default]
    LoadBalancer,
    ClusterIP,
}

/// Whether a load balancer keeps the client's address.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum ExternalTrafficPolicy {
    Cluster,
    Local,
}

/// Registration of a server in a gateway. What is left out of `rateLimit` and `cors` comes from the gateway's
/// defaults, and then from the built-in ones.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.subscriptionRequired || !has(self.rateLimit)").message("rateLimit counts by subscription, and with subscriptionRequired: false there is none: remove rateLimit, or require a subscription"),
    validation = Rule::new("!has(oldSelf.name) || (has(self.name) && self.name == oldSelf.name)").message("gateway.name cannot be changed: delete the McpServer and create it again for another gateway")
)]
pub struct GatewayRegistration {
    /// Whether the server is registered at all.
    #[serde(default = "default_true")]
    pub enabled: bool,
    /// Name of the McpGateway. Default: the one that is marked as default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: Option<String>,
    /// Path of the API, without a slash in front. Default: `<pathPrefix>/<namespace>/<name>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new("self.matches(r'^[A-Za-z0-9][A-Za-z0-9._~-]*(/[A-Za-z0-9][A-Za-z0-9._~-]*)*$')").message("path has segments of letters, digits, dots, dashes, underscores and tildes, each starting with a letter or digit, and no slash at its start or end: such as team/weather"))]
    pub path: Option<String>,
    /// Name that people see in the gateway. Default: `<namespace>/<name>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 300))]
    pub display_name: Option<String>,
    /// What the server is for, shown in the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 800))]
    pub description: Option<String>,
    /// Where the gateway finds the server. Default: the load balancer's address and the Service's port. The gateway
    /// must allow it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 2000))]
    #[x_kube(validation = Rule::new(r"self.matches(r'^https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$')").message("backendUrl is http:// or https://, a host, and optionally a port and a path, without query or user: such as http://10.0.0.7:8000"))]
    pub backend_url: Option<String>,
    /// What happens to the registration when the object is deleted.
    #[serde(default)]
    pub management_policy: ManagementPolicy,
    /// Whether callers need a subscription key.
    #[serde(default = "default_true")]
    pub subscription_required: bool,
    /// How long the gateway waits for the server's response headers. Default: 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 240))]
    pub timeout_seconds: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// Who may make a McpAccess for this server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
}

impl Default for GatewayRegistration {
    fn default() -> Self {
        Self {
            enabled: true,
            name: None,
            path: None,
            display_name: None,
            description: None,
            backend_url: None,
            management_policy: ManagementPolicy::default(),
            subscription_required: true,
            timeout_seconds: None,
            rate_limit: None,
            cors: None,
            access: None,
        }
    }
}

fn default_true() -> bool {
    true
}

/// What the operator does with what it registered.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum ManagementPolicy {
    /// Created, repaired and removed with the object.
    #[default]
    Manage,
    /// Created and repaired, but left in the gateway when the object is deleted.
    Orphan,
}

/// Calls that one subscription may make.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Calls within the period.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub calls: i32,
    /// Length of the period in seconds; API Management allows 300 at most.
    #[serde(default = "default_renewal_seconds")]
    #[schemars(range(min = 1, max = 300))]
    pub renewal_seconds: i32,
}

fn default_renewal_seconds() -> i32 {
    60
}

/// Cross-origin calls from browsers. MCP's methods and headers are always allowed for the named origins.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!('*' in self.allowedOrigins) || (size(self.allowedOrigins) == 1 && !self.allowCredentials)").message("allowedOrigins: '*' stands alone and goes without allowCredentials, which browsers would refuse"))]
pub struct Cors {
    /// Origins such as `https://app.example.com`, or `*` alone.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 255)))]
    #[x_kube(validation = Rule::new("self.all(origin, origin == '*' || origin.matches(r'^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?$'))").message("each origin is a scheme, a host and optionally a port, such as https://app.example.com, or * alone; a wildcard inside a host is not supported by API Management"))]
    pub allowed_origins: Vec<String>,
    /// Request headers beside MCP's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(max = 128), regex(pattern = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"))
    )]
    pub allowed_headers: Vec<String>,
    /// Whether browsers send cookies and authorization.
    #[serde(default)]
    pub allow_credentials: bool,
    /// How long a browser keeps the answer of a preflight request. Default: 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86400))]
    pub max_age_seconds: Option<i32>,
}

/// Consent of a server to be called from elsewhere.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub struct Access {
    /// Namespaces whose McpAccess objects may name this server: names, `Same` (the default) or `All`.
    #[schemars(
        length(min = 1, max = 64),
        inner(
            length(max = 63),
            regex(pattern = r"^(Same|All|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$")
        )
    )]
    pub namespaces: Vec<String>,
}

/// What the operator found out.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct McpServerStatus {
    #[serde(default)]
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Pods that there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Pods that are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Label selector of the pods, for autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<RegisteredGateway>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Tools that the server offers, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool>,
    /// Number of tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_count: Option<i32>,
}

/// Where the server's MCP endpoint is found.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoints {
    /// From inside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Through the load balancer, from the sources that it accepts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<String>,
    /// Through the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
}

/// Registration in the gateway.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegisteredGateway {
    /// Name of the McpGateway.
    pub name: String,
    /// ARM id of the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_id: Option<String>,
    /// ARM id of the backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_id: Option<String>,
    /// Path of the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_write: Option<LastWrite>,
}

/// The last change that the operator made in the gateway.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastWrite {
    /// When.
    pub time: Time,
    /// What was written, such as "backend, policy".
    pub what: String,
}

/// What the server said about itself.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Protocol {
    /// Protocol revisions, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<String>,
    /// Name that the server gives itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Version that the server gives itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_version: Option<String>,
}

/// A tool and the digest of its definition, so that a change of its meaning is seen.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub struct Tool {
    /// Name by which agents call it.
    pub name: String,
    /// `sha256:` and the hash of the tool's canonical JSON.
    pub digest: String,
}
