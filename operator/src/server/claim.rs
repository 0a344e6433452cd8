//! The claim: which object registered what, and where. In etcd before the first write to the gateway, and all that
//! deletion needs. In: an annotation; out: a [`Claim`], unless it was copied from another object.

use kube::ResourceExt as _;
use mcp_fleet_crds::McpServer;
use serde::{Deserialize, Serialize};

use crate::azure::apim::{self, ServerIds};
use crate::constants::annotations;

/// What an McpServer has, or is about to have, in a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Uid of the object that claims.
    pub uid: String,
    /// Name of the McpGateway.
    pub gateway: String,
    /// ARM id of the service.
    pub service: String,
    /// ARM id of the API.
    pub api: String,
    /// ARM id of the backend.
    pub backend: String,
    /// ARM id of the probe's subscription.
    pub subscription: String,
}

impl Claim {
    /// The claim of a server in a gateway whose client is given.
    pub fn new(uid: &str, gateway: &str, target: &apim::Target, ids: &ServerIds) -> Self {
        use apim::target::Resource;
        Self {
            uid: uid.to_owned(),
            gateway: gateway.to_owned(),
            service: target.service_id(),
            api: target.id(&Resource::Api(ids.api_id.clone())),
            backend: target.id(&Resource::Backend(ids.backend_id.clone())),
            subscription: target.id(&Resource::Subscription(ids.subscription_id.clone())),
        }
    }

    /// The claim of an object: what its status says, which only the operator writes, or else its annotation. An annotation is lost when somebody
    /// replaces the object by a manifest without it or with the one of the object that it was copied from; what is
    /// registered would then be nobody's.
    pub fn of(server: &McpServer) -> Option<Self> {
        Self::told(server).or_else(|| Self::annotated(server))
    }

    /// None as well for one that is another object's, carried along in a copied manifest, and for one that does not
    /// read.
    fn annotated(server: &McpServer) -> Option<Self> {
        let text = server.annotations().get(annotations::CLAIM)?;
        let claim: Self = serde_json::from_str(text).ok()?;
        (Some(&claim.uid) == server.metadata.uid.as_ref()).then_some(claim)
    }

    fn told(server: &McpServer) -> Option<Self> {
        let registered = server.status.as_ref()?.gateway.as_ref()?;
        let (api, backend) = (registered.api_id.clone()?, registered.backend_id.clone()?);
        let (service, name) = api.rsplit_once("/apis/")?;
        Some(Self {
            uid: server.uid()?,
            gateway: registered.name.clone(),
            service: service.to_owned(),
            subscription: format!("{service}/subscriptions/{name}"),
            api,
            backend,
        })
    }

    /// Whether two claims are for the same things in one service. ARM ids are equal in any case.
    pub fn is_same_place(&self, other: &Self) -> bool {
        let Self {
            uid,
            gateway: _,
            service,
            api,
            backend,
            subscription,
        } = self;
        let same = |one: &str, other: &str| one.eq_ignore_ascii_case(other);
        *uid == other.uid
            && same(service, &other.service)
            && same(api, &other.api)
            && same(backend, &other.backend)
            && same(subscription, &other.subscription)
    }

    /// The names below the service, as the registration engine wants them.
    pub fn ids(&self) -> ServerIds {
        let last = |id: &str| id.rsplit('/').next().unwrap_or_default().to_owned();
        ServerIds {
            api_id: last(&self.api),
            backend_id: last(&self.backend),
            subscription_id: last(&self.subscription),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_copied_claim_is_nobodys_and_a_lost_one_is_in_status() {
        let text = r#"{"uid":"u1","gateway":"contoso","service":"/s","api":"/s/apis/a","backend":"/s/backends/b","subscription":"/s/subscriptions/c"}"#;
        let server = |uid: &str, text: &str| -> McpServer {
            serde_json::from_value(
                json!({"apiVersion": "mcpfleet.dev/v1alpha1", "kind": "McpServer", "spec": {},
                "metadata": {"name": "weather", "uid": uid, "annotations": {annotations::CLAIM: text}}}),
            )
            .unwrap()
        };
        let claim = Claim::of(&server("u1", text)).unwrap();
        assert_eq!(
            claim.ids(),
            ServerIds {
                api_id: "a".into(),
                backend_id: "b".into(),
                subscription_id: "c".into()
            }
        );
        assert_eq!(serde_json::to_string(&claim).unwrap(), text);
        assert_eq!(Claim::of(&server("u2", text)), None);
        assert_eq!(Claim::of(&server("u1", "{")), None);
        let mut registered = server("u1", "{");
        let status =
            json!({"gateway": {"name": "contoso", "apiId": "/s/apis/a", "backendId": "/s/backends/b"}});
        registered.status = serde_json::from_value(status).unwrap();
        let told = Claim::of(&registered).unwrap();
        assert_eq!(
            Claim {
                subscription: "/s/subscriptions/a".into(),
                ..claim
            },
            told
        );
    }
}
