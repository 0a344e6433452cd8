//! The secrets that gateways send and servers demand, derived instead of stored: nothing has to be read back, and every
//! process derives the same.
//!
//! In: the operator's master key, and which gateway, which number of its secret and which server it is about. Out: the
//! value of the gateway's named value, and from it, as the policy of an API does by an expression, a server's own
//! secret:
//!
//! ```text
//! gateway's value  = base64(HMAC-SHA256(master, "gateway secret\n<service>/namedValues/<id>\n<number>"))
//! server's secret  = base64(HMAC-SHA256(base64 decoded value, "server <API id>"))
//! ```
//!
//! A server's secret tells nothing of the gateway's value, nor of another server's secret.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::ResourceExt as _;
use mcp_fleet_crds::{GatewaySecretStatus, McpGateway};

use super::apim::{Purpose, SecretString, resource_name};
use super::probe_key::ProbeKeys;

/// What the policy's expression signs, before the id of its API. [`super::apim::policy`] says the same in C#.
pub(crate) const SERVER: &str = "server ";

/// Name of a gateway's named value. With the gateway's name in it: two gateways may lead to one service.
pub fn named_value(gateway: &McpGateway) -> String {
    resource_name(
        Purpose::Secret,
        &gateway.spec.cluster_id,
        "mcp-fleet-secret",
        &gateway.name_any(),
    )
}

/// One of the secrets of a gateway.
#[derive(Clone)]
pub struct GatewaySecret([u8; 32]);

impl std::fmt::Debug for GatewaySecret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("GatewaySecret(***)")
    }
}

impl GatewaySecret {
    /// Number `number` of a gateway's secrets. What it is derived from cannot be changed in a gateway.
    pub fn derive(keys: &ProbeKeys, gateway: &McpGateway, number: i64) -> Self {
        let service = gateway.spec.apim.as_ref().map_or_else(String::new, |apim| {
            format!(
                "{}/{}/{}",
                apim.subscription_id, apim.resource_group, apim.service_name
            )
        });
        let text = format!("{service}/namedValues/{}", named_value(gateway)).to_ascii_lowercase();
        Self(keys.sign(&format!("gateway secret\n{text}\n{number}")))
    }

    /// What the named value holds.
    pub fn value(&self) -> SecretString {
        SecretString::new(STANDARD.encode(self.0))
    }

    /// What the gateway sends to the server behind an API.
    pub fn of_server(&self, api_id: &str) -> SecretString {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let tag = hmac::sign(&key, format!("{SERVER}{api_id}").as_bytes());
        SecretString::new(STANDARD.encode(tag))
    }
}

/// The numbers that servers accept, newest first; none while the gateway has no secret yet.
pub fn accepted(status: Option<&GatewaySecretStatus>) -> Vec<i64> {
    let mut numbers: Vec<i64> = status
        .into_iter()
        .flat_map(|status| [Some(status.number), status.other])
        .flatten()
        .collect();
    numbers.sort_unstable_by(|one, other| other.cmp(one));
    numbers.dedup();
    numbers
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn gateway(name: &str, cluster: &str) -> McpGateway {
        serde_json::from_value(json!({
            "apiVersion": "mcpfleet.dev/v1alpha1", "kind": "McpGateway", "metadata": {"name": name},
            "spec": {"clusterId": cluster, "apim": {"subscriptionId": "00000000-0000-0000-0000-000000000001",
                "resourceGroup": "g", "serviceName": "contoso"}},
        }))
        .unwrap()
    }

    #[test]
    fn secrets_differ_by_everything_and_are_the_same_in_every_process() {
        let keys = ProbeKeys::new(&[7; 32]);
        let derive = |keys: &ProbeKeys, name, cluster, number, api| {
            let secret = GatewaySecret::derive(keys, &gateway(name, cluster), number);
            (secret.value(), secret.of_server(api))
        };
        let (value, server) = derive(&keys, "a", "demo", 1, "api");
        assert_eq!(
            (value.clone(), server.clone()),
            derive(&ProbeKeys::new(&[7; 32]), "a", "demo", 1, "api")
        );
        for other in [
            derive(&ProbeKeys::new(&[8; 32]), "a", "demo", 1, "api"),
            derive(&keys, "b", "demo", 1, "api"),
            derive(&keys, "a", "prod", 1, "api"),
            derive(&keys, "a", "demo", 2, "api"),
        ] {
            assert_ne!(value, other.0);
            assert_ne!(server, other.1);
        }
        assert_ne!(server, derive(&keys, "a", "demo", 1, "api2").1);
        // A policy puts the value between quotes, and a header holds the secret.
        for text in [value, server] {
            assert_eq!(text.expose().len(), 44);
            assert!(
                text.expose()
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "+/=".contains(c))
            );
        }
    }

    #[test]
    fn the_newest_is_accepted_first() {
        let status = |number, other| GatewaySecretStatus {
            number,
            other,
            ..GatewaySecretStatus::default()
        };
        assert_eq!(accepted(None), [0; 0]);
        assert_eq!(accepted(Some(&status(3, None))), [3]);
        assert_eq!(accepted(Some(&status(3, Some(4)))), [4, 3]);
        assert_eq!(accepted(Some(&status(4, Some(3)))), [4, 3]);
    }
}
