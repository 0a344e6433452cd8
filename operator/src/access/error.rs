//! Errors of the line. Each names the action and answers `reason()` and `retry()`.

use crate::azure::apim::RegistrationError;
use crate::azure::clients::ConnectError;
use crate::condition::{reasons, types};
use crate::kube_write::WriteError;
use crate::runtime::backoff::Retry;

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
         this object to leave what it has in {service} as it is"
    )]
    GatewayGone { gateway: String, service: String },
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
            // What the service refuses today, a limit of its tier for one, it may take when somebody else has changed
            // something there.
            Self::Registration { source } => Retry::from(source.retry()).in_deletion(),
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
