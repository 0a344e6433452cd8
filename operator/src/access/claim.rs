//! The claim: which object registered what, and where. In etcd before the first write to the gateway, and all that
//! deletion needs. In: an annotation, and what status says; out: a [`Claim`], unless it was copied from another object,
//! and the [`Place`]s where the access may have something.
//!
//! The annotation belongs to whoever may edit the object, and that is the consumer: from whom access is taken must not
//! be able to make us forget where. So status, which only the operator writes, is asked as well, and of either only the
//! name of the gateway is believed: the names of product and subscription are computed.

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
    fn of(access: &McpAccess) -> Option<Self> {
        let text = access.annotations().get(annotations::CLAIM)?;
        let claim: Self = serde_json::from_str(text).ok()?;
        (Some(&claim.uid) == access.metadata.uid.as_ref()).then_some(claim)
    }
}

/// A gateway in which the access has something, or may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Name of the McpGateway.
    pub gateway: String,
    /// ARM id of the service.
    pub service: String,
}

/// Where the access may have something: by status, and by the claim, which is older than status when a process ended
/// in between.
pub(super) fn places(access: &McpAccess) -> Vec<Place> {
    let told = access.status.as_ref().and_then(|status| {
        let registered = status.gateway.as_ref()?;
        let (service, _) = registered.product_id.as_ref()?.rsplit_once("/products/")?;
        Some(Place {
            gateway: registered.name.clone(),
            service: service.to_owned(),
        })
    });
    let claimed = Claim::of(access).map(|claim| Place {
        gateway: claim.gateway,
        service: claim.service,
    });
    let claimed = claimed.filter(|claimed| told.as_ref().is_none_or(|told| told.gateway != claimed.gateway));
    told.into_iter().chain(claimed).collect()
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
