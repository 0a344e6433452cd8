//! What a server should be in its gateway: its own values, else the gateway's defaults, else the built-in ones.
//! In: the object and its gateway; out: [`Registration`].

use kube::ResourceExt as _;
use mcp_fleet_crds::{GatewayRegistration, ManagementPolicy, McpGateway, McpServer, Probe};
use url::Url;

use super::leave::Leave;
use crate::azure::apim::{Cors, KEY_HEADER, Owner, Purpose, RateLimit, ServerIds, resource_name};
use crate::condition::{is_true, types};
use crate::server::claim::Claim;
use crate::server::error::{InvalidServer, Rule};
use crate::server::load::Loaded;

const BUILT_IN_RATE_LIMIT: RateLimit = RateLimit {
    calls: 1000,
    renewal_seconds: 60,
};
const BUILT_IN_TIMEOUT_SECONDS: u32 = 60;
const BUILT_IN_MAX_AGE_SECONDS: u32 = 300;

/// Whether the server is registered.
#[derive(Clone, Debug)]
pub enum Plan {
    Register(Box<Registration>),
    /// Not at all; what was registered before goes, or stays, as the policy says.
    Unregistered {
        policy: ManagementPolicy,
    },
}

/// A registration, but for what only the cluster knows: the load balancer's address and the probe's key.
#[derive(Clone, Debug)]
pub struct Registration {
    pub gateway: Gateway,
    pub owner: Owner,
    pub ids: ServerIds,
    pub path: String,
    pub display_name: String,
    pub description: Option<String>,
    pub backend: Backend,
    /// What becomes of it when the server moves or goes.
    pub policy: ManagementPolicy,
    pub subscription_required: bool,
    /// Where callers put their key.
    pub key_header: String,
    pub timeout_seconds: u32,
    pub rate_limit: Option<RateLimit>,
    pub cors: Option<Cors>,
}

/// The gateway, as far as the line needs it.
#[derive(Clone, Debug)]
pub struct Gateway {
    pub name: String,
    /// Where agents call it; known as soon as it was reached once.
    pub url: Option<String>,
    pub probe: ProbeMode,
    pub object: Box<McpGateway>,
}

/// With whose key the probe goes through the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeMode {
    PerServer,
    /// The gateway's own, once it has one.
    AllApis {
        ready: bool,
    },
    None,
}

/// Where the gateway finds the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    LoadBalancer,
    Url(Url),
}

/// Resolves and checks.
pub fn registration(
    server: &McpServer,
    spec: &GatewayRegistration,
    gateway: &McpGateway,
    loaded: &Loaded,
    leave: &Leave,
) -> Result<Registration, InvalidServer> {
    let GatewayRegistration {
        enabled: _,
        name: _,
        path: _,
        display_name,
        description,
        backend_url,
        management_policy: _,
        subscription_required,
        key_header,
        timeout_seconds,
        rate_limit,
        cors,
        access: _,
        secret_header: _,
    } = spec;
    let (namespace, name) = (server.namespace().unwrap_or_default(), server.name_any());
    let path = path(server, spec, gateway, leave)?;
    check_taken(server, &path, gateway, loaded)?;
    if !subscription_required {
        leave.require(Rule::Anonymous, "gateway.subscriptionRequired false")?;
    }
    let any_origin = |cors: &mcp_fleet_crds::Cors| cors.allowed_origins.iter().any(|origin| origin == "*");
    if cors.as_ref().is_some_and(any_origin) {
        leave.require(Rule::WildcardCors, "gateway.cors.allowedOrigins *")?;
    }
    let cluster_id = gateway.spec.cluster_id.clone();
    let id = resource_name(Purpose::Server, &cluster_id, &namespace, &name);
    let defaults = gateway.spec.defaults.clone().unwrap_or_default();
    let rate_limit = rate_limit
        .or(defaults.rate_limit)
        .map_or(BUILT_IN_RATE_LIMIT, to_rate_limit);
    let timeout = timeout_seconds.or(defaults.timeout_seconds);
    Ok(Registration {
        gateway: Gateway {
            name: gateway.name_any(),
            url: gateway
                .status
                .as_ref()
                .and_then(|status| status.gateway_url.clone()),
            probe: probe_mode(gateway),
            object: Box::new(gateway.clone()),
        },
        owner: Owner {
            cluster_id,
            namespace: namespace.clone(),
            name: name.clone(),
            uid: server.uid().unwrap_or_default(),
        },
        ids: ServerIds {
            api_id: id.clone(),
            backend_id: id.clone(),
            subscription_id: id,
        },
        path,
        display_name: display_name
            .clone()
            .unwrap_or_else(|| format!("{namespace}/{name}")),
        description: description.clone(),
        backend: backend(backend_url.as_deref(), leave)?,
        policy: policy(spec, leave),
        subscription_required: *subscription_required,
        key_header: key_header
            .clone()
            .unwrap_or_else(|| gateway_key_header(gateway).to_owned()),
        timeout_seconds: timeout
            .and_then(|seconds| u32::try_from(seconds).ok())
            .unwrap_or(BUILT_IN_TIMEOUT_SECONDS),
        // Calls are counted by subscription; without one there is nothing to count by.
        rate_limit: subscription_required.then_some(rate_limit),
        cors: cors.clone().or(defaults.cors).map(to_cors),
    })
}

/// Where callers of servers in this gateway put their key, unless a server says otherwise.
pub fn gateway_key_header(gateway: &McpGateway) -> &str {
    gateway.spec.key_header.as_deref().unwrap_or(KEY_HEADER)
}

fn probe_mode(gateway: &McpGateway) -> ProbeMode {
    match gateway.spec.probe {
        Probe::PerServer => ProbeMode::PerServer,
        Probe::AllApis => ProbeMode::AllApis {
            ready: gateway
                .status
                .as_ref()
                .is_some_and(|status| is_true(&status.conditions, types::REGISTERED)),
        },
        Probe::None => ProbeMode::None,
    }
}

/// The path of a server in a gateway. Below its own namespace, or one team could take the place of another's server,
/// or reach into it.
fn path(
    server: &McpServer,
    spec: &GatewayRegistration,
    gateway: &McpGateway,
    leave: &Leave,
) -> Result<String, InvalidServer> {
    let Some(path) = &spec.path else {
        return Ok(default_path(server, gateway));
    };
    if !is_at_home(server, path, gateway) && !leave.allows(Rule::AnyPath) {
        return Err(InvalidServer::PathNotAllowed {
            path: path.clone(),
            inside: home(server, gateway),
            gateway: gateway.name_any(),
            registered: is_registered(server, path, gateway),
        });
    }
    Ok(path.clone())
}

/// What lies below it is the namespace's own.
fn home(server: &McpServer, gateway: &McpGateway) -> String {
    format!("{}/{}", prefix(gateway), server.namespace().unwrap_or_default())
}

fn is_at_home(server: &McpServer, path: &str, gateway: &McpGateway) -> bool {
    lies_within(path, &home(server, gateway))
}

/// Whether a path lies below another, by segments. API Management compares paths without regard to case.
fn lies_within(path: &str, outer: &str) -> bool {
    let (path, outer) = (path.as_bytes(), outer.as_bytes());
    path.len() > outer.len() && path[outer.len()] == b'/' && path[..outer.len()].eq_ignore_ascii_case(outer)
}

/// Whether two APIs would get in each other's way: the longest path of an API wins a call, so one that lies within
/// another takes a part of its calls.
fn overlap(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other) || lies_within(one, other) || lies_within(other, one)
}

/// Whether a server has this path by now, as its status says, which its owner does not write.
fn is_registered(server: &McpServer, path: &str, gateway: &McpGateway) -> bool {
    server
        .status
        .as_ref()
        .and_then(|status| status.gateway.as_ref())
        .filter(|registered| registered.name == gateway.name_any())
        .and_then(|registered| registered.path.as_ref())
        .is_some_and(|registered| registered.eq_ignore_ascii_case(path))
}

fn prefix(gateway: &McpGateway) -> &str {
    gateway
        .spec
        .path_prefix
        .as_deref()
        .unwrap_or(&gateway.spec.cluster_id)
}

fn default_path(server: &McpServer, gateway: &McpGateway) -> String {
    format!("{}/{}", home(server, gateway), server.name_any())
}

/// Of two servers whose paths get in each other's way, the one that is below its own namespace wins, then the one that
/// is registered there, then the older one.
fn check_taken(
    server: &McpServer,
    path: &str,
    gateway: &McpGateway,
    loaded: &Loaded,
) -> Result<(), InvalidServer> {
    let rank = |candidate: &McpServer, path: &str| {
        let created = candidate.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (
            !is_at_home(candidate, path, gateway),
            !is_registered(candidate, path, gateway),
            created,
            candidate.uid(),
        )
    };
    let own = rank(server, path);
    let holder = loaded.servers.iter().find_map(|other| {
        // The cheap question first: every pass asks it of every server.
        let taken = overlapping(other, path, gateway)?;
        let wins =
            other.uid() != server.uid() && is_here(other, gateway, loaded) && rank(other, &taken) < own;
        wins.then_some((other, taken))
    });
    let Some((holder, taken)) = holder else {
        return Ok(());
    };
    Err(InvalidServer::PathTaken {
        path: path.to_owned(),
        gateway: gateway.name_any(),
        taken,
        holder: format!("{}/{}", holder.namespace().unwrap_or_default(), holder.name_any()),
        registered: is_registered(server, path, gateway),
    })
}

/// The path that a server would have in this gateway, if it gets in the way of another.
fn overlapping(other: &McpServer, path: &str, gateway: &McpGateway) -> Option<String> {
    let given = other.spec.gateway.as_ref().and_then(|spec| spec.path.as_ref());
    if let Some(given) = given {
        return overlap(given, path).then(|| given.clone());
    }
    // Without making a text of it: most servers have the default path, and are asked by each other in each pass.
    let mut own = path.split('/');
    let namespace = other.metadata.namespace.as_deref().unwrap_or_default();
    let name = other.metadata.name.as_deref().unwrap_or_default();
    let mut default = prefix(gateway).split('/').chain([namespace, name]);
    loop {
        match (own.next(), default.next()) {
            (Some(one), Some(other)) if one.eq_ignore_ascii_case(other) => {}
            (Some(_), Some(_)) => return None,
            _ => return Some(default_path(other, gateway)),
        }
    }
}

/// Whether a server belongs to this gateway.
fn is_here(other: &McpServer, gateway: &McpGateway, loaded: &Loaded) -> bool {
    let spec = other.spec.gateway.as_ref();
    if spec.is_some_and(|spec| !spec.enabled) {
        return false;
    }
    let name = gateway.name_any();
    match spec
        .and_then(|spec| spec.name.clone())
        .or_else(|| Claim::of(other).map(|claim| claim.gateway))
    {
        Some(named) => named == name,
        None => super::default_gateway(loaded.gateways.iter().map(AsRef::as_ref))
            .is_ok_and(|default| default.name_any() == name),
    }
}

/// What becomes of the registration when the server goes: Orphan only where that is allowed.
pub fn policy(spec: &GatewayRegistration, leave: &Leave) -> ManagementPolicy {
    match spec.management_policy {
        ManagementPolicy::Orphan if leave.allows(Rule::Orphan) => ManagementPolicy::Orphan,
        ManagementPolicy::Orphan | ManagementPolicy::Manage => ManagementPolicy::Manage,
    }
}

fn backend(url: Option<&str>, leave: &Leave) -> Result<Backend, InvalidServer> {
    let Some(text) = url else {
        return Ok(Backend::LoadBalancer);
    };
    leave.require(Rule::BackendUrl, "gateway.backendUrl")?;
    Url::parse(text)
        .map(Backend::Url)
        .map_err(|error| InvalidServer::Field {
            field: "gateway.backendUrl".to_owned(),
            problem: format!("{text} is not a URL: {error}"),
        })
}

fn to_rate_limit(limit: mcp_fleet_crds::RateLimit) -> RateLimit {
    let positive = |value: i32| u32::try_from(value).unwrap_or(1).max(1);
    RateLimit {
        calls: positive(limit.calls),
        renewal_seconds: positive(limit.renewal_seconds),
    }
}

fn to_cors(cors: mcp_fleet_crds::Cors) -> Cors {
    let mcp_fleet_crds::Cors {
        allowed_origins,
        allowed_headers,
        allow_credentials,
        max_age_seconds,
    } = cors;
    Cors {
        allowed_origins,
        allowed_headers,
        allow_credentials,
        max_age_seconds: max_age_seconds
            .and_then(|seconds| u32::try_from(seconds).ok())
            .unwrap_or(BUILT_IN_MAX_AGE_SECONDS),
    }
}
