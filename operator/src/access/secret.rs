//! Step `secret`: hands the key over. In: what was granted and which key is due; out: the Secret as it should be, and
//! what status says of the key.
//!
//! Whose a Secret is, is asked by its metadata alone: the content of one that is not ours is never read.
//!
//! The key comes with the answer to the PUT that makes the subscription. Later it is asked for (`listSecrets`, which
//! counts as a write) only when the Secret is missing or damaged, when the other key is due, or when the subscription's
//! ETag is no longer the one that the Secret was written with: then somebody may have made a key anew. Once a day it is
//! asked for anyway (`compared`).

use std::time::Instant;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt as _};
use mcp_fleet_crds::{AccessKeyStatus, McpAccess};

use super::error::AccessError;
use super::rotate::{self, KeyPlan};
use super::validate::{Gateway, Validated};
use super::{Controller, api, build};
use crate::azure::apim::{Granted, KeySlot, SecretString, read_keys, regenerate_key};
use crate::azure::clients::GatewayClients;
use crate::constants::{annotations, labels};
use crate::kube_write::{WriteError, apply_child, delete_child, is_ours, limited};
use crate::runtime::context::Context;
use crate::runtime::events::Note;

/// Whether the Secret's name is free or ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Present {
    Absent,
    Ours,
}

/// A Secret that was handed over.
#[derive(Debug)]
pub(super) struct Delivered {
    pub key: AccessKeyStatus,
    /// What callers should know.
    pub news: Option<Note>,
    /// Whether another step of a rotation is due as soon as this one is in status.
    pub more: bool,
}

/// What our Secret holds.
struct Held {
    key: SecretString,
    slot: KeySlot,
    etag: Option<String>,
}

/// Looks at the metadata of whatever has the Secret's name.
pub(super) async fn look(access: &McpAccess, context: &Context) -> Result<Present, AccessError> {
    let name = build::secret_name(access);
    let api = secrets(access, context);
    let found = limited("get", "Secret", &name, api.get_metadata_opt(&name)).await;
    match found.map_err(secret_error)? {
        None => Ok(Present::Absent),
        Some(found) if is_ours(&found, &build::ownership(access)) => Ok(Present::Ours),
        Some(_) => Err(secret_error(WriteError::NotOwned {
            kind: "Secret".to_owned(),
            namespace: access.namespace().unwrap_or_default(),
            name,
        })),
    }
}

pub(super) async fn deliver(
    access: &McpAccess,
    controller: &Controller,
    (gateway, validated): (&Gateway, &Validated),
    (clients, granted): (&GatewayClients, &Granted),
    present: Present,
    now: Timestamp,
) -> Result<Delivered, AccessError> {
    let context = &controller.context;
    let api = secrets(access, context);
    let name = build::secret_name(access);
    let found = match present {
        Present::Absent => None,
        Present::Ours => limited("get", "Secret", &name, api.get_opt(&name))
            .await
            .map_err(secret_error)?,
    };
    let held = found.as_ref().and_then(held);
    let mut plan = rotate::plan(access, now);
    let slot = plan.slot();
    let who = (access.namespace(), access.name_any());
    let is_due = controller
        .comparisons
        .is_due(&who, Instant::now(), rand::random());
    let current = held
        .as_ref()
        .filter(|held| !is_due && granted.keys.is_none() && held.slot == slot && held.etag == granted.etag);
    let settled = current.is_some();
    let key = match (current, &granted.keys) {
        (Some(held), _) => held.key.clone(),
        (None, Some(keys)) => {
            // The former key went with the subscription that had it.
            plan.next.former_ends = None;
            plan.renew_other = false;
            keys.get(slot).clone()
        }
        (None, None) => {
            let id = super::claim::ids(&gateway.object.spec.cluster_id, access).subscription_id;
            let keys = read_keys(&clients.arm, &id).await;
            let keys = keys.map_err(|source| AccessError::Registration { source })?;
            controller.comparisons.done(&who, Instant::now(), rand::random());
            keys.get(slot).clone()
        }
    };
    let secret = build::secret(
        access,
        &gateway.url,
        &validated.grants,
        (&key, slot, granted.etag.as_deref()),
    );
    apply_child(&context.writer, secret, found.as_ref(), &build::ownership(access))
        .await
        .map_err(secret_error)?;
    prune(access, context, &api, &name).await?;
    let news = held.and_then(|held| news(&held, &key, &plan, &name));
    // Only when the Secret had the other key before this pass: the one that is in it is never made anew.
    let renewed =
        plan.renew_other && settled && renew(access, context, gateway, clients, slot.other()).await?;
    if renewed {
        plan.next.former_ends = None;
    }
    let more = (plan.renew_other && !renewed)
        || (plan.next.former_ends.is_none() && rotate::is_asked_for(access, &plan.next));
    Ok(Delivered {
        key: plan.next,
        news,
        more,
    })
}

/// Makes the key anew that is in no Secret any more. False when status turns out to be older than thought.
async fn renew(
    access: &McpAccess,
    context: &Context,
    gateway: &Gateway,
    clients: &GatewayClients,
    slot: KeySlot,
) -> Result<bool, AccessError> {
    let name = access.name_any();
    let fresh = limited("get", "McpAccess", &name, api(access, context).get_opt(&name))
        .await
        .map_err(|source| AccessError::Claim { source })?;
    let key = |access: &McpAccess| access.status.as_ref().and_then(|status| status.key.clone());
    if fresh.is_none_or(|fresh| fresh.uid() != access.uid() || key(&fresh) != key(access)) {
        return Ok(false);
    }
    super::revoke::may_write(access, context)?;
    let id = super::claim::ids(&gateway.object.spec.cluster_id, access).subscription_id;
    let renewed = regenerate_key(&clients.arm, &id, slot).await;
    renewed.map_err(|source| AccessError::Registration { source })?;
    Ok(true)
}

fn news(held: &Held, key: &SecretString, plan: &KeyPlan, name: &str) -> Option<Note> {
    if held.slot != plan.slot() {
        let until = plan.next.former_ends.as_ref();
        let until = until.map_or_else(String::new, |ends| {
            format!(", and the former one works until {}", ends.0)
        });
        return Some(Note::normal(
            "KeyRotated",
            format!("Secret {name} has a new key{until}"),
        ));
    }
    (held.key != *key).then(|| {
        let text = format!(
            "the key of this access was made anew in API Management: Secret {name} has the new one, and the former one \
             is refused"
        );
        Note::warning("KeyReplaced", text)
    })
}

fn secrets(access: &McpAccess, context: &Context) -> Api<Secret> {
    Api::namespaced(
        context.writer.client.clone(),
        &access.namespace().unwrap_or_default(),
    )
}

fn secret_error(source: WriteError) -> AccessError {
    AccessError::Secret { source }
}

/// What a Secret of ours holds; none where somebody has changed the key, which its copy among the lines tells.
fn held(secret: &Secret) -> Option<Held> {
    let entries = secret.data.as_ref()?;
    let text = |entry| std::str::from_utf8(&entries.get(entry)?.0).ok();
    let key = text(build::KEY).filter(|key| !key.is_empty())?;
    let line = format!("{}={key}", build::KEY);
    let copied = text(build::DOTENV)?.lines().any(|copy| copy == line);
    let slot = match secret.annotations().get(annotations::KEY).map(String::as_str) {
        Some(build::SECONDARY) => KeySlot::Secondary,
        _ => KeySlot::Primary,
    };
    copied.then(|| Held {
        key: SecretString::new(key),
        slot,
        etag: secret.annotations().get(annotations::KEY_ETAG).cloned(),
    })
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
        let present = limited("get", "Secret", &name, secrets.get_metadata_opt(&name))
            .await
            .map_err(secret_error)?;
        if let Some(present) = present.filter(|present| is_ours(present, &ownership)) {
            let former = Secret {
                metadata: present.metadata,
                ..Secret::default()
            };
            delete_child(&context.writer, &former)
                .await
                .map_err(secret_error)?;
        }
    }
    Ok(())
}
