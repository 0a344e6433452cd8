//! Step `load`: what else there is beside the object. In: the caches; out: [`Loaded`].

use kube::ResourceExt as _;
use mcp_fleet_crds::{McpGateway, McpServer, Probe};

use super::default::defaults;
use crate::claim;
use crate::condition::{find, reasons, types};
use crate::constants::kinds;
use crate::runtime::context::Caches;
use crate::server::door;

/// What one pass over a gateway refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Loaded {
    /// The other gateways that are marked as default, sorted.
    pub other_defaults: Vec<String>,
    /// Servers whose claim names the gateway.
    pub servers: usize,
    /// The gateway refused the key of the probe for all APIs, as one of those servers tells.
    pub probe_key_refused: bool,
    /// Of each server that demands the gateway's secret, the numbers that it accepts.
    pub accepted: Vec<Vec<i64>>,
}

pub(super) fn load(caches: &Caches, gateway: &McpGateway) -> Loaded {
    let name = gateway.name_any();
    let gateways = caches.gateways.list();
    let other_defaults = defaults(gateways.iter().map(AsRef::as_ref))
        .into_iter()
        .map(kube::ResourceExt::name_any)
        .filter(|other| *other != name)
        .collect();
    let mut servers = caches.servers.list();
    servers.retain(|server| uses(server, gateway));
    Loaded {
        other_defaults,
        servers: servers.len(),
        probe_key_refused: gateway.spec.probe == Probe::AllApis
            && servers.iter().any(|server| refuses_probe_key(server)),
        accepted: caches
            .secrets
            .list()
            .iter()
            .filter(|secret| secret.metadata.deletion_timestamp.is_none())
            .filter_map(|secret| door::Label::of(secret.annotations()))
            .filter(|label| label.gateway == name)
            .map(|label| label.numbers)
            .collect(),
    }
}

/// Whether a server tells that the gateway did not take the key of the probe.
pub(super) fn refuses_probe_key(server: &McpServer) -> bool {
    let conditions = server.status.as_ref().map(|status| &status.conditions);
    server.metadata.deletion_timestamp.is_none()
        && conditions
            .and_then(|conditions| find(conditions, types::VERIFIED))
            .is_some_and(|verified| verified.reason == reasons::PROBE_KEY_REFUSED)
}

/// Whether a server has something registered in the gateway, or is about to.
pub(super) fn uses(server: &McpServer, gateway: &McpGateway) -> bool {
    claim::is_registered(server, &gateway.name_any()) || claim::holds(kinds::SERVER, server, gateway)
}
