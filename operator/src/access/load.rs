//! Step `load`: everything that the spec refers to. In: the object and the caches; out: [`Loaded`]. All from memory.

use std::sync::Arc;

use kube::ResourceExt as _;
use mcp_fleet_crds::{McpAccess, McpGateway, McpServer};

use super::claim::{self, Place};
use super::consent::consents;
use super::selector::selects;
use crate::runtime::context::Caches;

/// As many servers as one access opens at most.
pub(super) const MOST_SERVERS: usize = 50;

/// What one pass works on, beside the object itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Loaded {
    /// Where the access may have something already.
    pub places: Vec<Place>,
    /// In the order of the spec, or sorted where they were selected.
    pub servers: Vec<Named>,
    /// Servers that are selected and do not consent. They are counted only: a consumer learns no names by it.
    pub silent: usize,
    /// Servers beyond those that one access may open.
    pub beyond: usize,
    pub gateways: Vec<Arc<McpGateway>>,
}

/// A server that the spec names or selects.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub namespace: String,
    pub name: String,
    pub server: Option<Arc<McpServer>>,
}

pub(super) fn load(caches: &Caches, access: &McpAccess) -> Loaded {
    let mut loaded = Loaded {
        places: claim::places(access),
        servers: named(caches, access),
        gateways: caches.gateways.list(),
        ..Loaded::default()
    };
    select(caches, access, &mut loaded);
    loaded
}

fn named(caches: &Caches, access: &McpAccess) -> Vec<Named> {
    let own = access.namespace().unwrap_or_default();
    let servers = access.spec.servers.iter().take(MOST_SERVERS).map(|reference| {
        let namespace = reference.namespace.clone().unwrap_or_else(|| own.clone());
        let server = caches.servers.get(Some(&namespace), &reference.name);
        Named {
            namespace,
            name: reference.name.clone(),
            server,
        }
    });
    servers.collect()
}

fn select(caches: &Caches, access: &McpAccess, loaded: &mut Loaded) {
    let Some(selector) = &access.spec.selector else {
        return;
    };
    let own = access.namespace().unwrap_or_default();
    let mut selected = caches.servers.list();
    selected.retain(|server| selects(access, selector, server));
    let matching = selected.len();
    selected.retain(|server| consents(server, &own));
    loaded.silent = matching - selected.len();
    // Those that are open stay so, whatever others are called.
    selected.sort_by_cached_key(|server| {
        let (namespace, name) = (server.namespace().unwrap_or_default(), server.name_any());
        (!is_open(access, &namespace, &name), namespace, name)
    });
    loaded.beyond = selected.len().saturating_sub(MOST_SERVERS);
    selected.truncate(MOST_SERVERS);
    loaded.servers.extend(selected.into_iter().map(|server| Named {
        namespace: server.namespace().unwrap_or_default(),
        name: server.name_any(),
        server: Some(server),
    }));
}

/// Whether the access opens a server already.
pub(super) fn is_open(access: &McpAccess, namespace: &str, name: &str) -> bool {
    let open = access.status.as_ref().map(|status| status.servers.as_slice());
    open.unwrap_or_default()
        .iter()
        .any(|one| one.namespace == namespace && one.name == name)
}
