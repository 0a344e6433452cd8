//! Step `validate`, pure: the spec and what it refers to become types that cannot be wrong. In: the object,
//! [`Loaded`] and the operator's settings; out: [`Valid`]. Nothing reads the raw spec after it.

mod exposure;
mod gateway;
mod registration;
mod workload;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource as _, ResourceExt as _};
use mcp_fleet_crds::{GatewayRegistration, McpServer};

use super::error::InvalidServer;
use super::load::Loaded;
use crate::azure::apim::{Sse, Transports};
use crate::runtime::context::Settings;

pub use exposure::{Access, Exposure};
pub use gateway::{default_gateway, uses_gateway};
pub use registration::{Backend, Gateway, Plan, ProbeMode, Registration};
pub use workload::{Health, Image, Workload};

/// A server as it should be.
#[derive(Clone, Debug)]
pub struct Valid {
    pub identity: Identity,
    pub workload: Workload,
    pub exposure: Exposure,
    /// Paths of the transports, at the server and below its API.
    pub transports: Transports,
    pub plan: Plan,
}

/// Which object this is about.
#[derive(Clone, Debug)]
pub struct Identity {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub controller: OwnerReference,
}

/// Validates.
pub fn validate(server: &McpServer, loaded: &Loaded, settings: &Settings) -> Result<Valid, InvalidServer> {
    let identity = identity(server)?;
    let registration = server.spec.gateway.clone().unwrap_or_default();
    let gateway = gateway::resolve(server, &registration, loaded)?;
    let transports = transports(server, workload::is_bundled(server, settings));
    let plan = match gateway {
        Some(gateway) => {
            let registration = registration::registration(server, &registration, gateway, loaded)?;
            Plan::Register(Box::new(registration))
        }
        None => Plan::Unregistered,
    };
    let exposure = exposure::exposure(server, gateway)?;
    let hosts = hosts(&identity, loaded, &registration);
    let workload = workload::workload(server, settings, hosts)?;
    Ok(Valid {
        identity,
        workload,
        exposure,
        transports,
        plan,
    })
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

/// Names under which the server is called: those of its Service, that of its load balancer where it has a name, and
/// the one in the backend URL. IP addresses need no entry.
fn hosts(identity: &Identity, loaded: &Loaded, registration: &GatewayRegistration) -> Vec<String> {
    let Identity { namespace, name, .. } = identity;
    let mut hosts = vec![
        name.clone(),
        format!("{name}.{namespace}"),
        format!("{name}.{namespace}.svc"),
        format!("{name}.{namespace}.svc.cluster.local"),
    ];
    let ingress = loaded.service.as_ref().and_then(|service| {
        service
            .status
            .as_ref()?
            .load_balancer
            .as_ref()?
            .ingress
            .as_ref()?
            .first()
    });
    hosts.extend(ingress.and_then(|ingress| ingress.hostname.clone()));
    let backend = registration
        .backend_url
        .as_deref()
        .and_then(|url| url::Url::parse(url).ok());
    if let Some(url::Host::Domain(host)) = backend.as_ref().and_then(url::Url::host) {
        hosts.push(host.to_owned());
    }
    hosts
}
