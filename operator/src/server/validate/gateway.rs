//! Which gateway a server belongs to, and whether it may. In: the object, its registration and all gateways; out:
//! the gateway, or none when registration is switched off.

use kube::ResourceExt as _;
use mcp_fleet_crds::{
    DEFAULT_GATEWAY_ANNOTATION, GatewayRegistration, McpGateway, McpServer, NAMESPACES_ALL,
};

use crate::condition;
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
    check(server, gateway, claimed.as_deref() == Some(&gateway.name_any()))?;
    Ok(Some(gateway))
}

/// The gateway that is marked as default.
pub fn default_gateway<'a>(
    gateways: impl Iterator<Item = &'a McpGateway>,
) -> Result<&'a McpGateway, InvalidServer> {
    let mut defaults: Vec<&McpGateway> = gateways.filter(|gateway| is_default(gateway)).collect();
    if defaults.len() > 1 {
        // One that is being deleted makes room for its successor.
        defaults.retain(|gateway| gateway.metadata.deletion_timestamp.is_none());
    }
    defaults.sort_by_key(|gateway| gateway.name_any());
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

fn is_default(gateway: &McpGateway) -> bool {
    gateway
        .annotations()
        .get(DEFAULT_GATEWAY_ANNOTATION)
        .map(String::as_str)
        == Some("true")
}

fn check(server: &McpServer, gateway: &McpGateway, claimed: bool) -> Result<(), InvalidServer> {
    let (name, namespace) = (gateway.name_any(), server.namespace().unwrap_or_default());
    let allowed = gateway.spec.allowed_namespaces.as_ref().is_none_or(|namespaces| {
        namespaces
            .iter()
            .any(|allowed| allowed == NAMESPACES_ALL || *allowed == namespace)
    });
    if !allowed {
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
