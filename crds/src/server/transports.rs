//! What a server speaks.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

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
    /// Path of the endpoint at the server, used as it is given: a slash at its end, or `/` alone, counts. It is also the
    /// path below the API in the gateway.
    #[serde(default = "default_mcp_path")]
    #[schemars(length(min = 1, max = 200))]
    #[x_kube(validation = Rule::new("self.matches(r'^(/[A-Za-z0-9._~-]+)*/?$')").message("path starts with a slash and has segments of letters, digits, dots, dashes, underscores and tildes: such as /mcp, /mcp/ or /"))]
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
    #[schemars(length(min = 1, max = 200))]
    #[x_kube(validation = Rule::new("self.matches(r'^(/[A-Za-z0-9._~-]+)*/?$')").message("path starts with a slash and has segments of letters, digits, dots, dashes, underscores and tildes: such as /sse"))]
    pub path: String,
    /// Template of the path that takes the client's messages; a segment may be a parameter such as {session_id}.
    #[serde(default = "default_messages_path")]
    #[schemars(length(min = 1, max = 200))]
    #[x_kube(validation = Rule::new(r"self.matches(r'^(/([A-Za-z0-9._~-]+|\{[A-Za-z_][A-Za-z0-9_]*\}))*/?$')").message("messagesPath starts with a slash, and each segment is plain or one parameter in braces: such as /messages/{session_id}"))]
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
