//! The deletion line: policy -> deregister -> confirm gone -> remove the finalizer. It never validates, and needs
//! nothing but the claim and the gateway. In: an object that is being deleted; out: [`Deletion`].

use kube::{Api, ResourceExt as _};
use mcp_fleet_crds::{ManagementPolicy, McpServer};

use super::claim::Claim;
use super::error::RegisterError;
use super::register::may_write;
use super::validate::{self, Leave};
use crate::azure::apim::{Owner, Purpose, Removal, ServerIds, remove_server, resource_name};
use crate::claim;
use crate::constants::FINALIZER;
use crate::kube_write::{limited, release};
use crate::runtime::context::Context;

const KIND: &str = "McpServer";

/// How far the deletion has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// The finalizer is gone, or was never ours.
    Done,
    /// The service is at it.
    Pending { what: String },
}

/// Takes down what the object registered, and lets it go.
pub async fn deregister(context: &Context, server: &McpServer) -> Result<Deletion, RegisterError> {
    let name = server.name_any();
    let api = Api::<McpServer>::namespaced(
        context.writer.client.clone(),
        &server.namespace().unwrap_or_default(),
    );
    // From etcd and not from the cache: the policy may have been changed a moment ago, to leave things as they are.
    let fresh = limited("get", KIND, &name, api.get_opt(&name)).await;
    let fresh = fresh.map_err(|source| RegisterError::Read { server: name, source })?;
    let Some(fresh) = fresh.filter(|fresh| fresh.uid() == server.uid()) else {
        return Ok(Deletion::Done);
    };
    if !fresh.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(Deletion::Done);
    }
    if let Some(claim) = Claim::of(&fresh)
        && policy(context, &fresh, &claim) == ManagementPolicy::Manage
        && let Some(what) = remove(context, &fresh, &claim).await?
    {
        return Ok(Deletion::Pending { what });
    }
    release(&context.writer, &api, &fresh)
        .await
        .map_err(|source| RegisterError::Claim { source })?;
    Ok(Deletion::Done)
}

/// Orphan needs the leave of the gateway where something is registered; where that gateway is gone, nobody could remove
/// anything anyway.
fn policy(context: &Context, server: &McpServer, claim: &Claim) -> ManagementPolicy {
    let spec = server.spec.gateway.clone().unwrap_or_default();
    match context.caches.gateways.get(None, &claim.gateway) {
        Some(gateway) => validate::policy(&spec, &Leave::of_gateway(&gateway)),
        None => spec.management_policy,
    }
}

/// Removes what a claim names. None when it is confirmed gone; else what the service is still at.
pub async fn remove(
    context: &Context,
    server: &McpServer,
    claim: &Claim,
) -> Result<Option<String>, RegisterError> {
    let gateway =
        context
            .caches
            .gateways
            .get(None, &claim.gateway)
            .ok_or_else(|| RegisterError::GatewayGone {
                gateway: claim.gateway.clone(),
                api: claim.api.clone(),
            })?;
    let clients = context
        .arm
        .get(&gateway)
        .map_err(|source| RegisterError::Connect { source })?;
    let service = clients.arm.target().service_id();
    if !service.eq_ignore_ascii_case(&claim.service) {
        return Err(RegisterError::ServiceChanged {
            gateway: claim.gateway.clone(),
            claimed: claim.service.clone(),
            service,
        });
    }
    let owner = Owner {
        cluster_id: gateway.spec.cluster_id.clone(),
        namespace: server.namespace().unwrap_or_default(),
        name: server.name_any(),
        uid: claim.uid.clone(),
    };
    let id = resource_name(Purpose::Server, &owner.cluster_id, &owner.namespace, &owner.name);
    if claim.ids().api_id != id {
        // Names are computed, never believed: whoever may edit the object may write any into the annotation.
        if !claim::is_registered(server, &claim.gateway) {
            tracing::warn!(
                api = claim.api,
                "a claim with names that are not the object's own is void"
            );
            return Ok(None);
        }
        return Err(RegisterError::ServiceChanged {
            gateway: claim.gateway.clone(),
            claimed: claim.api.clone(),
            service: format!("{service}/apis/{id}"),
        });
    }
    let ids = ServerIds {
        api_id: id.clone(),
        backend_id: id.clone(),
        subscription_id: id,
    };
    may_write(context, server)?;
    let removal = remove_server(&clients.arm, &owner, &ids).await;
    let removal = match removal {
        Err(error) if error.is_service_gone() => {
            tracing::warn!(%error, "what was registered went with its service");
            return Ok(None);
        }
        other => other.map_err(|source| RegisterError::Removal { source })?,
    };
    match removal {
        Removal::Gone { left } => {
            if !left.is_empty() {
                tracing::warn!(
                    left = left.join(", "),
                    "what bears our names but is not ours was left in the gateway"
                );
            }
            Ok(None)
        }
        Removal::Pending(Some(operation)) => Ok(Some(operation.resource)),
        Removal::Pending(None) => Ok(Some(format!("api {}", ids.api_id))),
    }
}
