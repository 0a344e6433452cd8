//! Servers by their labels. In: a selector and a server; out: whether it is meant. Pure.

use std::collections::BTreeMap;

use kube::ResourceExt as _;
use mcp_fleet_crds::{McpAccess, McpServer, NAMESPACES_ALL, NAMESPACES_SAME, ServerSelector};

/// Whether the selector of an access means this server.
pub(super) fn selects(access: &McpAccess, selector: &ServerSelector, server: &McpServer) -> bool {
    covers(access, selector, server.namespace().as_deref()) && matches(selector, server.labels())
}

/// Whether the selector looks into a namespace.
pub(super) fn covers(access: &McpAccess, selector: &ServerSelector, namespace: Option<&str>) -> bool {
    let same = access.namespace().as_deref() == namespace;
    if selector.namespaces.is_empty() {
        return same;
    }
    selector.namespaces.iter().any(|one| match one.as_str() {
        NAMESPACES_ALL => true,
        NAMESPACES_SAME => same,
        name => Some(name) == namespace,
    })
}

/// Whether these labels are what the selector asks for.
pub(super) fn matches(selector: &ServerSelector, labels: &BTreeMap<String, String>) -> bool {
    selector
        .match_labels
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}
