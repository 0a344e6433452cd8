//! How a stand-in is set up: which service it plays, whose tokens it takes, where it listens.

use std::net::SocketAddr;
use std::path::PathBuf;

use jsonwebtoken::jwk::JwkSet;

use super::switches::Switches;

/// Where the public keys of the cluster's service-account tokens come from.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// No token is taken at the token endpoint.
    None,
    Keys(JwkSet),
    File(PathBuf),
    Url(String),
    /// `/openid/v1/jwks` of the API server that this process can reach (in a pod: with its own service account).
    Kubernetes,
}

#[derive(Clone, Debug)]
pub enum Listen {
    /// Three free ports on 127.0.0.1, one for each plane, and one for the controls.
    Loopback,
    /// One TLS port for all planes, told apart by host name, and one plain port for the controls.
    Hosts {
        tls: SocketAddr,
        control: SocketAddr,
        arm: String,
        login: String,
        gateway: String,
    },
}

/// The certificate that the stand-in shows.
#[derive(Clone, Debug)]
pub enum Certificate {
    /// Issued at the start by a CA of its own for these host names, `localhost` and 127.0.0.1.
    SelfMade { names: Vec<String> },
    /// PEM files; `ca` is what clients trust.
    Files {
        certificate: PathBuf,
        key: PathBuf,
        ca: PathBuf,
    },
}

#[derive(Clone, Debug)]
pub struct Config {
    pub tenant: String,
    pub client_id: String,
    /// Subject of the federated credential.
    pub subject: String,
    /// Audience of the federated credential.
    pub federated_audience: String,
    /// Issuer of the federated credential; taken from the API server for [`KeySource::Kubernetes`] when absent.
    pub issuer: Option<String>,
    pub keys: KeySource,
    /// Audiences for which ARM tokens are issued, without trailing slash. The ARM URL itself is always one.
    pub arm_audiences: Vec<String>,
    /// Bearer tokens that the ARM plane takes as they are; for tests that leave the token endpoint out.
    pub static_tokens: Vec<String>,
    pub subscription: String,
    pub resource_group: String,
    pub service: String,
    pub location: String,
    pub sku: String,
    /// Addresses from which the gateway calls backends; none for tiers that report none.
    pub public_ip_addresses: Vec<String>,
    pub certificate: Certificate,
    pub listen: Listen,
    pub switches: Switches,
    /// Folder with Microsoft's ARM JSON schemas, for a second opinion on every PUT.
    pub schemas: Option<PathBuf>,
    /// Public base URLs, without trailing slash; set by `StandIn::start` for [`Listen::Loopback`].
    pub arm_url: String,
    pub login_url: String,
    pub gateway_url: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tenant: "00000000-0000-0000-0000-00000000000a".into(),
            client_id: "00000000-0000-0000-0000-00000000000c".into(),
            subject: "system:serviceaccount:mcp-fleet-system:mcp-fleet-operator".into(),
            federated_audience: "api://AzureADTokenExchange".into(),
            issuer: None,
            keys: KeySource::None,
            arm_audiences: vec![
                "https://management.azure.com".into(),
                "https://management.core.windows.net".into(),
            ],
            static_tokens: Vec::new(),
            subscription: "00000000-0000-0000-0000-000000000001".into(),
            resource_group: "demo".into(),
            service: "contoso".into(),
            location: "West Europe".into(),
            sku: "Developer".into(),
            public_ip_addresses: vec!["127.0.0.1".into()],
            certificate: Certificate::SelfMade { names: Vec::new() },
            listen: Listen::Loopback,
            switches: Switches::default(),
            schemas: None,
            arm_url: String::new(),
            login_url: String::new(),
            gateway_url: String::new(),
        }
    }
}

impl Config {
    /// Path of the service in ARM.
    pub fn service_path(&self) -> String {
        format!(
            "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.ApiManagement/service/{}",
            self.subscription, self.resource_group, self.service
        )
    }
}
