//! The one rule for the default gateway. In: gateways; out: those that servers without a name use, one if all is well.

use kube::ResourceExt as _;
use mcp_fleet_crds::{DEFAULT_GATEWAY_ANNOTATION, McpGateway};

/// Whether a gateway is marked as default.
pub fn is_default(gateway: &McpGateway) -> bool {
    gateway
        .annotations()
        .get(DEFAULT_GATEWAY_ANNOTATION)
        .is_some_and(|value| value == "true")
}

/// The gateways that are marked as default, by name. Of several, those that are being deleted make room for their
/// successor.
pub fn defaults<'a>(gateways: impl Iterator<Item = &'a McpGateway>) -> Vec<&'a McpGateway> {
    let mut defaults: Vec<&McpGateway> = gateways.filter(|gateway| is_default(gateway)).collect();
    if defaults.len() > 1 {
        defaults.retain(|gateway| gateway.metadata.deletion_timestamp.is_none());
    }
    defaults.sort_by_key(|gateway| gateway.name_any());
    defaults
}
