//! Step `revoke`: takes links away that no consent is behind, before anything else is looked at. In: the object, what was
//! loaded; out: for each gateway in which the access has something, what is left there.
//!
//! It needs the gateway of the claim and an answer about the product's links, and nothing that the consumer writes: no
//! valid spec, no gateway for what is wanted now, no Secret, no claim that can be written.

use kube::ResourceExt as _;
use mcp_fleet_crds::{McpAccess, McpGateway};

use super::claim::{self, Place};
use super::error::AccessError;
use super::load::Loaded;
use super::{build, validate};
use crate::azure::apim::{self, Revoked};
use crate::azure::clients::GatewayClients;
use crate::runtime::context::Context;

/// What is left in one gateway.
#[derive(Debug)]
pub(super) struct Left {
    pub gateway: String,
    pub revoked: Revoked,
}

/// Each gateway is tried, whatever another one answers.
pub(super) async fn revoke(
    access: &McpAccess,
    context: &Context,
    loaded: &Loaded,
) -> Vec<Result<Left, AccessError>> {
    let mut left = Vec::new();
    for place in &loaded.places {
        left.push(revoke_in(access, context, loaded, place).await);
    }
    left
}

pub(super) async fn revoke_in(
    access: &McpAccess,
    context: &Context,
    loaded: &Loaded,
    place: &Place,
) -> Result<Left, AccessError> {
    let (gateway, clients) = reach(context, place)?;
    may_write(access, context)?;
    let cluster_id = &gateway.spec.cluster_id;
    let owner = build::owner(cluster_id, access);
    let kept = validate::kept(access, loaded, &gateway);
    let revoked = apim::revoke(&clients.arm, &owner, &claim::ids(cluster_id, access), &kept).await;
    let revoked = revoked.map_err(|source| AccessError::Registration { source })?;
    if !revoked.changed.is_empty() {
        tracing::info!(
            changed = revoked.changed.join(", "),
            "took away what is not consented to"
        );
    }
    Ok(Left {
        gateway: gateway.name_any(),
        revoked,
    })
}

/// The gateway of a place, as long as it still names the service in which we are registered: one that was made anew for
/// another service knows nothing of us.
pub(super) fn reach(
    context: &Context,
    place: &Place,
) -> Result<(std::sync::Arc<McpGateway>, GatewayClients), AccessError> {
    let Some(gateway) = context.caches.gateways.get(None, &place.gateway) else {
        return Err(AccessError::GatewayGone {
            gateway: place.gateway.clone(),
            service: place.service.clone(),
        });
    };
    let clients = connect(context, &gateway)?;
    let service = clients.arm.target().service_id();
    // ARM ids are equal in any case.
    if !service.eq_ignore_ascii_case(&place.service) {
        return Err(AccessError::ServiceChanged {
            gateway: place.gateway.clone(),
            claimed: place.service.clone(),
            service,
        });
    }
    Ok((gateway, clients))
}

/// The clients of a gateway.
pub(super) fn connect(context: &Context, gateway: &McpGateway) -> Result<GatewayClients, AccessError> {
    context
        .arm
        .get(gateway)
        .map_err(|source| AccessError::Connect { source })
}

/// Whoever has lost the lease must not write to the gateway either.
pub(super) fn may_write(access: &McpAccess, context: &Context) -> Result<(), AccessError> {
    let checked = context
        .writer
        .check_lease("register", "McpAccess", &access.name_any());
    checked.map_err(|source| AccessError::Claim { source })
}
