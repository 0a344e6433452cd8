//! From an access to the documents that it needs. In: [`AccessRegistration`]; out: [`AccessDocuments`]. Pure.

use std::collections::BTreeSet;

use super::{AccessIds, AccessRegistration};
use crate::azure::apim::{
    mark,
    wire::{Product, Subscription},
};

const DISPLAY_NAME_LIMIT: usize = 300;
const DESCRIPTION_LIMIT: usize = 1000;

/// Product, subscription and links of one access.
#[derive(Clone, Debug)]
pub(crate) struct AccessDocuments {
    pub(crate) product: Product,
    pub(crate) subscription: Subscription,
    /// Names of the APIs that are linked.
    pub(crate) links: BTreeSet<String>,
}

pub(crate) fn documents(desired: &AccessRegistration) -> AccessDocuments {
    let AccessRegistration {
        owner,
        ids,
        display_name,
        description,
        apis,
        kept: _,
    } = desired;
    AccessDocuments {
        product: Product {
            display_name: Some(display_name.chars().take(DISPLAY_NAME_LIMIT).collect()),
            description: Some(mark::describe(description.as_deref(), owner, DESCRIPTION_LIMIT)),
            subscription_required: Some(true),
            approval_required: Some(false),
            state: Some("published".to_owned()),
        },
        subscription: Subscription {
            display_name: Some(mark::label(owner, None)),
            scope: Some(scope(ids)),
            // Left to its default, a new subscription may wait for somebody's approval.
            state: Some("active".to_owned()),
            ..Subscription::default()
        },
        links: apis.iter().cloned().collect(),
    }
}

pub(crate) fn scope(ids: &AccessIds) -> String {
    format!("/products/{}", ids.product_id)
}
