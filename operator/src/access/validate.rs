//! Step `validate`: which servers may be opened, and through which gateway. In: the object and what was loaded; out:
//! [`Validated`]; nothing after it looks at the servers again. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::ResourceExt as _;
use mcp_fleet_crds::{McpAccess, McpGateway, McpServer, NAMESPACES_ALL, NAMESPACES_SAME};

use super::error::Hindrance;
use super::load::{Loaded, Named};
use crate::condition::{find, is_true, types};
use crate::server::claim::Claim as ServerClaim;

/// What may be given, and what stands in the way of the rest.
#[derive(Clone, Debug)]
pub(super) struct Validated {
    /// Where the access belongs; none as long as that cannot be told.
    pub gateway: Option<Gateway>,
    /// Sorted, each once.
    pub grants: Vec<Grant>,
    pub hindrances: Vec<Hindrance>,
}

/// A gateway that can be worked with.
#[derive(Clone, Debug)]
pub(super) struct Gateway {
    pub object: Arc<McpGateway>,
    /// Without a slash at its end.
    pub url: String,
}

/// A server that is opened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Grant {
    pub namespace: String,
    pub name: String,
    /// Name of its API, below the service.
    pub api: String,
    /// Its MCP endpoint in the gateway.
    pub url: String,
}

/// A server that is allowed, with the gateway that it is in.
struct Candidate {
    gateway: String,
    grant: Result<Grant, Hindrance>,
}

pub(super) fn validate(access: &McpAccess, loaded: &Loaded) -> Validated {
    let mut hindrances = Vec::new();
    let mut candidates = Vec::new();
    for named in &loaded.servers {
        match candidate(access, named) {
            Ok(candidate) => candidates.push(candidate),
            Err(hindrance) => hindrances.push(hindrance),
        }
    }
    let gateways: BTreeSet<&str> = candidates
        .iter()
        .map(|candidate| candidate.gateway.as_str())
        .collect();
    let claimed = loaded.claim.as_ref().map(|claim| claim.gateway.as_str());
    let gateway = match (gateways.len(), gateways.first().copied().or(claimed)) {
        (0 | 1, Some(name)) => find_gateway(loaded, name)
            .map_err(|hindrance| hindrances.push(hindrance))
            .ok(),
        (0, None) => None,
        _ => {
            let gateways = gateways.into_iter().collect::<Vec<_>>().join(", ");
            hindrances.push(Hindrance::DifferentGateways { gateways });
            None
        }
    };
    let mut grants = Vec::new();
    for candidate in candidates {
        match candidate.grant {
            Ok(grant) => grants.push(grant),
            Err(hindrance) => hindrances.push(hindrance),
        }
    }
    grants.sort_unstable();
    grants.dedup();
    Validated {
        gateway,
        grants,
        hindrances,
    }
}

fn candidate(access: &McpAccess, named: &Named) -> Result<Candidate, Hindrance> {
    let server = format!("{}/{}", named.namespace, named.name);
    let Some(object) = &named.server else {
        return Err(Hindrance::NotFound { server });
    };
    let namespace = access.namespace().unwrap_or_default();
    if !consents(object, &namespace) {
        return Err(Hindrance::NoConsent { server, namespace });
    }
    if object.metadata.deletion_timestamp.is_some() {
        return Err(Hindrance::Deleting { server });
    }
    if object
        .spec
        .gateway
        .as_ref()
        .is_some_and(|gateway| !gateway.enabled)
    {
        return Err(Hindrance::Disabled { server });
    }
    let waits = || Hindrance::NotRegistered {
        server: server.clone(),
        state: state(object),
    };
    // From status, which only the operator writes. Whoever may edit the server may edit its claim as well, and would
    // else be given a key to any API whose name they write there.
    let registered = object.status.as_ref().and_then(|status| status.gateway.as_ref());
    let (Some(claim), Some(registered)) = (ServerClaim::of(object), registered) else {
        return Err(waits());
    };
    let claimed = registered.name == claim.gateway && registered.api_id.as_ref() == Some(&claim.api);
    let grant = match address(access, object, named).filter(|_| claimed) {
        Some(url) => {
            let (namespace, name) = (named.namespace.clone(), named.name.clone());
            Ok(Grant {
                namespace,
                name,
                api: claim.ids().api_id,
                url,
            })
        }
        None => Err(waits()),
    };
    Ok(Candidate {
        gateway: registered.name.clone(),
        grant,
    })
}

/// Consent is the server's own: its owner decides, not whoever wants to call it.
fn consents(server: &McpServer, namespace: &str) -> bool {
    let same = server.namespace().as_deref() == Some(namespace);
    match server
        .spec
        .gateway
        .as_ref()
        .and_then(|gateway| gateway.access.as_ref())
    {
        None => same,
        Some(access) => access.namespaces.iter().any(|one| match one.as_str() {
            NAMESPACES_ALL => true,
            NAMESPACES_SAME => same,
            name => name == namespace,
        }),
    }
}

/// The server's address, once it is registered. A server that was opened before stays open while its registration has
/// trouble: the API is still there, and callers should not suffer from what may be a matter of seconds.
fn address(access: &McpAccess, server: &McpServer, named: &Named) -> Option<String> {
    let status = server.status.as_ref()?;
    let url = status.endpoints.as_ref()?.gateway.clone()?;
    let registered = is_true(&status.conditions, types::REGISTERED);
    let open = || {
        let before = access
            .status
            .as_ref()
            .map(|status| status.servers.as_slice())
            .unwrap_or_default();
        before
            .iter()
            .any(|one| one.namespace == named.namespace && one.name == named.name)
    };
    (registered || open()).then_some(url)
}

fn state(server: &McpServer) -> String {
    let conditions = server
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    find(conditions, types::REGISTERED)
        .map_or_else(|| "Pending".to_owned(), |condition| condition.reason.clone())
}

fn find_gateway(loaded: &Loaded, name: &str) -> Result<Gateway, Hindrance> {
    let object = loaded.gateways.iter().find(|gateway| gateway.name_any() == name);
    let Some(object) = object else {
        return Err(Hindrance::NoGateway {
            gateway: name.to_owned(),
        });
    };
    match object
        .status
        .as_ref()
        .and_then(|status| status.gateway_url.as_deref())
    {
        Some(url) => Ok(Gateway {
            object: Arc::clone(object),
            url: url.trim_end_matches('/').to_owned(),
        }),
        None => Err(Hindrance::NoGatewayUrl {
            gateway: name.to_owned(),
        }),
    }
}
