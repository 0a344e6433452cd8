//! Step `load`: what else there is beside the object. In: the caches; out: [`Loaded`].

use kube::{Resource, ResourceExt as _};
use mcp_fleet_crds::{DEFAULT_GATEWAY_ANNOTATION, McpGateway};
use serde::Deserialize;

use crate::constants::annotations;
use crate::context::Caches;

/// What one pass over a gateway refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Loaded {
    /// The other gateways that are marked as default, sorted.
    pub other_defaults: Vec<String>,
    /// Servers whose claim names the gateway.
    pub servers: usize,
}

/// The members of a claim that every kind's claim has.
#[derive(Deserialize)]
struct Claim {
    uid: String,
    gateway: String,
}

pub(super) fn load(caches: &Caches, gateway: &McpGateway) -> Loaded {
    let name = gateway.name_any();
    let mut other_defaults: Vec<String> = caches
        .gateways
        .list()
        .iter()
        .filter(|other| {
            other.name_any() != name && is_default(other) && other.metadata.deletion_timestamp.is_none()
        })
        .map(|other| other.name_any())
        .collect();
    other_defaults.sort_unstable();
    let servers = caches
        .servers
        .list()
        .iter()
        .filter(|server| uses(&***server, &name))
        .count();
    Loaded {
        other_defaults,
        servers,
    }
}

pub(super) fn is_default(gateway: &McpGateway) -> bool {
    gateway
        .annotations()
        .get(DEFAULT_GATEWAY_ANNOTATION)
        .is_some_and(|value| value == "true")
}

/// Whether an object has something registered in the gateway. A claim that was copied from another object has that
/// object's uid, and counts for nothing.
pub(super) fn uses<K: Resource>(object: &K, gateway: &str) -> bool {
    let claim = object.annotations().get(annotations::CLAIM);
    let claim = claim.and_then(|text| serde_json::from_str::<Claim>(text).ok());
    claim.is_some_and(|claim| claim.gateway == gateway && object.uid().as_deref() == Some(&claim.uid))
}
