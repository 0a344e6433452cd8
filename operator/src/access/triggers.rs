//! What asks for a pass over accesses. In: the caches; out: references to accesses.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use futures::stream::{self, Stream, StreamExt as _};
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use mcp_fleet_crds::{McpAccess, McpGateway, McpServer};

use super::claim::Claim;
use crate::condition::{find, types};
use crate::constants::annotations;
use crate::runtime::cache::Cache;
use crate::runtime::context::Caches;
use crate::runtime::controller::{changed, child_changes, own_changes, without_status};

/// The objects themselves, the servers that they name, their gateways, and their Secrets.
pub(super) fn all(caches: &Caches) -> impl Stream<Item = ObjectRef<McpAccess>> + Send + 'static {
    let own = own_changes(&caches.accesses, without_status).boxed();
    let secrets = child_changes(&caches.secrets).boxed();
    let accesses = caches.accesses.clone();
    let servers = changed(&caches.servers, server_print)
        .flat_map(move |server| stream::iter(select(&accesses, |access| names(access, &server))))
        .boxed();
    let accesses = caches.accesses.clone();
    let gateways = changed(&caches.gateways, gateway_print)
        .flat_map(move |gateway| {
            let name = gateway.name_any();
            stream::iter(select(&accesses, |access| {
                Claim::of(access).is_none_or(|claim| claim.gateway == name)
            }))
        })
        .boxed();
    stream::select_all([own, secrets, servers, gateways])
}

fn select(accesses: &Cache<McpAccess>, wanted: impl Fn(&McpAccess) -> bool) -> Vec<ObjectRef<McpAccess>> {
    let list = accesses.list();
    list.iter()
        .filter(|access| wanted(access))
        .map(|access| ObjectRef::from_obj(&**access))
        .collect()
}

fn names(access: &McpAccess, server: &McpServer) -> bool {
    let namespace = server.namespace();
    access.spec.servers.iter().any(|reference| {
        reference.name == server.name_any()
            && reference.namespace.clone().or_else(|| access.namespace()) == namespace
    })
}

/// What an access reads of a server.
fn server_print(server: &McpServer) -> u64 {
    let mut hasher = DefaultHasher::new();
    server.uid().hash(&mut hasher);
    server.metadata.deletion_timestamp.is_some().hash(&mut hasher);
    server.annotations().get(annotations::CLAIM).hash(&mut hasher);
    let gateway = server.spec.gateway.as_ref();
    gateway.map(|gateway| gateway.enabled).hash(&mut hasher);
    gateway
        .and_then(|gateway| gateway.access.as_ref())
        .map(|access| &access.namespaces)
        .hash(&mut hasher);
    if let Some(status) = &server.status {
        status
            .endpoints
            .as_ref()
            .and_then(|endpoints| endpoints.gateway.as_ref())
            .hash(&mut hasher);
        let gateway = status.gateway.as_ref();
        gateway
            .map(|gateway| (&gateway.name, &gateway.api_id))
            .hash(&mut hasher);
        let registered = find(&status.conditions, types::REGISTERED);
        registered
            .map(|condition| (&condition.status, &condition.reason))
            .hash(&mut hasher);
    }
    hasher.finish()
}

/// What an access reads of a gateway. A credential that works again is worth a try, too.
fn gateway_print(gateway: &McpGateway) -> u64 {
    let mut hasher = DefaultHasher::new();
    without_status(gateway).hash(&mut hasher);
    if let Some(status) = &gateway.status {
        status.gateway_url.hash(&mut hasher);
        find(&status.conditions, types::READY)
            .map(|condition| &condition.status)
            .hash(&mut hasher);
    }
    hasher.finish()
}
