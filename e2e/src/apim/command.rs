//! `mcp-fleet-e2e stand-in`: the stand-in as a process of its own, such as a pod.
//! In: flags and environment. Out: a stand-in that serves until the process is told to end.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::config::{Certificate, Config, KeySource, Listen};
use super::{StandIn, Switches};

#[derive(Args, Debug)]
pub struct Arguments {
    /// Address of the TLS port
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8443")]
    listen: SocketAddr,
    /// Address of the test controls (plain HTTP)
    #[arg(long, env = "CONTROL", default_value = "0.0.0.0:9000")]
    control: SocketAddr,
    /// Host of the management plane, with its port
    #[arg(long, env = "ARM_HOST", default_value = "arm.azure.svc.cluster.local:8443")]
    arm_host: String,
    /// Host of the token endpoint, with its port
    #[arg(
        long,
        env = "LOGIN_HOST",
        default_value = "login.azure.svc.cluster.local:8443"
    )]
    login_host: String,
    /// Host of the gateway, with its port
    #[arg(
        long,
        env = "GATEWAY_HOST",
        default_value = "gateway.azure.svc.cluster.local:8443"
    )]
    gateway_host: String,
    /// PEM files; without them the stand-in makes a CA and a certificate of its own
    #[arg(long, env = "TLS_CERTIFICATE", requires_all = ["tls_key", "tls_ca"])]
    tls_certificate: Option<PathBuf>,
    #[arg(long, env = "TLS_KEY")]
    tls_key: Option<PathBuf>,
    #[arg(long, env = "TLS_CA")]
    tls_ca: Option<PathBuf>,
    /// Addresses that the service reports as its own
    #[arg(long, env = "POD_IP", value_delimiter = ',')]
    public_ip: Vec<String>,
    /// Where the keys of service-account tokens come from: `kubernetes`, a file or an URL
    #[arg(long, env = "TOKEN_KEYS", default_value = "kubernetes")]
    token_keys: String,
    /// Issuer of service-account tokens; the API server's own when left out
    #[arg(long, env = "TOKEN_ISSUER")]
    token_issuer: Option<String>,
    /// Subject of the federated credential
    #[arg(long, env = "TOKEN_SUBJECT")]
    token_subject: Option<String>,
    #[arg(long, env = "TENANT_ID")]
    tenant: Option<String>,
    #[arg(long, env = "CLIENT_ID")]
    client: Option<String>,
    /// Audience of ARM tokens, beside those of Azure
    #[arg(long, env = "ARM_AUDIENCE", value_delimiter = ',')]
    arm_audience: Vec<String>,
    #[arg(long, env = "SUBSCRIPTION_ID")]
    subscription: Option<String>,
    #[arg(long, env = "RESOURCE_GROUP")]
    resource_group: Option<String>,
    #[arg(long, env = "SERVICE_NAME")]
    service: Option<String>,
    #[arg(long, env = "SKU")]
    sku: Option<String>,
    /// Settings of guessed behaviours, as JSON
    #[arg(long, env = "SWITCHES")]
    switches: Option<String>,
    /// Folder with Microsoft's ARM JSON schemas, to check bodies against as well
    #[arg(long, env = "SCHEMAS")]
    schemas: Option<PathBuf>,
}

impl Arguments {
    fn config(self) -> anyhow::Result<Config> {
        let default = Config::default();
        let hosts = [&self.arm_host, &self.login_host, &self.gateway_host];
        let certificate = match (self.tls_certificate, self.tls_key, self.tls_ca) {
            (Some(certificate), Some(key), Some(ca)) => Certificate::Files { certificate, key, ca },
            _ => Certificate::SelfMade {
                names: hosts.map(|host| name(host)).to_vec(),
            },
        };
        let keys = match self.token_keys.as_str() {
            "kubernetes" => KeySource::Kubernetes,
            url if url.starts_with("http") => KeySource::Url(url.to_owned()),
            path => KeySource::File(path.into()),
        };
        Ok(Config {
            tenant: self.tenant.unwrap_or(default.tenant),
            client_id: self.client.unwrap_or(default.client_id),
            subject: self.token_subject.unwrap_or(default.subject),
            issuer: self.token_issuer,
            keys,
            arm_audiences: default
                .arm_audiences
                .into_iter()
                .chain(self.arm_audience)
                .collect(),
            subscription: self.subscription.unwrap_or(default.subscription),
            resource_group: self.resource_group.unwrap_or(default.resource_group),
            service: self.service.unwrap_or(default.service),
            sku: self.sku.unwrap_or(default.sku),
            public_ip_addresses: self
                .public_ip
                .into_iter()
                .filter(|address| !address.is_empty())
                .collect(),
            certificate,
            listen: Listen::Hosts {
                tls: self.listen,
                control: self.control,
                arm: self.arm_host,
                login: self.login_host,
                gateway: self.gateway_host,
            },
            switches: self
                .switches
                .as_deref()
                .map(serde_json::from_str::<Switches>)
                .transpose()?
                .unwrap_or_default(),
            schemas: self.schemas,
            ..Config::default()
        })
    }
}

fn name(host: &str) -> String {
    host.split(':').next().unwrap_or_default().to_owned()
}

/// Serves until SIGTERM or SIGINT.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let stand_in = StandIn::start(arguments.config()?).await?;
    tracing::info!(
        arm = stand_in.arm_url,
        login = stand_in.login_url,
        gateway = stand_in.gateway_url,
        control = stand_in.control_url,
        "the API Management stand-in is up"
    );
    crate::commands::interrupted().await
}
