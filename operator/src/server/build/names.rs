//! Names inside the children. In: the server's name; out: names and constants.

/// Container of the server.
pub const CONTAINER: &str = "mcp";
/// Port of the container and of the Service.
pub const PORT: &str = "mcp";
pub const PEER_PORT: &str = "peer";
pub const METRICS_PORT: &str = "metrics";

pub const TMP_VOLUME: &str = "mcp-fleet-tmp";
pub const REPLICA_KEY_VOLUME: &str = "mcp-fleet-replica-key";
pub const GATEWAY_SECRET_VOLUME: &str = "mcp-fleet-gateway-secret";
/// Volumes that users cannot name.
pub const VOLUMES: [&str; 3] = [TMP_VOLUME, REPLICA_KEY_VOLUME, GATEWAY_SECRET_VOLUME];

/// Where the replicas' key is mounted.
pub const REPLICA_KEY_FOLDER: &str = "/var/run/mcp-fleet/replica-key";
/// The entry of the Secret, and so the file, with the key in use.
pub const REPLICA_KEY_ENTRY: &str = "current";

/// Where what the gateway sends is mounted.
pub const GATEWAY_SECRET_FOLDER: &str = "/var/run/mcp-fleet/gateway-secret";
/// The entry with the newest secret, and during a rotation the one with the other that is accepted.
pub const GATEWAY_SECRET_ENTRY: &str = "current";
pub const GATEWAY_SECRET_OTHER: &str = "previous";

/// Secret with what the gateway sends to a server.
pub fn gateway_secret(server: &str) -> String {
    format!("{server}-gateway")
}

/// Secret with the key that the replicas of a server share.
pub fn replica_key(server: &str) -> String {
    format!("{server}-replica-key")
}
