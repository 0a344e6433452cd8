//! What of a claim is believed. In: an object, as its owner wrote it, and a gateway; out: whether the object has
//! something there.
//!
//! A claim is an annotation, which whoever may edit the object may edit as well. So it is only ever a reason to look:
//! names are computed from cluster, namespace and name, and a claim with others is void.

use kube::{Resource, ResourceExt as _};
use mcp_fleet_crds::{McpGateway, McpServer};
use serde::Deserialize;

use crate::azure::apim::{Purpose, resource_name};
use crate::constants::{annotations, kinds};

/// The members of the claims of servers and accesses that tell whose they are.
#[derive(Deserialize)]
struct Claim {
    uid: String,
    gateway: String,
    /// Of a server.
    api: Option<String>,
    /// Of an access.
    product: Option<String>,
}

/// Whether an object's claim is for this gateway, and is one that the operator would write: with the object's own uid and
/// its own names. A server's namespace must be one that the gateway allows; one that was registered before says so in
/// its status.
pub fn holds<K: Resource>(kind: &str, object: &K, gateway: &McpGateway) -> bool {
    let text = object.annotations().get(annotations::CLAIM);
    let Some(claim) = text.and_then(|text| serde_json::from_str::<Claim>(text).ok()) else {
        return false;
    };
    let namespace = object.namespace().unwrap_or_default();
    let (purpose, id, may) = if kind == kinds::SERVER {
        let may = crate::server::validate::admits(gateway, &namespace);
        (Purpose::Server, claim.api, may)
    } else {
        (Purpose::Access, claim.product, true)
    };
    let own = resource_name(purpose, &gateway.spec.cluster_id, &namespace, &object.name_any());
    may && claim.gateway == gateway.name_any()
        && object.uid().as_deref() == Some(&claim.uid)
        && id.is_some_and(|id| id.rsplit('/').next() == Some(&*own))
}

/// Whether a server is registered in a gateway, as its status says, which only the operator writes.
pub fn is_registered(server: &McpServer, gateway: &str) -> bool {
    let status = server.status.as_ref();
    status
        .and_then(|status| status.gateway.as_ref())
        .is_some_and(|registered| registered.name == gateway)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn gateway(allowed: &str) -> McpGateway {
        serde_json::from_value(json!({
            "apiVersion": "mcpfleet.dev/v1alpha1", "kind": "McpGateway", "metadata": {"name": "contoso"},
            "spec": {"clusterId": "demo", "allowedNamespaces": [allowed]},
        }))
        .unwrap()
    }

    fn server(claim: &str) -> McpServer {
        serde_json::from_value(json!({
            "apiVersion": "mcpfleet.dev/v1alpha1", "kind": "McpServer", "spec": {},
            "metadata": {"name": "weather", "namespace": "tools", "uid": "s-1", "annotations": {annotations::CLAIM: claim}},
        }))
        .unwrap()
    }

    #[test]
    fn only_what_the_operator_would_write_counts() {
        let own = r#"{"uid":"s-1","gateway":"contoso","api":"/s/apis/demo-tools-weather-04131aa6"}"#;
        let cases = [
            (own, true),
            (&own.replace("s-1", "s-2"), false),
            (&own.replace("contoso", "fabrikam"), false),
            (&own.replace("weather", "ledger"), false),
            (r#"{"uid":"s-1","gateway":"contoso"}"#, false),
            ("{}", false),
            ("", false),
        ];
        for (claim, counts) in cases {
            assert_eq!(
                holds(kinds::SERVER, &server(claim), &gateway("tools")),
                counts,
                "{claim}"
            );
            assert!(
                !holds(kinds::SERVER, &server(claim), &gateway("payments")),
                "{claim}"
            );
        }
        let mut registered = server("");
        registered.status = serde_json::from_value(json!({"gateway": {"name": "contoso"}})).unwrap();
        assert!(is_registered(&registered, "contoso") && !is_registered(&registered, "fabrikam"));
    }
}
