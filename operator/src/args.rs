//! Command line and environment. In: argv and env; out: [`Args`], checked.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use k8s_openapi::api::core::v1::EnvVar;

/// Runs MCP servers and registers them in Azure API Management.
#[derive(Clone, Debug, Parser)]
#[command(name = "mcp-fleet-operator", version)]
pub struct Args {
    /// Image of servers that name none: the bundled weather server.
    #[arg(
        long,
        env = "WEATHER_IMAGE",
        default_value = "localhost/mcp-fleet/mcp-weather:dev"
    )]
    pub weather_image: String,
    /// Pull policy of that image.
    #[arg(long, env = "WEATHER_IMAGE_PULL_POLICY", default_value = "IfNotPresent")]
    pub weather_image_pull_policy: String,
    /// Environment of that image in every server: a JSON list of EnvVar. What a server sets itself wins.
    #[arg(long, env = "WEATHER_ENV", default_value = "", hide_default_value = true, value_parser = weather_env)]
    pub weather_env: WeatherEnv,
    /// Namespace of the operator and of its own Secret.
    #[arg(long, env = "POD_NAMESPACE", default_value = "mcp-fleet-system")]
    pub namespace: String,
    /// Name of this instance in the lease and in Events. Default: the host name and a random part.
    #[arg(long, env = "POD_NAME")]
    pub instance: Option<String>,
    /// Namespace of the lease that makes sure only one operator writes: the same for every release in the cluster.
    #[arg(long, env = "LEASE_NAMESPACE", default_value = "kube-system")]
    pub lease_namespace: String,
    /// Name of the release that this process belongs to, so that another one is told from a replica of this one.
    #[arg(long, env = "RELEASE", default_value = "mcp-fleet")]
    pub release: String,
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
    /// Azure Resource Manager, for gateways that name neither cloud nor endpoints. Default: public Azure.
    #[arg(long, env = "AZURE_RESOURCE_MANAGER_ENDPOINT")]
    pub azure_resource_manager_endpoint: Option<String>,
    /// Audience of the tokens for it. Default: the endpoint.
    #[arg(long, env = "AZURE_RESOURCE_MANAGER_AUDIENCE")]
    pub azure_resource_manager_audience: Option<String>,
    /// Sign-in authority that goes with it.
    #[arg(long, env = "AZURE_AUTHORITY_HOST")]
    pub azure_authority_host: Option<String>,
    /// Certificates (PEM) that are trusted beside the public ones and a gateway's own.
    #[arg(long, env = "EXTRA_CA_FILE")]
    pub extra_ca_file: Option<PathBuf>,
    /// Format of the log on standard output.
    #[arg(long, env = "LOG_FORMAT", default_value = "json")]
    pub log_format: LogFormat,
    /// What is logged, as `RUST_LOG` understands it.
    #[arg(long, env = "RUST_LOG", default_value = "info,kube_lease_manager=warn")]
    pub log_filter: String,
}

/// Environment variables of the bundled image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WeatherEnv(pub Vec<EnvVar>);

fn weather_env(text: &str) -> Result<WeatherEnv, String> {
    if text.is_empty() {
        return Ok(WeatherEnv::default());
    }
    let parsed = serde_json::from_str(text).map(WeatherEnv);
    parsed.map_err(|error| format!("not a JSON list of environment variables: {error}"))
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
    #[must_use]
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
    fn weather_env_is_a_list_of_variables_or_nothing() {
        let parse = |text: &str| Args::try_parse_from(["operator", "--weather-env", text]);
        assert_eq!(parse("").unwrap().weather_env, WeatherEnv::default());
        let WeatherEnv(env) = parse(r#"[{"name":"A","value":"b=$(C)"}]"#).unwrap().weather_env;
        assert_eq!(
            (env[0].name.as_str(), env[0].value.as_deref()),
            ("A", Some("b=$(C)"))
        );
        let error = parse("A=b").unwrap_err().to_string();
        assert!(
            error.contains("--weather-env") && error.contains("JSON list"),
            "{error}"
        );
    }

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
