//! Names inside the children. In: the server's name; out: names and constants.

/// Container of the server.
pub const CONTAINER: &str = "mcp";
/// Port of the container and of the Service.
pub const PORT: &str = "mcp";
pub const PEER_PORT: &str = "peer";
pub const METRICS_PORT: &str = "metrics";

const WANTED_PEER_PORT: u16 = 8001;
const WANTED_METRICS_PORT: u16 = 9090;

/// Where replicas of the bundled image talk to each other, and where its metrics are: beside the port for MCP.
pub fn bundled_ports(port: u16) -> [(&'static str, u16); 2] {
    [
        (PEER_PORT, WANTED_PEER_PORT + u16::from(port == WANTED_PEER_PORT)),
        (
            METRICS_PORT,
            WANTED_METRICS_PORT + u16::from(port == WANTED_METRICS_PORT),
        ),
    ]
}

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

/// Service with the ports beside MCP's.
pub fn extra_ports(server: &str) -> String {
    format!("{server}-extra-ports")
}

/// Secret with what the gateway sends to a server.
pub fn gateway_secret(server: &str) -> String {
    format!("{server}-gateway")
}

/// Secret with the key that the replicas of a server share.
pub fn replica_key(server: &str) -> String {
    format!("{server}-replica-key")
}
