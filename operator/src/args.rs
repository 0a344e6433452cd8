//! Command line and environment. In: argv and env; out: [`Args`], checked.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Runs MCP servers and registers them in Azure API Management.
#[derive(Clone, Debug, Parser)]
#[command(name = "mcp-fleet-operator", version)]
pub struct Args {
    /// Image of servers that name none: the bundled weather server.
    #[arg(
        long,
        env = "WEATHER_IMAGE",
        default_value = "ghcr.io/mcp-fleet/mcp-weather:0.1.0"
    )]
    pub weather_image: String,
    /// Pull policy of that image.
    #[arg(long, env = "WEATHER_IMAGE_PULL_POLICY", default_value = "IfNotPresent")]
    pub weather_image_pull_policy: String,
    /// Namespace of the lease and of the operator's own Secret.
    #[arg(long, env = "POD_NAMESPACE", default_value = "mcp-fleet-system")]
    pub namespace: String,
    /// Name of this instance in the lease and in Events. Default: the host name and a random part.
    #[arg(long, env = "POD_NAME")]
    pub instance: Option<String>,
    /// Name of the lease that makes sure only one operator writes.
    #[arg(long, env = "LEASE_NAME", default_value = "mcp-fleet-operator")]
    pub lease_name: String,
    /// How long the lease lasts without renewal.
    #[arg(long, env = "LEASE_SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(3..=3600))]
    pub lease_seconds: u64,
    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, env = "HTTP_ADDRESS", default_value = "0.0.0.0:8080")]
    pub http_address: SocketAddr,
    /// Objects of one kind that are worked on at a time.
    #[arg(long, env = "CONCURRENCY", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=500))]
    pub concurrency: u16,
    /// Seconds between two looks at what somebody may have changed in the gateway by hand.
    #[arg(long, env = "DRIFT_SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(10..=86400))]
    pub drift_seconds: u64,
    /// How the operator reaches servers to verify them.
    #[arg(long, env = "SERVER_ACCESS", default_value = "auto")]
    pub server_access: ServerAccess,
    /// Client id that gateways sign in with when they name none.
    #[arg(long, env = "AZURE_CLIENT_ID")]
    pub azure_client_id: Option<String>,
    /// Tenant that gateways sign in to when they name none.
    #[arg(long, env = "AZURE_TENANT_ID")]
    pub azure_tenant_id: Option<String>,
    /// Projected service-account token with the audience api://AzureADTokenExchange.
    #[arg(long, env = "AZURE_FEDERATED_TOKEN_FILE")]
    pub azure_federated_token_file: Option<PathBuf>,
    /// Format of the log on standard output.
    #[arg(long, env = "LOG_FORMAT", default_value = "json")]
    pub log_format: LogFormat,
    /// What is logged, as `RUST_LOG` understands it.
    #[arg(long, env = "RUST_LOG", default_value = "info,kube_lease_manager=warn")]
    pub log_filter: String,
}

/// The way from the operator to a server's Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ServerAccess {
    /// Direct in a pod, else through the API server.
    Auto,
    /// The Service's cluster address.
    Direct,
    /// The API server's proxy of the Service.
    ApiServer,
}

impl ServerAccess {
    /// Resolves `Auto`, given whether this process runs in a pod.
    pub fn resolve(self, in_pod: bool) -> Self {
        match self {
            Self::Auto if in_pod => Self::Direct,
            Self::Auto => Self::ApiServer,
            chosen => chosen,
        }
    }
}

/// Format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Json,
    Text,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_limits() {
        let args = Args::try_parse_from(["operator"]).unwrap();
        assert_eq!((args.concurrency, args.lease_seconds), (10, 15));
        for bad in [
            ["operator", "--lease-seconds=1"],
            ["operator", "--concurrency=0"],
            ["operator", "--drift-seconds=1"],
        ] {
            assert!(Args::try_parse_from(bad).is_err(), "{bad:?}");
        }
        assert_eq!(ServerAccess::Auto.resolve(true), ServerAccess::Direct);
        assert_eq!(ServerAccess::Auto.resolve(false), ServerAccess::ApiServer);
        assert_eq!(ServerAccess::ApiServer.resolve(true), ServerAccess::ApiServer);
    }
}
