//! Step `finalize`: lets a deleted gateway go when nothing uses it any more. In: the object; out: its finalizer removed,
//! or a status that names who is awaited. It validates nothing, and asks Azure only for the end of what the claim names:
//! the probe's subscription and the named value of its secret.

use std::fmt::Debug;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{ListParams, PartialObjectMeta};
use kube::{Api, Resource, ResourceExt as _};
use mcp_fleet_crds::{McpAccess, McpGateway, McpServer};
use serde::de::DeserializeOwned;

use super::claim::Claim;
use super::load::uses;
use super::probe::{self, ProbeError};
use super::secret;
use super::{Controller, Outcome, status, write};
use crate::claim;
use crate::constants::kinds;
use crate::kube_write::{WriteError, limited, release};
use crate::steady::steady;

/// A claim that is given up asks for a pass; this is for one that was missed.
const AGAIN: Duration = Duration::from_mins(1);
const PAGE: u32 = 500;

pub(super) async fn finalize(gateway: &McpGateway, controller: &Controller) -> Result<Outcome, WriteError> {
    let name = gateway.name_any();
    let caches = &controller.context.caches;
    let servers = caches.servers.list();
    let servers = servers.iter().filter(|server| uses(server, gateway));
    let mut users: Vec<String> = servers.map(|server| described(&**server)).collect();
    let accesses = caches.accesses.list();
    let accesses = accesses
        .iter()
        .filter(|access| claim::holds(kinds::ACCESS, &***access, gateway));
    users.extend(accesses.map(|access| described(&**access)));
    let client = &controller.context.writer.client;
    if users.is_empty() {
        // The caches may be behind a claim that was made a moment ago.
        users.extend(claimed::<McpServer>(&Api::all(client.clone()), gateway).await?);
        users.extend(claimed::<McpAccess>(&Api::all(client.clone()), gateway).await?);
    }
    if !users.is_empty() {
        users.sort_unstable();
        write(
            gateway,
            controller,
            &status::deleting(gateway, &users, Timestamp::now()),
        )
        .await?;
        return Ok(Outcome {
            next: Some(AGAIN),
            reason: Some(crate::condition::reasons::DELETING.to_owned()),
        });
    }
    let api = Api::<McpGateway>::all(client.clone());
    let fresh = limited("get", "McpGateway", &name, api.get_opt(&name)).await?;
    if let Some(fresh) = fresh.filter(|fresh| fresh.uid() == gateway.uid()) {
        if let Err(error) = remove_own(&fresh, controller).await {
            return wait(gateway, controller, &error).await;
        }
        release(&controller.context.writer, &api, &fresh).await?;
    }
    controller.forget(&name);
    Ok(Outcome {
        next: None,
        reason: None,
    })
}

async fn remove_own(gateway: &McpGateway, controller: &Controller) -> Result<(), ProbeError> {
    let Claim {
        uid: _,
        probe,
        secret,
    } = Claim::of(gateway).unwrap_or_default();
    if probe.is_none() && secret.is_none() {
        return Ok(());
    }
    let clients = controller.context.arm.get(gateway);
    let clients = clients.map_err(|source| ProbeError::Connect { source })?;
    if let Some(subscription) = probe {
        probe::remove(gateway, controller, &clients, &subscription).await?;
    }
    if let Some(name) = secret {
        secret::remove(gateway, controller, &clients, &name).await?;
    }
    Ok(())
}

/// Tells why the gateway stays.
async fn wait(
    gateway: &McpGateway,
    controller: &Controller,
    error: &ProbeError,
) -> Result<Outcome, WriteError> {
    tracing::warn!(%error, "what the gateway has in its service does not go");
    let (reason, what) = (error.reason(), steady(&error.to_string()));
    let status = status::removing(gateway, reason, &what, Timestamp::now());
    write(gateway, controller, &status).await?;
    let key = (None, gateway.name_any());
    let pause = controller
        .state
        .backoff
        .failed(key, error.retry(), rand::random());
    Ok(Outcome {
        next: Some(pause.unwrap_or(AGAIN)),
        reason: Some(reason.to_owned()),
    })
}

fn described<K: Resource<DynamicType = ()>>(object: &K) -> String {
    format!(
        "{} {}/{}",
        K::kind(&()),
        object.namespace().unwrap_or_default(),
        object.name_any()
    )
}

/// Asks the API server itself.
async fn claimed<K>(api: &Api<K>, gateway: &McpGateway) -> Result<Vec<String>, WriteError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let kind = K::kind(&());
    let mut found = Vec::new();
    let mut parameters = ListParams::default().limit(PAGE);
    loop {
        let page = limited("list", &kind, "", api.list_metadata(&parameters)).await?;
        let users = page
            .items
            .iter()
            .filter(|object: &&PartialObjectMeta<K>| claim::holds(&kind, *object, gateway));
        found.extend(users.map(|object| {
            format!(
                "{kind} {}/{}",
                object.namespace().unwrap_or_default(),
                object.name_any()
            )
        }));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = ListParams::default().limit(PAGE).continue_token(&token),
            None => return Ok(found),
        }
    }
}
