//! The claim: which object registered what, and where. In etcd before the first write to the gateway, and all that
//! deletion needs. In: an annotation; out: a [`Claim`], unless it was copied from another object.

use kube::ResourceExt as _;
use mcp_fleet_crds::McpAccess;
use serde::{Deserialize, Serialize};

use crate::azure::apim::target::{Resource, Target};
use crate::azure::apim::{AccessIds, Purpose, resource_name};
use crate::constants::annotations;

/// What a McpAccess has, or is about to have, in a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    /// Uid of the object that claims.
    pub uid: String,
    /// Name of the McpGateway.
    pub gateway: String,
    /// ARM id of the service.
    pub service: String,
    /// ARM id of the product.
    pub product: String,
    /// ARM id of the subscription.
    pub subscription: String,
}

impl Claim {
    pub(super) fn new(access: &McpAccess, gateway: &str, target: &Target, ids: &AccessIds) -> Self {
        Self {
            uid: access.uid().unwrap_or_default(),
            gateway: gateway.to_owned(),
            service: target.service_id(),
            product: target.id(&Resource::Product(ids.product_id.clone())),
            subscription: target.id(&Resource::Subscription(ids.subscription_id.clone())),
        }
    }

    /// The claim on an object; none for one that came with a copied manifest.
    pub(super) fn of(access: &McpAccess) -> Option<Self> {
        let text = access.annotations().get(annotations::CLAIM)?;
        let claim: Self = serde_json::from_str(text).ok()?;
        (Some(&claim.uid) == access.metadata.uid.as_ref()).then_some(claim)
    }

    /// The names below the service, as the registration engine wants them.
    pub(super) fn ids(&self) -> AccessIds {
        let last = |id: &str| id.rsplit('/').next().unwrap_or_default().to_owned();
        AccessIds {
            product_id: last(&self.product),
            subscription_id: last(&self.subscription),
        }
    }
}

/// The same names in every pass: product and subscription share one, as their kinds tell them apart.
pub(super) fn ids(cluster_id: &str, access: &McpAccess) -> AccessIds {
    let name = resource_name(
        Purpose::Access,
        cluster_id,
        &access.namespace().unwrap_or_default(),
        &access.name_any(),
    );
    AccessIds {
        product_id: name.clone(),
        subscription_id: name,
    }
}
