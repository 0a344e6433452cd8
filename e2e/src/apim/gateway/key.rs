//! Checks the subscription key of a call.
//! In: the API, and the key if the caller sent one. Out: who calls and through which product, or 401 in the words of
//! the service.

use std::sync::Arc;

use http::HeaderMap;

use super::failure::Failure;
use crate::apim::arm::product;
use crate::apim::kind::Kind;
use crate::apim::query::Query;
use crate::apim::store::{Document, World};
use crate::apim::switches::Switches;

#[derive(Debug, Default)]
pub(super) struct Caller {
    pub(super) subscription: Option<Arc<Document>>,
    pub(super) product: Option<Arc<Document>>,
}

/// Names of the header and the query parameter that carry the key.
pub(super) fn names(api: &Document) -> (String, String) {
    let set = &api.properties.get("subscriptionKeyParameterNames");
    let name = |member: &str, default: &str| {
        set.and_then(|set| set[member].as_str())
            .unwrap_or(default)
            .to_owned()
    };
    (
        name("header", "Ocp-Apim-Subscription-Key"),
        name("query", "subscription-key"),
    )
}

/// The key that the caller sent: the header goes before the query.
pub(super) fn sent(api: &Document, headers: &HeaderMap, query: &Query) -> Option<String> {
    let (header, parameter) = names(api);
    let in_header = headers
        .get(header.as_str())
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    in_header
        .or_else(|| query.get(&parameter).map(str::to_owned))
        .filter(|key| !key.is_empty())
}

pub(super) fn check(
    world: &World,
    api: &Document,
    key: Option<&str>,
    switches: &Switches,
    url: &str,
) -> Result<Caller, Failure> {
    let caller = key.and_then(|key| open(world, api, key, switches));
    if let Some(caller) = caller {
        return Ok(caller);
    }
    if api.flag("subscriptionRequired") == Some(false) {
        return Ok(Caller::default());
    }
    if let (None, Some(product)) = (key, open_product(world, api)) {
        return Ok(Caller {
            subscription: None,
            product: Some(product),
        });
    }
    let (header, _) = names(api);
    let message = if key.is_some() {
        "Access denied due to invalid subscription key. Make sure to provide a valid key for an active subscription."
    } else {
        "Access denied due to missing subscription key. Make sure to include subscription key when making requests to an API."
    };
    let challenge = format!("AzureApiManagementKey realm=\"{url}\",name=\"{header}\",type=\"header\"");
    Err(Failure::new(401, message).with("WWW-Authenticate", challenge))
}

/// Whether this key opens this API: an active subscription to all APIs, to it, or to a product that has it.
fn open(world: &World, api: &Document, key: &str, switches: &Switches) -> Option<Caller> {
    let subscription = world.subscription_of_key(key)?;
    if subscription.text("state") != Some("active") {
        return None;
    }
    let scope = subscription.text("scope")?.to_lowercase();
    if scope.ends_with("/apis") || scope.ends_with(&format!("/{}", api.id.to_lowercase())) {
        return Some(Caller {
            subscription: Some(Arc::clone(subscription)),
            product: None,
        });
    }
    let (_, name) = scope.rsplit_once("/products/")?;
    let product = world.get(&format!("products/{name}"))?;
    let published = product.text("state") == Some("published") || switches.unpublished_product_opens;
    let linked = product::link(world, &product.id, api.name()).is_some();
    (published && linked).then(|| Caller {
        subscription: Some(Arc::clone(subscription)),
        product: Some(Arc::clone(product)),
    })
}

/// A published product with this API that requires no subscription.
fn open_product(world: &World, api: &Document) -> Option<Arc<Document>> {
    world
        .members("products")
        .find(|product| {
            product.kind == Kind::Product
                && product.flag("subscriptionRequired") == Some(false)
                && product.text("state") == Some("published")
                && product::link(world, &product.id, api.name()).is_some()
        })
        .cloned()
}
