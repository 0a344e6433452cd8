//! Step `load`: everything that the spec refers to. In: the object and the caches; out: [`Loaded`]. All from memory.

use std::sync::Arc;

use kube::ResourceExt as _;
use mcp_fleet_crds::{McpAccess, McpGateway, McpServer};

use super::claim::Claim;
use crate::runtime::context::Caches;

/// What one pass works on, beside the object itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Loaded {
    pub claim: Option<Claim>,
    /// In the order of the spec.
    pub servers: Vec<Named>,
    pub gateways: Vec<Arc<McpGateway>>,
}

/// A server that the spec names.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub namespace: String,
    pub name: String,
    pub server: Option<Arc<McpServer>>,
}

pub(super) fn load(caches: &Caches, access: &McpAccess) -> Loaded {
    let own = access.namespace().unwrap_or_default();
    let servers = access.spec.servers.iter().map(|reference| {
        let namespace = reference.namespace.clone().unwrap_or_else(|| own.clone());
        let server = caches.servers.get(Some(&namespace), &reference.name);
        Named {
            namespace,
            name: reference.name.clone(),
            server,
        }
    });
    Loaded {
        claim: Claim::of(access),
        servers: servers.collect(),
        gateways: caches.gateways.list(),
    }
}
