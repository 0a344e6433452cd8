//! One ARM client per McpGateway, kept while its settings stay the same: tokens, connections and what its lists said
//! belong together. Budgets of requests are ARM's and shared by gateways (`budget`). In: a McpGateway; out: its client, and an HTTP client that trusts what the gateway's CA
//! bundle says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::ResourceExt as _;
use mcp_fleet_crds::{Apim, ApimCredential, Cloud, McpGateway, Writes};
use url::Url;

use crate::azure::apim;
use crate::azure::budget::{Budgets, Principal};
pub use crate::azure::environment::AzureEnvironment;
use crate::condition::reasons;
use crate::mcp;
use crate::runtime::backoff::Retry;
use crate::runtime::metrics::Metrics;

/// A gateway's settings give no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("McpGateway {gateway}: spec.apim is missing")]
    NoService { gateway: String },
    #[error(
        "McpGateway {gateway}: no {what} to sign in with: set {field}, or install the operator with {variable}"
    )]
    NoIdentity {
        gateway: String,
        what: &'static str,
        field: &'static str,
        variable: &'static str,
    },
    #[error("McpGateway {gateway}: {field} is not a URL: {source}")]
    Url {
        gateway: String,
        field: &'static str,
        source: url::ParseError,
    },
    #[error("McpGateway {gateway}: {source}")]
    Target {
        gateway: String,
        source: apim::TargetError,
    },
    #[error("McpGateway {gateway}: {source}")]
    Http {
        gateway: String,
        source: apim::HttpError,
    },
    #[error("McpGateway {gateway}: failed to set up the client of the probe: {source}")]
    Probe { gateway: String, source: reqwest::Error },
}

impl ConnectError {
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoIdentity { .. } => "NoCredential",
            _ => reasons::INVALID,
        }
    }

    pub fn retry(&self) -> Retry {
        Retry::UntilChanged
    }
}

/// What talks to one gateway.
#[derive(Clone, Debug)]
pub struct GatewayClients {
    pub arm: apim::ArmClient,
    /// For calls through the gateway itself.
    pub probe: reqwest::Client,
}

/// The clients of all gateways.
#[derive(Debug)]
pub struct ArmClients {
    environment: AzureEnvironment,
    metrics: Metrics,
    limits: apim::Limits,
    clients: Mutex<HashMap<String, (Settings, GatewayClients)>>,
    budgets: Mutex<Budgets>,
}

/// What a client depends on. A change of anything else keeps it, with its tokens and budgets.
type Settings = (Option<Apim>, Option<Writes>);

impl ArmClients {
    pub fn new(environment: AzureEnvironment, metrics: Metrics) -> Self {
        Self {
            environment,
            metrics,
            limits: apim::Limits::default(),
            clients: Mutex::default(),
            budgets: Mutex::default(),
        }
    }

    /// What the lists of a service say holds for a part of the period in which everything is looked at.
    #[must_use]
    pub fn looking_every(mut self, drift: Duration) -> Self {
        self.limits.inventory = self.limits.inventory.min(drift / 4);
        self
    }

    /// The clients of a gateway.
    pub fn get(&self, gateway: &McpGateway) -> Result<GatewayClients, ConnectError> {
        let settings = (gateway.spec.apim.clone(), gateway.spec.writes);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, client)) = clients.get(&gateway.name_any())
            && *known == settings
        {
            return Ok(client.clone());
        }
        let client = self.connect(gateway)?;
        clients.insert(gateway.name_any(), (settings, client.clone()));
        Ok(client)
    }

    /// Forgets the client of a gateway that is gone.
    pub fn forget(&self, gateway: &str) {
        self.clients
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(gateway);
        self.budgets().leave(gateway);
    }

    fn budgets(&self) -> MutexGuard<'_, Budgets> {
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a gateway clients that were made elsewhere, until its settings change.
    #[cfg(test)]
    pub(crate) fn preset(&self, gateway: &McpGateway, clients: GatewayClients) {
        let settings = (gateway.spec.apim.clone(), gateway.spec.writes);
        let mut known = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(gateway.name_any(), (settings, clients));
    }

    fn connect(&self, gateway: &McpGateway) -> Result<GatewayClients, ConnectError> {
        let name = gateway.name_any();
        let Some(service) = &gateway.spec.apim else {
            return Err(ConnectError::NoService { gateway: name });
        };
        let target = target(&name, service, self.environment.cloud.as_ref())?;
        let identity = self.identity(&name, service.credential.as_ref())?;
        let principal = Principal::new(&target, &identity);
        let http = |source| ConnectError::Http {
            gateway: name.clone(),
            source,
        };
        let bundle = self.environment.authorities(service.ca_bundle.as_deref());
        let bundle = bundle.as_deref().map(str::as_bytes);
        let client = apim::http_client(bundle, apim::PlainHttp::Refused).map_err(http)?;
        let tokens = apim::WorkloadIdentity::new(
            identity,
            target.authority().clone(),
            target.scope(),
            client.clone(),
        );
        let probe = probe_client(&name, bundle)?;
        let writes = gateway.spec.writes.unwrap_or_default();
        let throttle = self.budgets().join(&name, principal, writes);
        let arm = apim::ArmClient::new(
            client,
            target,
            Arc::new(tokens),
            throttle,
            Arc::new(ArmMetrics(self.metrics.clone())),
        )
        .with_limits(self.limits);
        Ok(GatewayClients { arm, probe })
    }

    fn identity(
        &self,
        gateway: &str,
        credential: Option<&ApimCredential>,
    ) -> Result<apim::Identity, ConnectError> {
        let named = credential.and_then(|credential| credential.workload_identity.as_ref());
        let missing = |what, field, variable| ConnectError::NoIdentity {
            gateway: gateway.to_owned(),
            what,
            field,
            variable,
        };
        let environment = &self.environment;
        let own = |named: Option<&String>, own: &Option<String>| {
            named.or(own.as_ref()).filter(|text| !text.is_empty()).cloned()
        };
        Ok(apim::Identity {
            client_id: own(
                named.and_then(|named| named.client_id.as_ref()),
                &environment.client_id,
            )
            .ok_or_else(|| {
                missing(
                    "client id",
                    "spec.apim.credential.workloadIdentity.clientId",
                    "AZURE_CLIENT_ID",
                )
            })?,
            tenant_id: own(
                named.and_then(|named| named.tenant_id.as_ref()),
                &environment.tenant_id,
            )
            .ok_or_else(|| {
                missing(
                    "tenant id",
                    "spec.apim.credential.workloadIdentity.tenantId",
                    "AZURE_TENANT_ID",
                )
            })?,
            token_file: environment.token_file.clone().ok_or_else(|| {
                missing(
                    "service-account token",
                    "nothing in the gateway",
                    "AZURE_FEDERATED_TOKEN_FILE",
                )
            })?,
        })
    }
}

/// `default` is the cloud of gateways that name none.
fn target(
    gateway: &str,
    service: &Apim,
    default: Option<&apim::Cloud>,
) -> Result<apim::Target, ConnectError> {
    let parse = |field, text: &str| {
        Url::parse(text).map_err(|source| ConnectError::Url {
            gateway: gateway.to_owned(),
            field,
            source,
        })
    };
    let cloud = match (&service.endpoints, service.cloud) {
        (Some(endpoints), _) => apim::Cloud::Custom {
            endpoint: parse("spec.apim.endpoints.endpoint", &endpoints.endpoint)?,
            authority: parse("spec.apim.endpoints.authority", &endpoints.authority)?,
            audience: endpoints
                .audience
                .clone()
                .unwrap_or_else(|| endpoints.endpoint.clone()),
        },
        (None, None) => default.cloned().unwrap_or(apim::Cloud::Public),
        (None, Some(Cloud::AzurePublic)) => apim::Cloud::Public,
        (None, Some(Cloud::AzureUSGovernment)) => apim::Cloud::UsGovernment,
        (None, Some(Cloud::AzureChina)) => apim::Cloud::China,
    };
    apim::Target::new(
        &service.subscription_id,
        &service.resource_group,
        &service.service_name,
        cloud,
        apim::PlainHttp::Refused,
    )
    .map_err(|source| ConnectError::Target {
        gateway: gateway.to_owned(),
        source,
    })
}

fn probe_client(gateway: &str, bundle: Option<&[u8]>) -> Result<reqwest::Client, ConnectError> {
    let failed = |source| ConnectError::Probe {
        gateway: gateway.to_owned(),
        source,
    };
    let roots = match bundle {
        Some(pem) => reqwest::Certificate::from_pem_bundle(pem).map_err(failed)?,
        None => vec![],
    };
    mcp::http_client(roots, mcp::Role::Gateway).map_err(failed)
}

#[derive(Debug)]
struct ArmMetrics(Metrics);

impl apim::Observer for ArmMetrics {
    fn request(&self, verb: &'static str, resource: &'static str, outcome: &'static str, elapsed: Duration) {
        self.0.arm_request(verb, resource, outcome, elapsed);
    }

    fn waited(&self, _: &'static str, waited: Duration) {
        self.0.throttled(waited);
    }
}

impl From<apim::Retry> for Retry {
    fn from(retry: apim::Retry) -> Self {
        match retry {
            apim::Retry::Fast => Self::Fast,
            apim::Retry::Slow => Self::Slow,
            apim::Retry::After(wait) => Self::After(wait),
            apim::Retry::Terminal => Self::Terminal,
            apim::Retry::UntilChanged => Self::UntilChanged,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn gateway(apim: &serde_json::Value) -> McpGateway {
        serde_json::from_value(json!({
            "apiVersion": "mcpfleet.dev/v1alpha1", "kind": "McpGateway", "metadata": {"name": "contoso"},
            "spec": {"clusterId": "demo", "apim": apim}
        }))
        .unwrap()
    }

    fn service() -> serde_json::Value {
        json!({"subscriptionId": "00000000-0000-0000-0000-000000000001", "resourceGroup": "demo", "serviceName": "contoso"})
    }

    fn environment() -> AzureEnvironment {
        AzureEnvironment {
            client_id: Some("client".to_owned()),
            tenant_id: Some("tenant".to_owned()),
            token_file: Some("/token".into()),
            ..AzureEnvironment::default()
        }
    }

    #[test]
    fn a_gateway_that_names_no_cloud_gets_the_operators_own() {
        let custom = |host: &str| apim::Cloud::Custom {
            endpoint: Url::parse(host).unwrap(),
            authority: Url::parse(host).unwrap(),
            audience: host.to_owned(),
        };
        let own = custom("https://own.example");
        let endpoint = |apim: serde_json::Value| {
            let gateway = gateway(&apim);
            let target = target("contoso", gateway.spec.apim.as_ref().unwrap(), Some(&own)).unwrap();
            target.endpoint().to_string()
        };
        assert_eq!(endpoint(service()), "https://own.example/");
        let mut named = service();
        named["cloud"] = json!("AzurePublic");
        assert_eq!(endpoint(named), "https://management.azure.com/");
        let mut named = service();
        named["endpoints"] = json!({"endpoint": "https://arm.example", "authority": "https://login.example"});
        assert_eq!(endpoint(named), "https://arm.example/");
    }

    #[test]
    fn what_is_missing_is_named() {
        let clients = ArmClients::new(AzureEnvironment::default(), Metrics::default());
        let error = clients.get(&gateway(&service())).unwrap_err();
        assert_eq!(error.reason(), "NoCredential");
        assert!(error.to_string().contains("AZURE_CLIENT_ID"), "{error}");
        let clients = ArmClients::new(environment(), Metrics::default());
        let mut broken = service();
        broken["caBundle"] = json!("no certificate");
        assert_eq!(
            clients.get(&gateway(&broken)).unwrap_err().reason(),
            reasons::INVALID
        );
    }
}
