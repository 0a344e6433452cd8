//! What asks for a pass over accesses. In: the caches; out: references to accesses.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use futures::stream::{self, Stream, StreamExt as _};
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use mcp_fleet_crds::{McpAccess, McpGateway, McpServer, McpServerStatus};

use super::load::is_open;
use super::selector::{covers, matches};
use crate::condition::{find, types};
use crate::runtime::cache::Cache;
use crate::runtime::context::Caches;
use crate::runtime::controller::{changed, child_changes, own_changes, without_status};

/// What a server's `lastWrite` calls an API that was made.
const API: &str = "api";

/// The objects themselves, the servers that they name, select or open, gateways, and their Secrets.
pub(super) fn all(caches: &Caches) -> impl Stream<Item = ObjectRef<McpAccess>> + Send + 'static {
    let own = own_changes(&caches.accesses, without_status).boxed();
    let secrets = child_changes(&caches.secrets).boxed();
    let accesses = caches.accesses.clone();
    // Labels as they were, since a server that is selected no more concerns those who selected it.
    let mut labels = Labels::new();
    let present = caches.servers.clone();
    let servers = changed(&caches.servers, server_print)
        .flat_map(move |server| {
            let key = (server.namespace(), server.name_any());
            let before = match present.get(key.0.as_deref(), &key.1) {
                Some(_) => labels.insert(key, server.labels().clone()),
                None => labels.remove(&key),
            };
            let before = before.unwrap_or_default();
            stream::iter(select(&accesses, |access| concerns(access, &server, &before)))
        })
        .boxed();
    // What an access waits for may be the URL of a gateway that it is not in yet.
    let accesses = caches.accesses.clone();
    let gateways = changed(&caches.gateways, gateway_print)
        .flat_map(move |_| stream::iter(select(&accesses, |_| true)))
        .boxed();
    stream::select_all([own, secrets, servers, gateways])
}

/// Labels of servers, by namespace and name.
type Labels = HashMap<(Option<String>, String), BTreeMap<String, String>>;

fn select(accesses: &Cache<McpAccess>, wanted: impl Fn(&McpAccess) -> bool) -> Vec<ObjectRef<McpAccess>> {
    let list = accesses.list();
    list.iter()
        .filter(|access| wanted(access))
        .map(|access| ObjectRef::from_obj(&**access))
        .collect()
}

/// Whether an access names the server, selects it by its labels of now or of before, or opens it.
fn concerns(access: &McpAccess, server: &McpServer, before: &BTreeMap<String, String>) -> bool {
    let (namespace, name) = (server.namespace(), server.name_any());
    let named = access.spec.servers.iter().any(|reference| {
        reference.name == name && reference.namespace.clone().or_else(|| access.namespace()) == namespace
    });
    let selected = access.spec.selector.as_ref().is_some_and(|selector| {
        covers(access, selector, namespace.as_deref())
            && (matches(selector, server.labels()) || matches(selector, before))
    });
    named || selected || is_open(access, &namespace.unwrap_or_default(), &name)
}

/// What an access reads of a server.
fn server_print(server: &McpServer) -> u64 {
    let mut hasher = DefaultHasher::new();
    server.uid().hash(&mut hasher);
    server.metadata.deletion_timestamp.is_some().hash(&mut hasher);
    server.labels().hash(&mut hasher);
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
        made_anew(status).hash(&mut hasher);
        let registered = find(&status.conditions, types::REGISTERED);
        registered
            .map(|condition| (&condition.status, &condition.reason))
            .hash(&mut hasher);
    }
    hasher.finish()
}

/// When the operator last made the server's API, as far as that was its last write: with an API that somebody deletes
/// in the portal go its links.
fn made_anew(status: &McpServerStatus) -> Option<Timestamp> {
    let written = status.gateway.as_ref()?.last_write.as_ref()?;
    let made = written.what.split(", ").any(|what| what == API);
    made.then_some(written.time.0)
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
