//! McpAccess: who may call. The consumer of a server is not its owner, hence a kind of its own.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::server::ManagementPolicy;

/// A key for a set of servers, kept in a Secret.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "mcpfleet.dev",
    version = "v1alpha1",
    kind = "McpAccess",
    plural = "mcpaccesses",
    namespaced,
    doc = "Access to MCP servers: a product and a subscription in the gateway, and a Secret with the key.",
    status = "McpAccessStatus",
    derive = "PartialEq",
    shortname = "mcpa",
    category = "mcp",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Servers", type_ = "integer", json_path = ".status.serverCount"),
    printcolumn(name = "Gateway", type_ = "string", json_path = ".status.gateway.name"),
    printcolumn(name = "Secret", type_ = "string", json_path = ".status.secretName"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#, priority = 1),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,48}[a-z0-9])?$')").message("metadata.name is a DNS-1035 label of at most 50 characters: lower-case letters, digits and dashes, a letter first")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.servers) != has(self.selector)").message("give servers or selector: one of the two, and not both"),
    validation = Rule::new("!has(self.servers) || self.servers.all(one, self.servers.exists_one(other, other == one))").message("servers: each is named once")
)]
pub struct McpAccessSpec {
    /// The servers by name, all behind one gateway. Each must consent through its gateway.access.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 50))]
    pub servers: Vec<ServerRef>,
    /// The servers by their labels, in place of `servers`: 50 at most, behind one gateway. Each must consent as well;
    /// those that come later are opened when they come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<ServerSelector>,
    /// Name of the Secret that receives the key, in this namespace. Default: `<name>-mcp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub secret_name: Option<String>,
    /// What happens to product and subscription when the object is deleted. With `Orphan`, which the gateway must allow,
    /// they stay, and with them the key: no consent that is withdrawn later ends it.
    #[serde(default)]
    pub management_policy: ManagementPolicy,
    /// Any text; a new one asks for a new key. The Secret gets it at once, and the former key works until
    /// `rotationGraceSeconds` are over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub rotate: Option<String>,
    /// How long the former key works after a rotation: the time that callers have to read the Secret again. Default:
    /// 86,400, a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 2_592_000))]
    pub rotation_grace_seconds: Option<i32>,
}

/// Servers by their labels.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerSelector {
    /// Labels that a McpServer has, all of them; without any, every server of the namespaces.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Where to look: names of namespaces, `Same` (the default) or `All`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = 64),
        inner(
            length(max = 63),
            regex(pattern = r"^(Same|All|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$")
        )
    )]
    pub namespaces: Vec<String>,
}

/// A server.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
pub struct ServerRef {
    /// Name of the McpServer.
    #[schemars(length(min = 1, max = 50), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Default: the namespace of the McpAccess.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub namespace: Option<String>,
}

/// What the operator found out.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct McpAccessStatus {
    #[serde(default)]
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<AccessGatewayStatus>,
    /// The servers that the key opens, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<AccessServerStatus>,
    /// Their number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_count: Option<i32>,
    /// The Secret that holds the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// Which of the subscription's two keys is in the Secret, and until when the other one works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<AccessKeyStatus>,
}

/// The key of an access.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessKeyStatus {
    /// The one that is in the Secret.
    pub in_use: AccessKey,
    /// The value of `spec.rotate` that this key answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate: Option<String>,
    /// When the former key ends, while it still works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former_ends: Option<Time>,
}

/// One of the two keys of a subscription.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum AccessKey {
    #[default]
    Primary,
    Secondary,
}

/// What was made in the gateway.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessGatewayStatus {
    /// Name of the McpGateway.
    pub name: String,
    /// ARM id of the product.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product_id: Option<String>,
    /// ARM id of the subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription_id: Option<String>,
}

/// One server of an access.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
pub struct AccessServerStatus {
    /// Namespace of the McpServer.
    pub namespace: String,
    /// Name of the McpServer.
    pub name: String,
    /// Its MCP endpoint in the gateway.
    pub url: String,
}
