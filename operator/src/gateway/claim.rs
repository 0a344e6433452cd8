//! The claim of a gateway: what it has, or is about to have, in its service. In etcd before the first write there,
//! and all that deletion needs. In: an annotation; out: a [`Claim`], unless it was copied from another object.

use kube::ResourceExt as _;
use mcp_fleet_crds::McpGateway;
use serde::{Deserialize, Serialize};

use crate::constants::annotations;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    /// Uid of the object that claims.
    pub uid: String,
    /// Name of the probe's subscription, where there is one for all APIs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<String>,
    /// Name of the named value with the gateway's secret, where a server has demanded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

impl Claim {
    pub(super) fn new(gateway: &McpGateway, probe: Option<String>, secret: Option<String>) -> Self {
        Self {
            uid: gateway.uid().unwrap_or_default(),
            probe,
            secret,
        }
    }

    /// What the annotation says.
    pub(super) fn text(&self) -> String {
        serde_json::json!(self).to_string()
    }

    /// The claim on an object; none for one that came with a copied manifest.
    pub(super) fn of(gateway: &McpGateway) -> Option<Self> {
        let text = gateway.annotations().get(annotations::CLAIM)?;
        let claim: Self = serde_json::from_str(text).ok()?;
        (gateway.uid().as_ref() == Some(&claim.uid)).then_some(claim)
    }
}
