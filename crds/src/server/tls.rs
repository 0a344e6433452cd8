//! HTTPS at the pod.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// HTTPS at the pod. Its certificate and key come with the image or a volume.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Who signed the certificate: the operator's probe trusts it for this server, beside the public authorities. The
    /// certificate must hold for `<name>.<namespace>.svc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaReference>,
    /// What the gateway checks of the certificate. API Management takes no authority with a backend: a private one must be
    /// among the CA certificates of the service, or is not checked. The name is the load balancer's address, or the host
    /// of gateway.backendUrl.
    #[serde(default)]
    pub gateway_checks: GatewayChecks,
}

/// A certificate in a ConfigMap or a Secret of the server's namespace.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.configMapName) != has(self.secretName)").message("ca names a ConfigMap or a Secret: exactly one of configMapName and secretName"))]
pub struct CaReference {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub config_map_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: Option<String>,
    /// Entry with the certificates, as PEM.
    #[serde(default = "default_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn default_key() -> String {
    "ca.crt".to_owned()
}

/// What a gateway checks of a server's certificate.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum GatewayChecks {
    /// Who signed it, and that it holds for the name.
    #[default]
    ChainAndName,
    /// Who signed it.
    Chain,
    /// Nothing: the connection is encrypted, but the server is not known to be the right one.
    Nothing,
}
