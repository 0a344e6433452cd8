//! Step `finalize`: takes a deleted access out of API Management. In: the object and its claim; out: its finalizer
//! removed, or a status that says what is waited for. It validates nothing: servers, their consent and the Secret may be
//! gone. The Secret goes with its owner.

use jiff::Timestamp;
use kube::ResourceExt as _;
use mcp_fleet_crds::McpAccess;

use super::claim::Claim;
use super::error::AccessError;
use super::register::{connect, may_write};
use super::{Controller, Outcome, api, build, status, write};
use crate::azure::apim::{Removal, remove_access};
use crate::azure::clients::GatewayClients;
use crate::kube_write::{limited, release};
use crate::runtime::context::Context;

pub(super) async fn finalize(access: &McpAccess, controller: &Controller) -> Outcome {
    let context = &controller.context;
    let limit = context.settings.pass_limit;
    let working = tokio::time::timeout(limit, remove(access, context)).await;
    match working.unwrap_or(Err(AccessError::Timeout {
        seconds: limit.as_secs(),
    })) {
        Ok(()) => Outcome::Settled,
        Err(error) => {
            let status = status::deleting(access, &error, Timestamp::now());
            if let Err(source) = write(access, controller, &status).await {
                tracing::warn!(error = %source, "failed to write the status of an object that is being deleted");
            }
            Outcome::Undeleted(error)
        }
    }
}

async fn remove(access: &McpAccess, context: &Context) -> Result<(), AccessError> {
    if let Some(claim) = Claim::of(access) {
        deregister(access, context, &claim).await?;
    }
    let api = api(access, context);
    let name = access.name_any();
    let claim_error = |source| AccessError::Claim { source };
    let fresh = limited("get", "McpAccess", &name, api.get_opt(&name))
        .await
        .map_err(claim_error)?;
    match fresh.filter(|fresh| fresh.uid() == access.uid()) {
        Some(fresh) => release(&context.writer, &api, &fresh).await.map_err(claim_error),
        None => Ok(()),
    }
}

/// Removes what a claim names, and confirms that it is gone.
pub(super) async fn deregister(
    access: &McpAccess,
    context: &Context,
    claim: &Claim,
) -> Result<(), AccessError> {
    let Some(gateway) = context.caches.gateways.get(None, &claim.gateway) else {
        return Err(AccessError::GatewayGone {
            gateway: claim.gateway.clone(),
            product: claim.product.clone(),
        });
    };
    let clients = connect(context, &gateway)?;
    same_service(claim, &clients)?;
    let owner = build::owner(&gateway.spec.cluster_id, access);
    may_write(access, context)?;
    let removal = remove_access(&clients.arm, &owner, &claim.ids()).await;
    let removal = match removal {
        Err(error) if error.is_service_gone() => {
            tracing::warn!(%error, "what was registered went with its service");
            return Ok(());
        }
        other => other.map_err(|source| AccessError::Registration { source })?,
    };
    match removal {
        Removal::Gone { left } => {
            if !left.is_empty() {
                tracing::warn!(left = left.join(", "), "left what bears our name and is not ours");
            }
            Ok(())
        }
        Removal::Pending(_) => Err(AccessError::Removing),
    }
}

/// A gateway object that was made anew for another service knows nothing of what we registered.
pub(super) fn same_service(claim: &Claim, clients: &GatewayClients) -> Result<(), AccessError> {
    let service = clients.arm.target().service_id();
    // ARM ids are equal in any case.
    if service.eq_ignore_ascii_case(&claim.service) {
        return Ok(());
    }
    Err(AccessError::ServiceChanged {
        gateway: claim.gateway.clone(),
        claimed: claim.service.clone(),
        service,
    })
}
