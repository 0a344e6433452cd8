//! Step `register`: brings API Management in line. In: what `validate` and `revoke` say; out: what was granted. Every
//! part can be the last one before a crash: names are the same in every pass, and each part begins by reading.

use kube::{Resource as _, ResourceExt as _};
use mcp_fleet_crds::McpAccess;

use super::claim::Claim;
use super::error::AccessError;
use super::load::Loaded;
use super::revoke::{Left, connect, may_write};
use super::validate::{Gateway, Validated};
use super::{Controller, api, build, catch_up, finalize};
use crate::azure::apim::{AccessIds, Granted, ensure_access};
use crate::azure::clients::GatewayClients;
use crate::kube_write::set_claim;
use crate::runtime::context::Context;

pub(super) async fn register(
    access: &McpAccess,
    controller: &Controller,
    loaded: &Loaded,
    validated: &Validated,
    gateway: &Gateway,
    left: Vec<Left>,
) -> Result<(GatewayClients, Granted), AccessError> {
    let context = &controller.context;
    let here = gateway.object.name_any();
    // The servers may have moved to another gateway, made anew there: what the former one has of us goes first.
    for place in loaded.places.iter().filter(|place| place.gateway != here) {
        finalize::deregister(access, context, place).await?;
    }
    let clients = connect(context, &gateway.object)?;
    let desired = build::registration(access, loaded, validated, gateway);
    claim(access, context, &here, &clients, &desired.ids).await?;

    may_write(access, context)?;
    let revoked = left.into_iter().find(|left| left.gateway == here);
    let granted = ensure_access(&clients.arm, &desired, revoked.map(|left| left.revoked))
        .await
        .map_err(|source| AccessError::Registration { source })?;
    if !granted.changed.is_empty() {
        tracing::info!(
            changed = granted.changed.join(", "),
            "changed the access in API Management"
        );
    }
    Ok((clients, granted))
}

async fn claim(
    access: &McpAccess,
    context: &Context,
    gateway: &str,
    clients: &GatewayClients,
    ids: &AccessIds,
) -> Result<(), AccessError> {
    let claim = Claim::new(access, gateway, clients.arm.target(), ids);
    let text = serde_json::to_string(&claim).map_err(|source| AccessError::Json { source })?;
    let written = set_claim(&context.writer, &api(access, context), access, &text).await;
    if written.map_err(|source| AccessError::Claim { source })?.is_some() {
        catch_up(access, context, access.meta().resource_version.clone()).await;
    }
    Ok(())
}
