//! Consent: whom a server lets in. It is the server's own: its owner decides, not whoever wants to call it.
//! In: the server and the namespace that asks; out: yes or no, and what the owner would have to write. Pure.

use kube::ResourceExt as _;
use mcp_fleet_crds::{McpServer, NAMESPACES_ALL, NAMESPACES_SAME};

fn namespaces(server: &McpServer) -> Option<&[String]> {
    let gateway = server.spec.gateway.as_ref()?;
    gateway.access.as_ref().map(|access| access.namespaces.as_slice())
}

pub(super) fn consents(server: &McpServer, namespace: &str) -> bool {
    let same = server.namespace().as_deref() == Some(namespace);
    match namespaces(server) {
        None => same,
        Some(namespaces) => namespaces.iter().any(|one| match one.as_str() {
            NAMESPACES_ALL => true,
            NAMESPACES_SAME => same,
            name => name == namespace,
        }),
    }
}

/// What the server's owner has to add, word for word. Who else is let in is nothing that the consumer is told.
pub(super) fn line(server: &McpServer, namespace: &str) -> String {
    match namespaces(server) {
        // A list takes the place of the default, so that has to be in it.
        None => format!("spec: {{gateway: {{access: {{namespaces: [{NAMESPACES_SAME}, {namespace}]}}}}}}"),
        Some(_) => format!("\"- {namespace}\" below spec.gateway.access.namespaces"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn server(access: &Value) -> McpServer {
        serde_json::from_value(json!({
            "apiVersion": "mcpfleet.dev/v1alpha1", "kind": "McpServer",
            "metadata": {"name": "weather", "namespace": "tools"},
            "spec": {"gateway": {"access": access}},
        }))
        .unwrap()
    }

    #[test]
    fn what_the_owner_adds_is_what_is_missing() {
        let cases = [
            (json!(null), "[Same, agents]"),
            (json!({"namespaces": ["secret-project"]}), "\"- agents\" below"),
        ];
        for (access, expected) in cases {
            let mut server = server(&access);
            assert!(!consents(&server, "agents"));
            let line = line(&server, "agents");
            assert!(
                line.contains(expected) && !line.contains("secret-project"),
                "{line}"
            );
            // With that line there, it consents.
            let gateway = server.spec.gateway.as_mut().unwrap();
            let access = gateway.access.get_or_insert_with(|| mcp_fleet_crds::Access {
                namespaces: vec![NAMESPACES_SAME.to_owned()],
            });
            access.namespaces.push("agents".to_owned());
            assert!(consents(&server, "agents"));
        }
    }

    #[test]
    fn a_server_lets_in_its_own_namespace_unless_it_says_otherwise() {
        let cases = [
            (json!(null), "tools", true),
            (json!(null), "agents", false),
            (json!({"namespaces": ["Same"]}), "tools", true),
            (json!({"namespaces": ["agents"]}), "tools", false),
            (json!({"namespaces": ["agents"]}), "agents", true),
            (json!({"namespaces": ["All"]}), "anyone", true),
        ];
        for (access, namespace, expected) in cases {
            assert_eq!(
                consents(&server(&access), namespace),
                expected,
                "{access} {namespace}"
            );
        }
    }
}
