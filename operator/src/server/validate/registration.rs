//! What a server should be in its gateway: its own values, else the gateway's defaults, else the built-in ones.
//! In: the object and its gateway; out: [`Registration`].

use kube::ResourceExt as _;
use mcp_fleet_crds::{GatewayRegistration, ManagementPolicy, McpGateway, McpServer, Probe};
use url::Url;

use crate::azure::apim::{Cors, Owner, Purpose, RateLimit, ServerIds, resource_name};
use crate::condition::{is_true, types};
use crate::server::claim::Claim;
use crate::server::error::InvalidServer;
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
) -> Result<Registration, InvalidServer> {
    let GatewayRegistration {
        enabled: _,
        name: _,
        path: _,
        display_name,
        description,
        backend_url,
        management_policy,
        subscription_required,
        timeout_seconds,
        rate_limit,
        cors,
        access: _,
        secret_header: _,
    } = spec;
    let (namespace, name) = (server.namespace().unwrap_or_default(), server.name_any());
    let path = path(server, spec, gateway)?;
    check_taken(server, &path, gateway, loaded)?;
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
        backend: backend(backend_url.as_deref(), gateway)?,
        policy: *management_policy,
        subscription_required: *subscription_required,
        timeout_seconds: timeout
            .and_then(|seconds| u32::try_from(seconds).ok())
            .unwrap_or(BUILT_IN_TIMEOUT_SECONDS),
        // Calls are counted by subscription; without one there is nothing to count by.
        rate_limit: subscription_required.then_some(rate_limit),
        cors: cors.clone().or(defaults.cors).map(to_cors),
    })
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

/// The path of a server in a gateway.
fn path(
    server: &McpServer,
    spec: &GatewayRegistration,
    gateway: &McpGateway,
) -> Result<String, InvalidServer> {
    let prefix = prefix(gateway);
    let Some(path) = &spec.path else {
        return Ok(default_path(server, gateway));
    };
    let inside = path
        .to_ascii_lowercase()
        .starts_with(&format!("{}/", prefix.to_ascii_lowercase()));
    if !inside && !gateway.spec.allow_path_outside_prefix {
        return Err(InvalidServer::PathOutsidePrefix {
            path: path.clone(),
            prefix: prefix.to_owned(),
            gateway: gateway.name_any(),
        });
    }
    Ok(path.clone())
}

fn prefix(gateway: &McpGateway) -> &str {
    gateway
        .spec
        .path_prefix
        .as_deref()
        .unwrap_or(&gateway.spec.cluster_id)
}

fn default_path(server: &McpServer, gateway: &McpGateway) -> String {
    format!(
        "{}/{}/{}",
        prefix(gateway),
        server.namespace().unwrap_or_default(),
        server.name_any()
    )
}

/// Of two servers with one path, the one that is registered with it wins, then the older one.
fn check_taken(
    server: &McpServer,
    path: &str,
    gateway: &McpGateway,
    loaded: &Loaded,
) -> Result<(), InvalidServer> {
    let name = gateway.name_any();
    let rank = |candidate: &McpServer| {
        let registered = candidate
            .status
            .as_ref()
            .and_then(|status| status.gateway.as_ref())
            .is_some_and(|registered| registered.name == name && registered.path.as_deref() == Some(path));
        let created = candidate.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (!registered, created, candidate.uid())
    };
    let holder = loaded.servers.iter().find(|other| {
        // The cheap question first: every pass asks it of every server.
        wants(other, path, gateway)
            && other.uid() != server.uid()
            && is_here(other, gateway, loaded)
            && rank(other) < rank(server)
    });
    let Some(holder) = holder else { return Ok(()) };
    Err(InvalidServer::PathTaken {
        path: path.to_owned(),
        gateway: name,
        holder: format!("{}/{}", holder.namespace().unwrap_or_default(), holder.name_any()),
    })
}

/// Whether a server would have this path in this gateway. API Management compares paths without regard to case.
fn wants(other: &McpServer, path: &str, gateway: &McpGateway) -> bool {
    if let Some(own) = other.spec.gateway.as_ref().and_then(|spec| spec.path.as_ref()) {
        return own.eq_ignore_ascii_case(path);
    }
    let last = path.rsplit('/').next().unwrap_or_default();
    let name = other.metadata.name.as_deref().unwrap_or_default();
    last.eq_ignore_ascii_case(name) && default_path(other, gateway).eq_ignore_ascii_case(path)
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

fn backend(url: Option<&str>, gateway: &McpGateway) -> Result<Backend, InvalidServer> {
    let Some(text) = url else {
        return Ok(Backend::LoadBalancer);
    };
    if !gateway.spec.allow_backend_url {
        return Err(InvalidServer::BackendUrlNotAllowed {
            gateway: gateway.name_any(),
        });
    }
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
