//! McpGateway: an API Management service that servers of this cluster are registered in.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Cors, RateLimit};

/// A gateway and what the servers behind it may do. Cluster-scoped, for the platform team.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "mcpfleet.dev",
    version = "v1alpha1",
    kind = "McpGateway",
    doc = "A gateway that MCP servers are registered in. Annotate one with mcpfleet.dev/is-default-gateway: \"true\".",
    status = "McpGatewayStatus",
    derive = "PartialEq",
    shortname = "mcpgw",
    category = "mcp",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "SKU", type_ = "string", json_path = ".status.sku"),
    printcolumn(name = "Servers", type_ = "integer", json_path = ".status.servers"),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.gatewayUrl"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#, priority = 1),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')").message("metadata.name is a DNS label: lower-case letters, digits and dashes, at most 63 characters")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.apim)").message("exactly one kind of gateway must be given: apim"),
    validation = Rule::new("(has(self.pathPrefix) ? self.pathPrefix : '') == (has(oldSelf.pathPrefix) ? oldSelf.pathPrefix : '')").message("pathPrefix cannot be changed: every server's address would move")
)]
pub struct McpGatewaySpec {
    /// An Azure API Management service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apim: Option<Apim>,
    /// Name of this cluster among those that share the gateway: part of the id of everything registered.
    #[schemars(
        length(min = 1, max = 24),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    #[x_kube(validation = Rule::new("self == oldSelf").message("clusterId cannot be changed: it is part of the id of everything registered"))]
    pub cluster_id: String,
    /// First part of every server's path. Default: the clusterId.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    #[x_kube(validation = Rule::new("self.matches(r'^[A-Za-z0-9][A-Za-z0-9._~-]*(/[A-Za-z0-9][A-Za-z0-9._~-]*)*$')").message("pathPrefix has segments of letters, digits, dots, dashes, underscores and tildes, and no slash at its start or end: such as mcp/prod"))]
    pub path_prefix: Option<String>,
    /// Namespaces whose servers may use this gateway: names, or `All` (the default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 256),
        inner(length(max = 63), regex(pattern = r"^(All|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$"))
    )]
    pub allowed_namespaces: Option<Vec<String>>,
    /// Base URL that agents call, such as `https://mcp.example.com`: a custom domain, or what stands in front of the
    /// service. Default: the service's default host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 500))]
    #[x_kube(validation = Rule::new(r"self.matches(r'^https://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*/?$')").message("url is https://, a host, and optionally a port and a path, without query or user: such as https://mcp.example.com"))]
    pub url: Option<String>,
    /// What teams may do with their servers beyond the ordinary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<Allow>,
    /// What servers get that do not say otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<GatewayDefaults>,
    /// Name of the header in which callers send their subscription key, for clients that can set only certain headers. Default:
    /// `Ocp-Apim-Subscription-Key`. The gateway takes it out before it calls the server, so with `Authorization` servers
    /// get no tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z][A-Za-z0-9-]*$') && !(self.lowerAscii() in ['accept', 'connection', 'content-length', 'content-type', 'cookie', 'host', 'last-event-id', 'mcp-method', 'mcp-name', 'mcp-protocol-version', 'mcp-session-id', 'origin', 'te', 'transfer-encoding', 'upgrade', 'x-mcp-caller'])").message("keyHeader is the name of a header that carries nothing else: letters, digits and dashes, such as X-Api-Key"))]
    pub key_header: Option<String>,
    /// With whose key the operator proves that an agent gets through.
    #[serde(default)]
    pub probe: Probe,
    /// Any text; another one rotates the secret that the gateway sends to its servers, without a refused call. It takes
    /// about ten minutes: see status.secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub rotate_secret: Option<String>,
    /// Bounds on the operator's writes to the service. Gateways whose services are in one Azure subscription and that
    /// sign in alike share one budget, as they do in Azure: the strictest of their bounds holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writes: Option<Writes>,
}

/// An API Management service and how the operator signs in.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.cloud) && has(self.endpoints))").message("give cloud or endpoints, not both"),
    validation = Rule::new("self.subscriptionId == oldSelf.subscriptionId && self.resourceGroup == oldSelf.resourceGroup && self.serviceName == oldSelf.serviceName").message("subscriptionId, resourceGroup and serviceName cannot be changed: create another McpGateway")
)]
pub struct Apim {
    /// Azure subscription of the service.
    #[schemars(length(min = 36, max = 36))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$')").message("subscriptionId is the id of an Azure subscription, such as 00000000-0000-0000-0000-000000000000: see az account show --query id"))]
    pub subscription_id: String,
    /// Resource group of the service.
    #[schemars(length(min = 1, max = 90), regex(pattern = r"^[-\w._()]+$"))]
    pub resource_group: String,
    /// Name of the service.
    #[schemars(
        length(min = 1, max = 50),
        regex(pattern = r"^[A-Za-z]([-A-Za-z0-9]*[A-Za-z0-9])?$")
    )]
    pub service_name: String,
    /// Addresses from which the gateway calls servers, beside those that the service reports: its subnet, a NAT
    /// gateway, a self-hosted gateway. Needed where the tier reports none (all v2 tiers, Consumption) and in a virtual
    /// network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 49)))]
    #[x_kube(validation = Rule::new("self.all(range, isCIDR(range) && !range.endsWith('/0'))").message("each of sourceRanges is a CIDR such as 203.0.113.0/24 or 2001:db8::/32, and not everybody: for that see allow.anySource"))]
    pub source_ranges: Option<Vec<String>>,
    /// Which Azure. Default: AzurePublic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud: Option<Cloud>,
    /// Endpoints of an Azure that `cloud` does not name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<CloudEndpoints>,
    /// Certificates (PEM) that are trusted beside the public ones, for all connections to this service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 262_144))]
    pub ca_bundle: Option<String>,
    /// How the operator signs in. Default: workload identity with the operator's own client and tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<ApimCredential>,
}

/// What a platform team leaves to the teams. All is closed that is not opened here, but images and the number of
/// servers. The rules hold for each server that the gateway governs: the one that a server names or is registered in,
/// else the default gateway, also with `gateway.enabled: false`. A leave that is withdrawn takes effect at once: what it
/// had opened is closed or taken out of the gateway.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a rule of its own, as people write it"
)]
pub struct Allow {
    /// Servers that agents call without a subscription (`gateway.subscriptionRequired: false`).
    #[serde(default)]
    pub anonymous: bool,
    /// Load balancers that are open to everybody (`service.sources: [Any]`).
    #[serde(default)]
    pub any_source: bool,
    /// Calls from web pages of any origin (`gateway.cors.allowedOrigins: ['*']`).
    #[serde(default)]
    pub wildcard_cors: bool,
    /// Registrations that outlive their server (`gateway.managementPolicy: Orphan`).
    #[serde(default)]
    pub orphan: bool,
    /// Backends that a team names (`gateway.backendUrl`).
    #[serde(default)]
    pub backend_url: bool,
    /// Paths outside `<pathPrefix>/<own namespace>/` (`gateway.path`).
    #[serde(default)]
    pub any_path: bool,
    /// Patterns of images that may run, with `*` for anything, such as `registry.example.com/*`. Default: every image.
    /// The one that the operator was installed with may run anyway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    pub images: Option<Vec<String>>,
    /// Patterns of keys that `service.annotations` may have, with `*` for anything. Default: a short list of harmless
    /// ones, such as that for an internal load balancer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 317)))]
    pub service_annotations: Option<Vec<String>>,
    /// Patterns of service accounts that pods may have, with `*` for anything. Default: only the namespace's `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub service_accounts: Option<Vec<String>>,
    /// Servers in one namespace; the older ones stay. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10000))]
    pub servers_per_namespace: Option<i32>,
}

/// The national clouds.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum Cloud {
    AzurePublic,
    AzureUSGovernment,
    AzureChina,
}

/// Endpoints of one Azure.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloudEndpoints {
    /// Azure Resource Manager, such as `https://management.azure.com`.
    #[schemars(length(min = 9, max = 500))]
    #[x_kube(validation = Rule::new(r"self.matches(r'^https://[^\s?#]+$')").message("endpoint is an https:// URL without query"))]
    pub endpoint: String,
    /// Sign-in authority, such as `https://login.microsoftonline.com`.
    #[schemars(length(min = 9, max = 500))]
    #[x_kube(validation = Rule::new(r"self.matches(r'^https://[^\s?#]+$')").message("authority is an https:// URL without query"))]
    pub authority: String,
    /// Audience of the tokens. Default: the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 500))]
    #[x_kube(validation = Rule::new(r"self.matches(r'^https://[^\s?#]+$')").message("audience is an https:// URL without query"))]
    pub audience: Option<String>,
}

/// Exactly one way to sign in.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.workloadIdentity)").message("exactly one way to sign in must be given: workloadIdentity"))]
pub struct ApimCredential {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_identity: Option<WorkloadIdentity>,
}

/// Federated sign-in with the operator's service-account token.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadIdentity {
    /// Client id of the managed identity or application. Default: the operator's AZURE_CLIENT_ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[0-9a-fA-F-]+$"))]
    pub client_id: Option<String>,
    /// Tenant. Default: the operator's AZURE_TENANT_ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[0-9A-Za-z.-]+$"))]
    pub tenant_id: Option<String>,
}

/// Defaults for servers that do not say otherwise.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayDefaults {
    /// Built-in default: 1,000 calls in 60 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// Built-in default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// Built-in default: 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 240))]
    pub timeout_seconds: Option<i32>,
}

/// With whose key servers are verified through the gateway.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum Probe {
    /// A subscription per server, of the scope of its API alone.
    #[default]
    PerServer,
    /// One subscription for all APIs of the service.
    AllApis,
    /// No calls through the gateway, for an operator that cannot reach it.
    None,
}

/// Token bucket for writes (PUT, PATCH, POST, DELETE).
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Writes {
    /// Sustained writes per second.
    #[serde(default = "default_per_second")]
    #[schemars(range(min = 1, max = 100))]
    pub per_second: i32,
    /// Writes that may go at once.
    #[serde(default = "default_burst")]
    #[schemars(range(min = 1, max = 1000))]
    pub burst: i32,
}

impl Default for Writes {
    fn default() -> Self {
        Self {
            per_second: default_per_second(),
            burst: default_burst(),
        }
    }
}

fn default_per_second() -> i32 {
    10
}

fn default_burst() -> i32 {
    200
}

/// What the operator found out.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct McpGatewayStatus {
    #[serde(default)]
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Base URL that agents call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_url: Option<String>,
    /// Tier of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sku: Option<String>,
    /// Addresses from which the gateway calls, as the service reports them, sorted, and then as
    /// `apim.sourceRanges` states them; empty where neither does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_addresses: Vec<String>,
    /// Servers that are registered here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub servers: Option<i32>,
    /// The secret that the gateway sends to its servers, as soon as one demands it: never the secret itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<GatewaySecretStatus>,
}

/// Which secret the gateway sends. Servers accept `number` and `other`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySecretStatus {
    /// Number of the secret that is sent; each rotation counts one up.
    pub number: i64,
    /// During a rotation, the other one that servers accept: the next one, and after the switch the former one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<i64>,
    /// The value of spec.rotateSecret that this is the answer to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<String>,
    /// Since when every server accepts both, and after the switch, when that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}
