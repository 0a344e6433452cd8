//! Step `validate`: which servers may be opened, and through which gateway. In: the object and what was loaded; out:
//! [`Validated`], and for a gateway in which something is registered, what may stay linked there. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::ResourceExt as _;
use mcp_fleet_crds::{ManagementPolicy, McpAccess, McpGateway, McpServer, NAMESPACES_ALL};

use super::consent::{self, consents};
use super::hindrance::Hindrance;
use super::load::{Loaded, Named, is_open};
use crate::azure::apim::{Kept, Purpose, resource_name};
use crate::condition::{find, is_true, types};

/// What may be given, and what stands in the way of the rest.
#[derive(Clone, Debug)]
pub(super) struct Validated {
    /// Where the access belongs; none as long as that cannot be told, or nothing may be given at all.
    pub gateway: Option<Gateway>,
    /// Sorted, each once.
    pub grants: Vec<Grant>,
    pub hindrances: Vec<Hindrance>,
    /// Servers that are selected and do not consent.
    pub silent: usize,
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
    /// Where its key goes, when that is not where API Management looks by default.
    pub key_header: Option<String>,
}

/// A server that is allowed, with the gateway that it is in.
struct Candidate {
    server: String,
    gateway: String,
    grant: Result<Grant, Hindrance>,
}

pub(super) fn validate(access: &McpAccess, loaded: &Loaded) -> Validated {
    let mut hindrances = Vec::new();
    let mut candidates = Vec::new();
    if access.spec.servers.is_empty() == access.spec.selector.is_none() {
        hindrances.push(Hindrance::Invalid);
    }
    for named in &loaded.servers {
        match candidate(access, named, loaded) {
            Ok(candidate) => candidates.push(candidate),
            Err(hindrance) => hindrances.push(hindrance),
        }
    }
    if access.spec.selector.is_some() && loaded.servers.is_empty() {
        hindrances.push(Hindrance::NothingSelected);
    }
    if loaded.beyond > 0 {
        let beyond = loaded.beyond;
        hindrances.push(Hindrance::TooManyServers { beyond });
    }
    let gateway = choose(loaded, &candidates)
        .and_then(|name| name.map(|name| find_gateway(loaded, &name, access)).transpose());
    let gateway = gateway.unwrap_or_else(|hindrance| {
        hindrances.push(hindrance);
        None
    });
    let here = gateway.as_ref().map(|gateway| gateway.object.name_any());
    let mut grants = Vec::new();
    for Candidate {
        server,
        gateway: other,
        grant,
    } in candidates
    {
        match (grant, &here) {
            (Ok(_), Some(gateway)) if *gateway != other => hindrances.push(Hindrance::OtherGateway {
                server,
                other,
                gateway: gateway.clone(),
            }),
            (Ok(grant), _) => grants.push(grant),
            (Err(hindrance), _) => hindrances.push(hindrance),
        }
    }
    grants.sort_unstable();
    grants.dedup();
    let stopped = hindrances.iter().any(Hindrance::stops_everything);
    Validated {
        gateway: gateway.filter(|_| !stopped && may_begin(access, loaded, &grants, &hindrances)),
        grants,
        hindrances,
        silent: loaded.silent,
    }
}

/// Of servers that were named one by one, all have to agree before anything is made; of those that were selected, one.
fn may_begin(access: &McpAccess, loaded: &Loaded, grants: &[Grant], hindrances: &[Hindrance]) -> bool {
    let begun = !loaded.places.is_empty();
    begun
        || match access.spec.selector {
            Some(_) => !grants.is_empty(),
            None => hindrances.is_empty(),
        }
}

/// What may stay linked in a gateway, whatever else is the matter with servers, gateway or access: only consent counts.
pub(super) fn kept(access: &McpAccess, loaded: &Loaded, gateway: &McpGateway) -> Kept {
    let api = |namespace: &str, name: &str| {
        resource_name(Purpose::Server, &gateway.spec.cluster_id, namespace, name)
    };
    let open = access.status.iter().flat_map(|status| &status.servers);
    let mut kept = Kept {
        known: open.map(|one| api(&one.namespace, &one.name)).collect(),
        ..Kept::default()
    };
    for named in &loaded.servers {
        let name = api(&named.namespace, &named.name);
        kept.known.insert(name.clone());
        let Some(server) = &named.server else { continue };
        if may_be_open(access, named, server).is_ok() && allows(gateway, &named.namespace) {
            kept.consented.insert(name);
            kept.consented.extend(registered_api(server, &gateway.name_any()));
        }
    }
    kept
}

/// Name of the API of a server that is in this gateway, as status tells.
fn registered_api(server: &McpServer, gateway: &str) -> Option<String> {
    let registered = server.status.as_ref()?.gateway.as_ref()?;
    let id = registered
        .api_id
        .as_ref()
        .filter(|_| registered.name == gateway)?;
    Some(last(id).to_owned())
}

fn last(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or_default()
}

/// The one where the access is, as long as one of its servers is there; else the one that all servers share.
fn choose(loaded: &Loaded, candidates: &[Candidate]) -> Result<Option<String>, Hindrance> {
    let gateways: BTreeSet<&str> = candidates.iter().map(|one| one.gateway.as_str()).collect();
    let claimed = loaded.places.first().map(|place| place.gateway.as_str());
    let claimed = claimed.filter(|claimed| gateways.is_empty() || gateways.contains(claimed));
    match (claimed, gateways.len()) {
        (Some(name), _) => Ok(Some(name.to_owned())),
        (None, 0 | 1) => Ok(gateways.first().map(|name| (*name).to_owned())),
        _ => {
            let gateways = gateways.into_iter().collect::<Vec<_>>().join(", ");
            Err(Hindrance::DifferentGateways { gateways })
        }
    }
}

/// What the owners of the server have a say in.
fn may_be_open(access: &McpAccess, named: &Named, object: &McpServer) -> Result<(), Hindrance> {
    let server = || format!("{}/{}", named.namespace, named.name);
    let namespace = access.namespace().unwrap_or_default();
    if !consents(object, &namespace) {
        let line = consent::line(object, &namespace);
        return Err(Hindrance::NoConsent {
            server: server(),
            line,
        });
    }
    if object.metadata.deletion_timestamp.is_some() {
        return Err(Hindrance::Deleting { server: server() });
    }
    if object
        .spec
        .gateway
        .as_ref()
        .is_some_and(|gateway| !gateway.enabled)
    {
        return Err(Hindrance::Disabled { server: server() });
    }
    Ok(())
}

fn candidate(access: &McpAccess, named: &Named, loaded: &Loaded) -> Result<Candidate, Hindrance> {
    let server = format!("{}/{}", named.namespace, named.name);
    let Some(object) = &named.server else {
        return Err(Hindrance::NotFound { server });
    };
    may_be_open(access, named, object)?;
    let waits = || Hindrance::NotRegistered {
        server: server.clone(),
        state: state(object),
    };
    // From status, which only the operator writes. Whoever may edit the server may edit its claim as well, and would
    // else be given a key to any API whose name they write there.
    let registered = object.status.as_ref().and_then(|status| status.gateway.as_ref());
    let Some((registered, api)) = registered.and_then(|one| Some((one, one.api_id.as_ref()?))) else {
        return Err(waits());
    };
    let gateway = registered.name.clone();
    let found = loaded.gateways.iter().find(|one| one.name_any() == gateway);
    let own_header = object
        .spec
        .gateway
        .as_ref()
        .and_then(|spec| spec.key_header.clone());
    let key_header = own_header.or_else(|| found.and_then(|found| found.spec.key_header.clone()));
    let grant = match found {
        Some(found) if !allows(found, &named.namespace) => Err(Hindrance::NotAllowed {
            server: server.clone(),
            gateway: gateway.clone(),
        }),
        _ => address(access, object, named)
            .map(|url| Grant {
                namespace: named.namespace.clone(),
                name: named.name.clone(),
                api: last(api).to_owned(),
                url,
                key_header,
            })
            .ok_or_else(waits),
    };
    Ok(Candidate {
        server,
        gateway,
        grant,
    })
}

fn allows(gateway: &McpGateway, namespace: &str) -> bool {
    gateway.spec.allowed_namespaces.as_ref().is_none_or(|namespaces| {
        namespaces
            .iter()
            .any(|allowed| allowed == NAMESPACES_ALL || *allowed == namespace)
    })
}

/// The server's address, once it is registered. A server that was opened before stays open while its registration has
/// trouble: the API is still there, and callers should not suffer from what may be a matter of seconds.
fn address(access: &McpAccess, server: &McpServer, named: &Named) -> Option<String> {
    let status = server.status.as_ref()?;
    let url = status.endpoints.as_ref()?.gateway.clone()?;
    let registered = is_true(&status.conditions, types::REGISTERED);
    (registered || is_open(access, &named.namespace, &named.name)).then_some(url)
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

fn find_gateway(loaded: &Loaded, name: &str, access: &McpAccess) -> Result<Gateway, Hindrance> {
    let gateway = name.to_owned();
    let object = loaded.gateways.iter().find(|gateway| gateway.name_any() == name);
    let Some(object) = object else {
        return Err(Hindrance::NoGateway { gateway });
    };
    if access.spec.management_policy == ManagementPolicy::Orphan && !allows_orphan(object) {
        return Err(Hindrance::OrphanNotAllowed { gateway });
    }
    let url = object
        .status
        .as_ref()
        .and_then(|status| status.gateway_url.as_deref());
    match url {
        Some(url) => Ok(Gateway {
            object: Arc::clone(object),
            url: url.trim_end_matches('/').to_owned(),
        }),
        None => Err(Hindrance::NoGatewayUrl { gateway }),
    }
}

/// Whether the platform lets registrations outlive their objects: with the object goes the only thing that takes a
/// withdrawn consent into account.
pub(super) fn allows_orphan(gateway: &McpGateway) -> bool {
    gateway.spec.allow.as_ref().is_some_and(|allow| allow.orphan)
}
