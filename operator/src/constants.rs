//! Names that are written into the cluster and read back: each once, here. In: nothing; out: constants.

/// Who calls: in the audit log of the API server, in traces of Azure Resource Manager, in access logs of servers.
pub const USER_AGENT: &str = concat!("mcp-fleet-operator/", env!("CARGO_PKG_VERSION"));
/// The same of calls that only look whether a server answers, so that its logs can leave them out.
pub const PROBE_USER_AGENT: &str = concat!("mcp-fleet-operator/", env!("CARGO_PKG_VERSION"), " (probe)");

/// Keeps an object until its registration is gone.
pub const FINALIZER: &str = "mcpfleet.dev/finalizer";

/// Annotations that the operator writes or reads.
pub mod annotations {
    /// JSON of the claim: who claimed what, before the first write to the gateway.
    pub const CLAIM: &str = "mcpfleet.dev/claim";
    /// Of the lease: which release its holder belongs to, as namespace/name.
    pub const RELEASE: &str = "mcpfleet.dev/release";
    /// Digest of what was last applied to a child, so that a field that is wanted no more is noticed.
    pub const APPLIED: &str = "mcpfleet.dev/applied";
    /// On the Secret of an access: which of the subscription's two keys it holds.
    pub const KEY: &str = "mcpfleet.dev/key";
    /// On the Secret of an access: the ETag of the subscription when the key was read.
    pub const KEY_ETAG: &str = "mcpfleet.dev/key-etag";
    /// Of a server's Secret with what its gateway sends: which gateway, which numbers, and a print of the content.
    pub const GATEWAY_SECRET: &str = "mcpfleet.dev/gateway-secret";
    /// On the Service with further ports: name of the ServiceMonitor that reads one of them.
    pub const MONITOR: &str = "mcpfleet.dev/monitor";
    /// On pods: stands for the content of the ConfigMaps and Secrets that they refer to.
    pub const CONFIG: &str = "mcpfleet.dev/config";
}

/// Labels of children.
pub mod labels {
    pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
    pub const NAME: &str = "app.kubernetes.io/name";
    pub const INSTANCE: &str = "app.kubernetes.io/instance";
    pub const COMPONENT: &str = "app.kubernetes.io/component";
    /// Name of the McpServer, and the selector of its pods.
    pub const SERVER: &str = "mcpfleet.dev/server";
    /// Name of the McpAccess.
    pub const ACCESS: &str = "mcpfleet.dev/access";

    /// Value of [`MANAGED_BY`].
    pub const OPERATOR: &str = "mcp-fleet-operator";
    /// Value of [`NAME`] on the children of a server.
    pub const MCP_SERVER: &str = "mcp-server";
    /// Value of [`COMPONENT`] on the Service with further ports.
    pub const EXTRA_PORTS: &str = "extra-ports";
    /// Prefixes of keys that users cannot set on pods.
    pub const RESERVED: [&str; 2] = ["mcpfleet.dev/", "app.kubernetes.io/"];
}

/// One field manager per place: server-side apply drops what a manager owned before and does not send now.
pub mod field_managers {
    pub const CHILDREN: &str = "mcp-fleet-operator";
    pub const CLAIM: &str = "mcp-fleet-claim";
    pub const STATUS: &str = "mcp-fleet-status";
}

/// Kinds as metric labels, Event reporters and span fields.
pub mod kinds {
    pub const SERVER: &str = "McpServer";
    pub const GATEWAY: &str = "McpGateway";
    pub const ACCESS: &str = "McpAccess";
}

/// The lease that makes sure only one operator of a cluster writes: of one name, whatever its release is called.
pub const LEASE: &str = "mcp-fleet-operator";
/// Secret in the operator's namespace with the key that probe keys are derived from.
pub const PROBE_SECRET: &str = "mcp-fleet-probe";
/// Its only entry.
pub const PROBE_SECRET_KEY: &str = "master";
