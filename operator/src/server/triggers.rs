//! What asks for a pass over servers: the server itself, its children, its gateway, its autoscaler and the ConfigMaps
//! and Secrets that it refers to. In: caches, watches and the lanes' table; out: keys of servers, and how urgent each is.

use std::sync::Arc;

use futures::stream::{self, Stream, StreamExt as _};
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use mcp_fleet_crds::{McpGateway, McpServer};

use super::memory::fingerprint;
use super::validate::uses_gateway;
use crate::condition::{find, is_true, types};
use crate::runtime::context::{Context, Key};
use crate::runtime::controller::{changed, child_changes, key_of, without_status};
use crate::runtime::queue::Priority;

/// Everything that may call for a pass.
pub fn all(context: &Context) -> impl Stream<Item = (Key, Priority)> + Send + 'static {
    let caches = &context.caches;
    let servers = caches.servers.clone();
    let gateways = changed(&caches.gateways, concern).flat_map(move |gateway| {
        let name = gateway.name_any();
        let mut users = servers.list();
        users.retain(|server| uses_gateway(server, &name));
        // New ones among them first, as always.
        stream::iter(
            users
                .into_iter()
                .map(|server| (key_of(&*server), urgency(&server))),
        )
    });
    // A path that one server lets go of is another one's chance.
    let lanes = Arc::clone(&context.lanes);
    let waiting = changed(&caches.servers, without_status)
        .flat_map(move |_| stream::iter(lanes.waiting_for_paths()))
        .map(|key| (key, Priority::Repair));
    let own = changed(&caches.servers, without_status).map(|server| (key_of(&*server), urgency(&server)));
    stream::select_all([
        own.boxed(),
        news(child_changes(&caches.deployments)).boxed(),
        news(child_changes(&caches.services)).boxed(),
        news(child_changes(&caches.secrets)).boxed(),
        waiting.boxed(),
        gateways.boxed(),
        news(context.autoscalers.subscribe()).boxed(),
        news(context.configs.subscribe()).boxed(),
    ])
}

fn news(
    owners: impl Stream<Item = ObjectRef<McpServer>> + Send + 'static,
) -> impl Stream<Item = (Key, Priority)> + Send + 'static {
    owners.map(|owner| ((owner.namespace, owner.name), Priority::News))
}

/// What was passed over with its present spec can wait for what was not.
fn urgency(server: &McpServer) -> Priority {
    let passed = server
        .status
        .as_ref()
        .and_then(|status| status.observed_generation);
    if server.metadata.deletion_timestamp.is_some() {
        Priority::Deletion
    } else if passed == server.metadata.generation {
        Priority::Repair
    } else {
        Priority::News
    }
}

/// What of a gateway matters to its servers. Its number of servers does not, or a fleet that starts would ask for as
/// many passes as it has pairs.
pub(super) fn concern(gateway: &McpGateway) -> u64 {
    let status = gateway.status.clone().unwrap_or_default();
    // A credential that works again is worth another try. Servers that wait for the gateway repeat why it is not ready.
    let ready = find(&status.conditions, types::READY);
    let message = ready
        .filter(|_| status.gateway_url.is_none())
        .map(|ready| &ready.message);
    let ready = (ready.map(|ready| &ready.status), message);
    // With one key for all, they wait until the gateway has it.
    let registered = is_true(&status.conditions, types::REGISTERED);
    fingerprint(&(
        without_status(gateway),
        registered,
        &status.gateway_url,
        &status.source_addresses,
        status.secret.as_ref().map(|secret| (secret.number, secret.other)),
        ready,
    ))
}
