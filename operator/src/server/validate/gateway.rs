//! Which gateway a server belongs to, and whether it may. In: the object, its registration and all gateways; out:
//! the gateway, or none when registration is switched off.

use kube::ResourceExt as _;
use mcp_fleet_crds::{GatewayRegistration, McpGateway, McpServer, NAMESPACES_ALL};

use crate::azure::apim::{Purpose, resource_name};
use crate::condition;
pub(super) use crate::gateway::defaults;
use crate::server::claim::Claim;
use crate::server::error::InvalidServer;
use crate::server::load::Loaded;

/// The one named in the spec; else the one where the server is registered already, so that a changed default moves
/// nothing; else the default.
pub fn resolve<'a>(
    server: &McpServer,
    registration: &GatewayRegistration,
    loaded: &'a Loaded,
) -> Result<Option<&'a McpGateway>, InvalidServer> {
    if !registration.enabled {
        return Ok(None);
    }
    let claimed = Claim::of(server).map(|claim| claim.gateway);
    let gateways = || loaded.gateways.iter().map(AsRef::as_ref);
    let gateway = match registration.name.as_ref().or(claimed.as_ref()) {
        Some(name) => gateways()
            .find(|gateway| gateway.name_any() == *name)
            .ok_or_else(|| InvalidServer::GatewayNotFound {
                gateway: name.clone(),
            })?,
        None => default_gateway(gateways())?,
    };
    let is_claimed = claimed.as_deref() == Some(&gateway.name_any());
    check(server, gateway, is_claimed)?;
    if let Some(claim) = Claim::of(server).filter(|_| !is_claimed) {
        check_move(server, gateway, &claim, loaded)?;
    }
    Ok(Some(gateway))
}

/// A gateway may get another name, but a server that moves to another service would be gone for its callers until it is
/// made there, and stay gone if that fails. Its owner takes it back first, then, in so many words.
fn check_move(
    server: &McpServer,
    gateway: &McpGateway,
    claim: &Claim,
    loaded: &Loaded,
) -> Result<(), InvalidServer> {
    let id = resource_name(
        Purpose::Server,
        &gateway.spec.cluster_id,
        &server.namespace().unwrap_or_default(),
        &server.name_any(),
    );
    let same = service_id(gateway).is_some_and(|service| service.eq_ignore_ascii_case(&claim.service))
        && claim.ids().api_id == id;
    // Where the former one is gone, deregistration tells what to do.
    let former = loaded
        .gateways
        .iter()
        .any(|other| other.name_any() == claim.gateway);
    if same || !former {
        return Ok(());
    }
    Err(InvalidServer::Moves {
        from: claim.gateway.clone(),
        to: gateway.name_any(),
    })
}

/// ARM id of the service, as in a claim.
fn service_id(gateway: &McpGateway) -> Option<String> {
    let apim = gateway.spec.apim.as_ref()?;
    Some(format!(
        "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.ApiManagement/service/{}",
        apim.subscription_id, apim.resource_group, apim.service_name
    ))
}

/// The gateway that is marked as default.
pub fn default_gateway<'a>(
    gateways: impl Iterator<Item = &'a McpGateway>,
) -> Result<&'a McpGateway, InvalidServer> {
    let defaults = defaults(gateways);
    match defaults[..] {
        [] => Err(InvalidServer::NoDefaultGateway),
        [gateway] => Ok(gateway),
        _ => {
            let names: Vec<String> = defaults.iter().map(|gateway| gateway.name_any()).collect();
            Err(InvalidServer::TwoDefaultGateways {
                gateways: names.join(" and "),
            })
        }
    }
}

/// Whether a gateway is for servers of a namespace.
pub fn admits(gateway: &McpGateway, namespace: &str) -> bool {
    gateway.spec.allowed_namespaces.as_ref().is_none_or(|namespaces| {
        namespaces
            .iter()
            .any(|allowed| allowed == NAMESPACES_ALL || allowed == namespace)
    })
}

fn check(server: &McpServer, gateway: &McpGateway, claimed: bool) -> Result<(), InvalidServer> {
    let (name, namespace) = (gateway.name_any(), server.namespace().unwrap_or_default());
    if !admits(gateway, &namespace) {
        return Err(InvalidServer::NamespaceNotAllowed {
            gateway: name,
            namespace,
        });
    }
    // What is registered stays so while its gateway has a bad day.
    if !claimed && gateway.metadata.deletion_timestamp.is_some() {
        return Err(InvalidServer::GatewayDeleting { gateway: name });
    }
    // Before the gateway was ever reached its addresses are unknown, and a load balancer would be open to all. That
    // holds for a gateway too that was made anew, as from a backup, under servers that are registered there.
    let status = gateway.status.as_ref();
    if status.and_then(|status| status.gateway_url.as_ref()).is_none() {
        let ready = status.and_then(|status| condition::find(&status.conditions, condition::types::READY));
        return Err(InvalidServer::GatewayNotReady {
            gateway: name,
            message: ready.map_or("it was not looked at yet".to_owned(), |ready| {
                ready.message.clone()
            }),
            judged: ready.is_some(),
        });
    }
    Ok(())
}

/// Whether a change of the gateway concerns the server. Without a name or a claim, any gateway may become its own.
pub fn uses_gateway(server: &McpServer, gateway: &str) -> bool {
    let registration = server.spec.gateway.as_ref();
    if registration.is_some_and(|registration| !registration.enabled) {
        return Claim::of(server).is_some_and(|claim| claim.gateway == gateway);
    }
    let claimed = Claim::of(server).map(|claim| claim.gateway);
    let named = registration.and_then(|registration| registration.name.clone());
    match named.as_ref().or(claimed.as_ref()) {
        Some(name) => name == gateway || claimed.as_deref() == Some(gateway),
        None => true,
    }
}
