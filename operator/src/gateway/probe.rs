//! Step `probe`: the one subscription with which all servers are verified, when `spec.probe` is `AllApis`, and its
//! end when it is not. In: the object, its clients and the keys; out: [`Probe`], or what stands against it.
//!
//! The claim names the subscription before it is made, so it is found again in any later mode and by deletion.

use kube::ResourceExt as _;
use mcp_fleet_crds::{McpGateway, Probe as Mode};

use super::Controller;
use super::claim::Claim;
use crate::azure::apim::{
    Owner, ProbeRegistration, Purpose, RegistrationError, Removal, SecretString, Target, ensure_probe,
    remove_probe, resource_name, target::Resource,
};
use crate::azure::clients::{ConnectError, GatewayClients};
use crate::azure::probe_key::ProbeKeys;
use crate::condition::reasons;
use crate::kube_write::WriteError;
use crate::runtime::backoff::Retry;

/// How the probe's subscription is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// Not wanted, and nothing is left of an earlier one.
    Unwanted,
    /// As it should be, perhaps since a moment ago.
    Registered { written: bool },
    /// Not looked at: the service did not answer. What was known holds.
    Unknown,
}

/// The subscription is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProbeError {
    #[error("failed to connect to the gateway's service: {source}")]
    Connect { source: ConnectError },
    #[error("{source}")]
    Lease { source: WriteError },
    #[error("the gateway's own {source}")]
    Conflict { source: RegistrationError },
    #[error("{source}")]
    Registration { source: RegistrationError },
    #[error("API Management is removing the probe's subscription {subscription}")]
    Removing { subscription: String },
    #[error("API Management is still at work on the named value {name}")]
    Writing { name: String },
}

impl ProbeError {
    pub(super) fn of(source: RegistrationError) -> Self {
        match source {
            RegistrationError::Conflict { .. } => Self::Conflict { source },
            _ => Self::Registration { source },
        }
    }

    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Connect { source } => source.reason(),
            Self::Lease { source } => source.reason(),
            Self::Conflict { source } | Self::Registration { source } => source.reason(),
            Self::Removing { .. } => reasons::DELETING,
            Self::Writing { .. } => reasons::PENDING,
        }
    }

    pub(super) fn retry(&self) -> Retry {
        match self {
            Self::Connect { source } => source.retry(),
            Self::Lease { source } => source.retry(),
            Self::Conflict { source } | Self::Registration { source } => source.retry().into(),
            Self::Removing { .. } | Self::Writing { .. } => Retry::Fast,
        }
    }
}

/// The subscription that the claim has to name: the wanted one, or one that is still to be removed.
pub(super) fn claimed(gateway: &McpGateway) -> Option<String> {
    match gateway.spec.probe {
        Mode::AllApis => Some(subscription_id(gateway)),
        Mode::PerServer | Mode::None => Claim::of(gateway).and_then(|claim| claim.probe),
    }
}

/// With the gateway's name in it: two gateways may lead to one service, and each is deleted by itself.
fn subscription_id(gateway: &McpGateway) -> String {
    resource_name(
        Purpose::Probe,
        &gateway.spec.cluster_id,
        "mcp-fleet-probe",
        &gateway.name_any(),
    )
}

pub(super) fn owner(gateway: &McpGateway) -> Owner {
    Owner {
        cluster_id: gateway.spec.cluster_id.clone(),
        namespace: String::new(),
        name: gateway.name_any(),
        uid: gateway.uid().unwrap_or_default(),
    }
}

/// The key that the probe uses for every server of the gateway.
pub fn probe_key(gateway: &McpGateway, target: &Target, keys: &ProbeKeys) -> SecretString {
    let subscription = target.id(&Resource::Subscription(subscription_id(gateway)));
    SecretString::new(keys.derive(&subscription, &gateway.uid().unwrap_or_default()))
}

/// Brings the subscription in line. The claim must name it. `refused`: the gateway did not take its key.
pub(super) async fn bring_in_line(
    gateway: &McpGateway,
    controller: &Controller,
    clients: &GatewayClients,
    refused: bool,
) -> Result<Probe, ProbeError> {
    let Some(subscription_id) = claimed(gateway) else {
        return Ok(Probe::Unwanted);
    };
    if gateway.spec.probe != Mode::AllApis {
        remove(gateway, controller, clients, &subscription_id).await?;
        return Ok(Probe::Unwanted);
    }
    may_write(gateway, controller)?;
    let desired = ProbeRegistration {
        owner: owner(gateway),
        subscription_id,
        key: probe_key(gateway, clients.arm.target(), &controller.context.probe_keys),
    };
    let written = ensure_probe(&clients.arm, &desired, refused)
        .await
        .map_err(ProbeError::of)?;
    Ok(Probe::Registered {
        written: written.is_some(),
    })
}

/// Removes the subscription that a claim names, if it is ours; done when it is confirmed gone.
pub(super) async fn remove(
    gateway: &McpGateway,
    controller: &Controller,
    clients: &GatewayClients,
    subscription: &str,
) -> Result<(), ProbeError> {
    may_write(gateway, controller)?;
    match remove_probe(&clients.arm, &owner(gateway), subscription).await {
        Ok(Removal::Gone { left }) => {
            if !left.is_empty() {
                tracing::warn!(
                    left = left.join(", "),
                    "what bears the name of the probe's subscription but is not ours was left"
                );
            }
            Ok(())
        }
        Ok(Removal::Pending(_)) => Err(ProbeError::Removing {
            subscription: subscription.to_owned(),
        }),
        // A service that is gone has taken its subscriptions along.
        Err(error) if error.is_service_gone() => {
            tracing::warn!(%error, "the service of the probe's subscription is gone");
            Ok(())
        }
        Err(error) => Err(ProbeError::of(error)),
    }
}

/// Whoever has lost the lease must not write to the service either.
pub(super) fn may_write(gateway: &McpGateway, controller: &Controller) -> Result<(), ProbeError> {
    let writer = &controller.context.writer;
    writer
        .check_lease("register", "McpGateway", &gateway.name_any())
        .map_err(|source| ProbeError::Lease { source })
}
