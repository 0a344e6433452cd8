//! Names inside the children. In: the server's name; out: names and constants.

/// Container of the server.
pub const CONTAINER: &str = "mcp";
/// Port of the container and of the Service.
pub const PORT: &str = "mcp";
pub const PEER_PORT: &str = "peer";
pub const METRICS_PORT: &str = "metrics";

pub const TMP_VOLUME: &str = "mcp-fleet-tmp";
pub const REPLICA_KEY_VOLUME: &str = "mcp-fleet-replica-key";
/// Volumes that users cannot name.
pub const VOLUMES: [&str; 2] = [TMP_VOLUME, REPLICA_KEY_VOLUME];

/// Where the replicas' key is mounted.
pub const REPLICA_KEY_FOLDER: &str = "/var/run/mcp-fleet/replica-key";
/// The entry of the Secret, and so the file, with the key in use.
pub const REPLICA_KEY_ENTRY: &str = "current";

/// Secret with the key that the replicas of a server share.
pub fn replica_key(server: &str) -> String {
    format!("{server}-replica-key")
}
