//! Step `finalize`: takes a deleted access out of API Management. In: the object, its claim and status; out: its finalizer
//! removed, or a status that says what is waited for. It validates nothing: servers, their consent and the Secret may be
//! gone. The Secret goes with its owner.

use jiff::Timestamp;
use kube::ResourceExt as _;
use mcp_fleet_crds::{ManagementPolicy, McpAccess};

use super::claim::{self, Place};
use super::error::AccessError;
use super::revoke::{self, may_write, reach};
use super::validate::allows_orphan;
use super::{Controller, Outcome, api, build, load, status, write};
use crate::azure::apim::{Removal, remove_access};
use crate::kube_write::{limited, release};
use crate::runtime::context::Context;

pub(super) async fn finalize(access: &McpAccess, controller: &Controller) -> Outcome {
    let context = &controller.context;
    let limit = context.settings.pass_limit;
    let working = tokio::time::timeout(limit, remove(access, context)).await;
    match working.unwrap_or(Err(AccessError::Timeout {
        seconds: limit.as_secs(),
    })) {
        Ok(()) => Outcome::Settled(None),
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
    let mut trouble = None;
    for place in claim::places(access) {
        if is_left(access, context, &place) {
            tracing::info!(gateway = place.gateway, "left what is registered as it is");
            continue;
        }
        if let Err(error) = deregister(access, context, &place).await {
            close(access, context, &place).await;
            trouble.get_or_insert(error);
        }
    }
    if let Some(error) = trouble {
        return Err(error);
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

/// What cannot be removed opens nothing more, as far as its links can be taken away. The removal tells what is wrong.
async fn close(access: &McpAccess, context: &Context, place: &Place) {
    let nothing = load::Loaded::default();
    if let Err(error) = revoke::revoke_in(access, context, &nothing, place).await {
        tracing::debug!(%error, "the links could not be taken away either");
    }
}

/// Whether spec says to leave it, and the platform lets that be. Of a gateway that is gone nobody knows what it allows.
fn is_left(access: &McpAccess, context: &Context, place: &Place) -> bool {
    access.spec.management_policy == ManagementPolicy::Orphan
        && context
            .caches
            .gateways
            .get(None, &place.gateway)
            .is_some_and(|gateway| allows_orphan(&gateway))
}

/// Removes what the access has in a gateway, and confirms that it is gone.
pub(super) async fn deregister(
    access: &McpAccess,
    context: &Context,
    place: &Place,
) -> Result<(), AccessError> {
    let (gateway, clients) = reach(context, place)?;
    let cluster_id = &gateway.spec.cluster_id;
    let owner = build::owner(cluster_id, access);
    may_write(access, context)?;
    let removal = remove_access(&clients.arm, &owner, &claim::ids(cluster_id, access)).await;
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
