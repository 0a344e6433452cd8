//! Step `validate`, pure: the spec and what it refers to become types that cannot be wrong. In: the object,
//! [`Loaded`] and the operator's settings; out: [`Valid`]. Nothing reads the raw spec after it.
//!
//! Its parts fail apart: a server that no gateway takes still gets its pods, and one whose image is refused keeps its
//! registration. What is refused is not changed: what runs or is registered stays as it is, unless a rule takes it away
//! ([`InvalidServer::revokes`]).

mod exposure;
mod gateway;
mod health;
mod leave;
mod registration;
mod workload;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource as _, ResourceExt as _};
use mcp_fleet_crds::{GatewayRegistration, ManagementPolicy, McpGateway, McpServer, Tls, TokenSecret};

use super::claim::Claim;
use super::door;
use super::error::{InvalidServer, Rule};
use super::load::Loaded;
use crate::azure::apim::{Sse, Transports};
use crate::runtime::context::Settings;

pub use exposure::{Access, Exposure};
pub use gateway::{admits, default_gateway, uses_gateway};
pub use health::{Ask, Health};
pub use leave::Leave;
pub use registration::{Backend, Gateway, Plan, ProbeMode, Registration, policy};
pub use workload::{Image, Workload, is_bundled, pull_policy};

/// A server as it should be.
#[derive(Clone, Debug)]
pub struct Valid {
    pub identity: Identity,
    /// Refused: nothing is rolled out.
    pub workload: Result<Workload, InvalidServer>,
    /// Always something that can be built; what stands against the exposure that was asked for is in it.
    pub exposure: Exposure,
    /// Paths of the transports, at the server and below its API.
    pub transports: Transports,
    /// Where the token is that the server demands of its clients.
    pub token: Option<TokenSecret>,
    /// Refused: nothing is registered anew.
    pub registration: Result<Plan, InvalidServer>,
    /// In which header the server wants the secret that only its gateway knows.
    pub secret_header: Option<String>,
    /// Orphan without leave: all goes on as with Manage.
    pub refused_policy: Option<InvalidServer>,
    /// How it serves HTTPS, if it does.
    pub tls: Option<Tls>,
}

impl Valid {
    pub fn https(&self) -> bool {
        self.tls.is_some()
    }

    /// What is refused, each once; the first is the condition's reason.
    pub fn refusals(&self) -> Vec<&InvalidServer> {
        let parts = [
            self.registration.as_ref().err(),
            self.workload.as_ref().err(),
            self.exposure.refused.as_ref(),
            self.refused_policy.as_ref(),
        ];
        let mut refusals: Vec<&InvalidServer> = Vec::new();
        for refusal in parts.into_iter().flatten() {
            if !refusals.contains(&refusal) {
                refusals.push(refusal);
            }
        }
        refusals
    }
}

/// Which object this is about.
#[derive(Clone, Debug)]
pub struct Identity {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub controller: OwnerReference,
}

/// Validates. Fails as a whole only for what no API server would have stored.
pub fn validate(server: &McpServer, loaded: &Loaded, settings: &Settings) -> Result<Valid, InvalidServer> {
    let identity = identity(server)?;
    let registration = server.spec.gateway.clone().unwrap_or_default();
    let leave = Leave::of(server, &registration, loaded);
    let present = loaded.service.as_deref();
    let gateway = gateway::resolve(server, &registration, loaded);
    let streams = gateway.as_ref().ok().copied().flatten().is_none_or(holds_streams);
    let transports = transports(server, workload::is_bundled(server, settings) && streams);
    let guarded = door::is_enforced(server, settings);
    let counted = leave.count(server, loaded);
    let mut exposure = exposure::exposure(server, gateway.as_ref().copied(), &leave, guarded, present)?;
    let plan = counted.clone().and(gateway).and_then(|gateway| {
        let Some(gateway) = gateway else {
            return Ok(Plan::Unregistered {
                policy: policy(&registration, &leave),
            });
        };
        if transports.sse.is_some() && !streams {
            return Err(InvalidServer::SseNotSupported {
                gateway: gateway.name_any(),
            });
        }
        let registration = registration::registration(server, &registration, gateway, loaded, &leave)?;
        match (&registration.backend, &exposure.refused) {
            // Nothing is published that leads nowhere.
            (Backend::LoadBalancer, Some(refusal)) if !exposure.has_load_balancer() => Err(refusal.clone()),
            _ => Ok(Plan::Register(Box::new(registration))),
        }
    });
    if let Err(refusal) = &counted {
        exposure.access = Access::ClusterOnly;
        exposure.refused = Some(refusal.clone());
    }
    let withdraws = match &plan {
        Ok(Plan::Register(_)) => false,
        Ok(Plan::Unregistered { .. }) => true,
        Err(refusal) => refusal.revokes(),
    };
    if withdraws && Claim::of(server).is_some() {
        exposure.keep_until_withdrawn(present);
    }
    let secret_header = door::header(server, settings);
    let hosts = hosts(&identity, &registration);
    Ok(Valid {
        identity,
        workload: counted.and_then(|()| {
            workload::workload(server, loaded, settings, hosts, secret_header.clone(), &leave)
        }),
        tls: server.spec.tls.clone(),
        secret_header,
        exposure,
        transports,
        token: server.spec.probe.clone().and_then(|probe| probe.token_secret_ref),
        registration: plan,
        refused_policy: (registration.management_policy == ManagementPolicy::Orphan)
            .then(|| {
                leave
                    .require(Rule::Orphan, "gateway.managementPolicy Orphan")
                    .err()
            })
            .flatten(),
    })
}

/// Whether a gateway's tier keeps event streams open; that of Consumption ends them (Microsoft's comparison of tiers).
fn holds_streams(gateway: &McpGateway) -> bool {
    gateway.status.as_ref().and_then(|status| status.sku.as_deref()) != Some("Consumption")
}

fn identity(server: &McpServer) -> Result<Identity, InvalidServer> {
    let controller = server.controller_owner_ref(&());
    let (Some(namespace), Some(uid), Some(controller)) = (server.namespace(), server.uid(), controller)
    else {
        let problem = "the object has no namespace or uid: it was never stored".to_owned();
        return Err(InvalidServer::Field {
            field: "metadata".to_owned(),
            problem,
        });
    };
    Ok(Identity {
        namespace,
        name: server.name_any(),
        uid,
        controller,
    })
}

/// When given, exactly the transports of the spec; else streamable HTTP, and SSE for the bundled image.
fn transports(server: &McpServer, bundled: bool) -> Transports {
    let sse = |sse: mcp_fleet_crds::Sse| Sse {
        path: sse.path,
        messages_path: sse.messages_path,
    };
    match &server.spec.transports {
        Some(given) => Transports {
            streamable_http: given.streamable_http.clone().map(|transport| transport.path),
            sse: given.sse.clone().map(sse),
        },
        None => Transports {
            streamable_http: Some(mcp_fleet_crds::StreamableHttp::default().path),
            sse: bundled.then(|| sse(mcp_fleet_crds::Sse::default())),
        },
    }
}

/// Names under which the server is called: those of its Service, and the one in the backend URL. IP addresses need no
/// entry; where a load balancer has a name, the gateway calls by the Service's all the same, so that a name that comes
/// minutes later, or changes, replaces no pods.
fn hosts(identity: &Identity, registration: &GatewayRegistration) -> Vec<String> {
    let Identity { namespace, name, .. } = identity;
    let mut hosts = vec![
        name.clone(),
        format!("{name}.{namespace}"),
        format!("{name}.{namespace}.svc"),
        format!("{name}.{namespace}.svc.cluster.local"),
    ];
    let backend = registration
        .backend_url
        .as_deref()
        .and_then(|url| url::Url::parse(url).ok());
    if let Some(url::Host::Domain(host)) = backend.as_ref().and_then(url::Url::host) {
        hosts.push(host.to_owned());
    }
    hosts
}
