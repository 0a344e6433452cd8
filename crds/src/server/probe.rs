//! How the operator looks whether an MCP client gets through to a server.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator needs to speak to the server as a client would.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerProbe {
    /// A token that the server demands of its clients. The operator sends it as `Authorization: Bearer`, directly and
    /// through the gateway, and reads it anew for each look. Without one, a server that demands a token is verified
    /// as far as that: its tools are not seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<TokenSecret>,
}

/// An entry of a Secret in the server's namespace.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenSecret {
    /// Name of the Secret.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,
    /// Its entry that holds the token, at most 8 KiB.
    #[serde(default = "default_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

fn default_key() -> String {
    "token".to_owned()
}
