//! Step `register`: brings API Management and the Secret in line. In: what `validate` and `build` say; out: what was
//! granted. Every part can be the last one before a crash: names are the same in every pass, and each part begins by
//! reading.

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt as _};
use mcp_fleet_crds::{McpAccess, McpGateway};

use super::claim::Claim;
use super::error::AccessError;
use super::load::Loaded;
use super::validate::{Gateway, Validated};
use super::{Controller, api, build, catch_up, finalize};
use crate::azure::apim::{Granted, SecretString, ensure_access};
use crate::azure::clients::GatewayClients;
use crate::constants::labels;
use crate::kube_write::{apply_child, delete_child, is_ours, limited, set_claim};
use crate::runtime::context::Context;

pub(super) async fn register(
    access: &McpAccess,
    controller: &Controller,
    loaded: &Loaded,
    validated: &Validated,
    gateway: &Gateway,
) -> Result<Granted, AccessError> {
    let context = &controller.context;
    let ownership = build::ownership(access);
    let secrets: Api<Secret> = Api::namespaced(
        context.writer.client.clone(),
        &access.namespace().unwrap_or_default(),
    );
    let name = build::secret_name(access);
    // First, so that a Secret of somebody else's stops everything before anything is made.
    let present = limited("get", "Secret", &name, secrets.get_opt(&name))
        .await
        .map_err(secret_error)?;
    if let Some(foreign) = present.as_ref().filter(|present| !is_ours(*present, &ownership)) {
        let namespace = foreign.namespace().unwrap_or_default();
        let kind = "Secret".to_owned();
        return Err(secret_error(crate::kube_write::WriteError::NotOwned {
            kind,
            namespace,
            name,
        }));
    }
    let known = present.as_ref().and_then(key_of);
    let clients = connect(context, &gateway.object)?;
    leave_former(access, controller, loaded, gateway, &clients).await?;
    let desired = build::registration(access, validated, gateway);
    claim(access, context, &gateway.object, &clients, &desired.ids).await?;

    may_write(access, context)?;
    let granted = ensure_access(&clients.arm, &desired, known.is_none())
        .await
        .map_err(|source| AccessError::Registration { source })?;
    if !granted.changed.is_empty() {
        tracing::info!(
            changed = granted.changed.join(", "),
            "changed the access in API Management"
        );
    }
    // The keys come along when they were asked for, and whenever the subscription was made just now.
    let Some(key) = granted.keys.as_ref().map(|keys| keys.primary.clone()).or(known) else {
        return Ok(granted);
    };
    let secret = build::secret(access, &gateway.url, &validated.grants, &key);
    apply_child(&context.writer, secret, present.as_ref(), &ownership)
        .await
        .map_err(secret_error)?;
    prune(access, context, &secrets, &name).await?;
    Ok(granted)
}

fn secret_error(source: crate::kube_write::WriteError) -> AccessError {
    AccessError::Secret { source }
}

/// The key in a Secret; none where somebody has changed it, which its copy among the lines tells.
fn key_of(secret: &Secret) -> Option<SecretString> {
    let entries = secret.data.as_ref()?;
    let text = |entry| std::str::from_utf8(&entries.get(entry)?.0).ok();
    let key = text(build::KEY).filter(|key| !key.is_empty())?;
    let line = format!("{}={key}", build::KEY);
    let copied = text(build::DOTENV)?.lines().any(|copy| copy == line);
    copied.then(|| SecretString::new(key))
}

/// Whoever has lost the lease must not write to the gateway either.
pub(super) fn may_write(access: &McpAccess, context: &Context) -> Result<(), AccessError> {
    let checked = context
        .writer
        .check_lease("register", "McpAccess", &access.name_any());
    checked.map_err(|source| AccessError::Claim { source })
}

/// The clients of a gateway.
pub(super) fn connect(context: &Context, gateway: &McpGateway) -> Result<GatewayClients, AccessError> {
    context
        .arm
        .get(gateway)
        .map_err(|source| AccessError::Connect { source })
}

/// The servers may have moved to another gateway, made anew there: what the old one has of us goes first.
async fn leave_former(
    access: &McpAccess,
    controller: &Controller,
    loaded: &Loaded,
    gateway: &Gateway,
    clients: &GatewayClients,
) -> Result<(), AccessError> {
    match &loaded.claim {
        Some(claim) if claim.gateway != gateway.object.name_any() => {
            finalize::deregister(access, &controller.context, claim).await
        }
        Some(claim) => finalize::same_service(claim, clients),
        None => Ok(()),
    }
}

async fn claim(
    access: &McpAccess,
    context: &Context,
    gateway: &McpGateway,
    clients: &GatewayClients,
    ids: &crate::azure::apim::AccessIds,
) -> Result<(), AccessError> {
    let claim = Claim::new(access, &gateway.name_any(), clients.arm.target(), ids);
    let text = serde_json::to_string(&claim).map_err(|source| AccessError::Json { source })?;
    let written = set_claim(&context.writer, &api(access, context), access, &text).await;
    if written.map_err(|source| AccessError::Claim { source })?.is_some() {
        catch_up(access, context, access.resource_version()).await;
    }
    Ok(())
}

/// Secrets of ours under another name, from before secretName changed.
async fn prune(
    access: &McpAccess,
    context: &Context,
    secrets: &Api<Secret>,
    kept: &str,
) -> Result<(), AccessError> {
    let ownership = build::ownership(access);
    let name = access.name_any();
    for other in context.caches.secrets.list() {
        let former = other.namespace() == access.namespace()
            && other.name_any() != kept
            && other.labels().get(labels::ACCESS) == Some(&name)
            && is_ours(&*other, &ownership);
        if !former {
            continue;
        }
        let name = other.name_any();
        let present = limited("get", "Secret", &name, secrets.get_opt(&name))
            .await
            .map_err(secret_error)?;
        if let Some(present) = present.filter(|present| is_ours(present, &ownership)) {
            delete_child(&context.writer, &present)
                .await
                .map_err(secret_error)?;
        }
    }
    Ok(())
}
