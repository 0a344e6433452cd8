//! Errors of the line. Each names the action and answers `reason()` and `retry()`.

use crate::azure::apim::RegistrationError;
use crate::azure::clients::ConnectError;
use crate::condition::{reasons, types};
use crate::kube_write::WriteError;
use crate::runtime::backoff::Retry;

/// Why a server is not opened (yet) by an access.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Hindrance {
    #[error("there is no McpServer {server}: create it, or take it from spec.servers")]
    NotFound { server: String },
    #[error("McpServer {server} is being deleted")]
    Deleting { server: String },
    #[error(
        "McpServer {server} does not consent: its owner adds {namespace} to gateway.access.namespaces, or it is taken \
         from spec.servers"
    )]
    NoConsent { server: String, namespace: String },
    #[error("McpServer {server} is in no gateway: its gateway.enabled is false")]
    Disabled { server: String },
    #[error("McpServer {server} is not registered in its gateway yet ({state})")]
    NotRegistered { server: String, state: String },
    #[error("the servers are in different gateways ({gateways}): make one McpAccess for each of them")]
    DifferentGateways { gateways: String },
    #[error("there is no McpGateway {gateway}")]
    NoGateway { gateway: String },
    #[error("McpGateway {gateway} has not reported its URL yet")]
    NoGatewayUrl { gateway: String },
}

impl Hindrance {
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "ServerNotFound",
            Self::Deleting { .. } => "ServerDeleting",
            Self::NoConsent { .. } => "NoConsent",
            Self::Disabled { .. } => reasons::GATEWAY_DISABLED,
            Self::NotRegistered { .. } => "ServerNotRegistered",
            Self::DifferentGateways { .. } => "DifferentGateways",
            Self::NoGateway { .. } => reasons::GATEWAY_NOT_FOUND,
            Self::NoGatewayUrl { .. } => reasons::GATEWAY_NOT_READY,
        }
    }

    /// Whether a person has to change something, or it is only a matter of time.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::NoConsent { .. } | Self::Disabled { .. } | Self::DifferentGateways { .. }
        )
    }
}

/// A pass failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum AccessError {
    #[error("failed to connect to the gateway: {source}")]
    Connect { source: ConnectError },
    #[error("{source}")]
    Secret { source: WriteError },
    #[error("failed to claim the registration: {source}")]
    Claim { source: WriteError },
    #[error("{source}")]
    Registration { source: RegistrationError },
    #[error("failed to write status: {source}")]
    Status { source: WriteError },
    #[error(
        "McpGateway {gateway}, where this access is registered, is gone: create it again, or take the finalizer from \
         this object to leave {product} as it is"
    )]
    GatewayGone { gateway: String, product: String },
    #[error(
        "this access is registered in {claimed}, but McpGateway {gateway} now names {service}: restore the gateway"
    )]
    ServiceChanged {
        gateway: String,
        claimed: String,
        service: String,
    },
    #[error("Azure is still removing it")]
    Removing,
    #[error("failed to write the claim as JSON: {source}")]
    Json { source: serde_json::Error },
    #[error("the pass took longer than {seconds} s")]
    Timeout { seconds: u64 },
}

impl AccessError {
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Connect { source } => source.reason(),
            Self::Secret { source } | Self::Claim { source } | Self::Status { source } => source.reason(),
            Self::Registration { source } => source.reason(),
            Self::GatewayGone { .. } => reasons::GATEWAY_NOT_FOUND,
            Self::ServiceChanged { .. } => reasons::CONFLICT,
            Self::Removing => reasons::DELETING,
            Self::Json { .. } => reasons::INVALID,
            Self::Timeout { .. } => reasons::TIMEOUT,
        }
    }

    pub(super) fn retry(&self) -> Retry {
        match self {
            Self::Connect { source } => source.retry(),
            Self::Secret { source } | Self::Claim { source } | Self::Status { source } => source.retry(),
            Self::Registration { source } => source.retry().into(),
            Self::GatewayGone { .. } | Self::ServiceChanged { .. } => Retry::Slow,
            Self::Removing | Self::Timeout { .. } => Retry::Fast,
            Self::Json { .. } => Retry::UntilChanged,
        }
    }

    /// The condition that it is about: a Secret of somebody else's is the spec's fault.
    pub(super) fn condition(&self) -> &'static str {
        match self {
            Self::Secret {
                source: WriteError::NotOwned { .. },
            } => types::ACCEPTED,
            _ => types::REGISTERED,
        }
    }
}
