//! What asks for a pass over servers: the server itself, its children, its gateway, its autoscaler and the ConfigMaps
//! and Secrets that it refers to. In: caches and watches; out: references to servers.

use futures::stream::{self, Stream, StreamExt as _};
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use mcp_fleet_crds::{McpGateway, McpServer};

use super::memory::fingerprint;
use super::validate::uses_gateway;
use crate::condition::{find, is_true, reasons, types};
use crate::runtime::context::Context;
use crate::runtime::controller::{changed, child_changes, own_changes, without_status};

/// Everything that may call for a pass.
pub fn all(context: &Context) -> impl Stream<Item = ObjectRef<McpServer>> + Send + 'static {
    let caches = &context.caches;
    let servers = caches.servers.clone();
    let gateways = changed(&caches.gateways, concern).flat_map(move |gateway| {
        let name = gateway.name_any();
        let users = servers
            .list()
            .into_iter()
            .filter(move |server| uses_gateway(server, &name));
        stream::iter(
            users
                .map(|server| ObjectRef::from_obj(&*server))
                .collect::<Vec<_>>(),
        )
    });
    // A path that one server lets go of is another one's chance.
    let servers = caches.servers.clone();
    let waiting = changed(&caches.servers, without_status).flat_map(move |_| {
        let waiting = servers.list().into_iter().filter(|server| waits_for_path(server));
        stream::iter(
            waiting
                .map(|server| ObjectRef::from_obj(&*server))
                .collect::<Vec<_>>(),
        )
    });
    stream::select_all([
        waiting.boxed(),
        own_changes(&caches.servers, without_status).boxed(),
        child_changes(&caches.deployments).boxed(),
        child_changes(&caches.services).boxed(),
        child_changes(&caches.secrets).boxed(),
        gateways.boxed(),
        context.autoscalers.subscribe().boxed(),
        context.configs.subscribe().boxed(),
    ])
}

fn waits_for_path(server: &McpServer) -> bool {
    server
        .status
        .as_ref()
        .and_then(|status| find(&status.conditions, types::ACCEPTED))
        .is_some_and(|accepted| accepted.reason == reasons::CONFLICT)
}

/// What of a gateway matters to its servers. Its number of servers does not, or a fleet that starts would ask for as
/// many passes as it has pairs.
fn concern(gateway: &McpGateway) -> u64 {
    let status = gateway.status.clone().unwrap_or_default();
    // Servers that wait for the gateway repeat why it is not ready.
    let ready = find(&status.conditions, types::READY)
        .filter(|_| status.gateway_url.is_none())
        .map(|ready| (&ready.status, &ready.message));
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
