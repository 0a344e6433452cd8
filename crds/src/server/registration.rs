//! Registration of a server in a gateway, and the settings that a gateway may give defaults for.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Registration of a server in a gateway. What is left out of `rateLimit` and `cors` comes from the gateway's
/// defaults, and then from the built-in ones.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.subscriptionRequired || !has(self.rateLimit)").message("rateLimit counts by subscription, and with subscriptionRequired: false there is none: remove rateLimit, or require a subscription")
)]
pub struct GatewayRegistration {
    /// Whether the server is registered at all.
    #[serde(default = "default_true")]
    pub enabled: bool,
    /// Name of the McpGateway; fixed once set. Default: the one where the server is registered, else the one that is
    /// marked as default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: Option<String>,
    /// Path of the API, without a slash in front, below `<pathPrefix>/<namespace>/` unless the gateway allows more.
    /// Default: `<pathPrefix>/<namespace>/<name>`.
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
    /// Name of the header in which callers send their subscription key. Default: the gateway's `keyHeader`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z][A-Za-z0-9-]*$') && !(self.lowerAscii() in ['accept', 'connection', 'content-length', 'content-type', 'cookie', 'host', 'last-event-id', 'mcp-method', 'mcp-name', 'mcp-protocol-version', 'mcp-session-id', 'origin', 'te', 'transfer-encoding', 'upgrade', 'x-mcp-caller'])").message("keyHeader is the name of a header that carries nothing else: letters, digits and dashes, such as X-Api-Key"))]
    pub key_header: Option<String>,
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
    /// Header in which the gateway sends the secret that only it and this server know. The bundled image demands it in
    /// X-Gateway-Secret when this is not given; another image gets it only when this is given, and finds what to demand in
    /// the Secret `<name>-gateway`: the entry `current`, and during a rotation also `previous`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z][A-Za-z0-9-]*$') && !(self.lowerAscii() in ['authorization', 'host', 'cookie', 'origin', 'connection', 'content-length', 'transfer-encoding', 'ocp-apim-subscription-key', 'x-mcp-caller', 'x-mcp-caller-time', 'x-mcp-caller-signature'])").message("secretHeader is the name of a header of its own: letters, digits and dashes, such as X-Gateway-Secret"))]
    pub secret_header: Option<String>,
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
            key_header: None,
            timeout_seconds: None,
            rate_limit: None,
            cors: None,
            access: None,
            secret_header: None,
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
