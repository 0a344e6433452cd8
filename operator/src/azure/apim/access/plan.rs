//! What to write so that an access is as desired. In: the documents and what was read; out: an ordered list of
//! requests. Pure.
//!
//! Order: links that are to go, product, links to come, subscription. Taking away is first and needs neither the
//! documents nor the rest of what was read.

use std::collections::BTreeSet;

use super::{AccessIds, document::AccessDocuments, document::scope};
use crate::azure::apim::{
    error::RegistrationError,
    mark::{self, Owner, Verdict},
    plan::{Step, check_verdict},
    request::{Found, Verb},
    target::Resource,
    wire::{Api, Item, Product, Subscription, same_scope},
};

/// What was read of one access.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    pub(crate) product: Option<Found<Product>>,
    pub(crate) linked: Vec<Item<Api>>,
    pub(crate) subscription: Option<Found<Subscription>>,
}

/// Whose each resource is, as far as it exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ownership {
    pub(crate) product: Verdict,
    pub(crate) subscription: Verdict,
}

/// Which links stay, and which are ours to take away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// APIs whose servers consent.
    pub consented: BTreeSet<String>,
    /// APIs that this access names or has opened: ours to unlink although somebody took the mark from them.
    pub known: BTreeSet<String>,
}

impl Observed {
    /// A product whose description somebody rewrote is known by our subscription to it, and the other way round.
    pub(crate) fn ownership(&self, owner: &Owner, ids: &AccessIds) -> Ownership {
        let mut product = self.product.as_ref().map_or(Verdict::Unmarked, |found| {
            mark::judge(found.properties.description.as_deref(), owner)
        });
        let found = self.subscription.as_ref().map(|found| &found.properties);
        let mut subscription = found.map_or(Verdict::Unmarked, |found| {
            mark::judge_label(found.display_name.as_deref(), owner)
        });
        let ours_by_scope = found
            .and_then(|found| found.scope.as_deref())
            .is_some_and(|found| same_scope(&scope(ids), found));
        if ours_by_scope && product == Verdict::Unmarked && subscription.is_ours() {
            product = Verdict::Ours;
        } else if ours_by_scope && subscription == Verdict::Unmarked && product.is_ours() {
            subscription = Verdict::Ours;
        }
        Ownership {
            product,
            subscription,
        }
    }

    /// Refuses what is somebody else's.
    pub(crate) fn check(&self, owner: &Owner, ids: &AccessIds) -> Result<(), RegistrationError> {
        let ownership = self.ownership(owner, ids);
        if self.product.is_some() {
            check_verdict(&ownership.product, &Resource::Product(ids.product_id.clone()))?;
        }
        if self.subscription.is_some() {
            let resource = Resource::Subscription(ids.subscription_id.clone());
            check_verdict(&ownership.subscription, &resource)?;
        }
        Ok(())
    }
}

/// The links that go: of our product, to APIs of this cluster whose servers do not consent. A link that somebody made
/// to an API of theirs stays.
pub(crate) fn removals(owner: &Owner, ids: &AccessIds, kept: &Kept, observed: &Observed) -> Vec<Step> {
    if !observed.ownership(owner, ids).product.is_ours() {
        return vec![];
    }
    let ours = |item: &Item<Api>| {
        let marked = mark::parse(item.properties.description.as_deref().unwrap_or_default());
        marked.map_or_else(
            || kept.known.contains(&item.name),
            |marked| marked.cluster_id == owner.cluster_id,
        )
    };
    let unwanted = observed
        .linked
        .iter()
        .filter(|item| !kept.consented.contains(&item.name) && ours(item));
    unwanted.map(|item| unlink(ids, &item.name)).collect()
}

/// The writes that are due beside the removals.
pub(crate) fn additions(
    ids: &AccessIds,
    owner: &Owner,
    documents: &AccessDocuments,
    observed: &Observed,
) -> Vec<Step> {
    let mut steps = vec![];
    steps.extend(product_step(ids, owner, documents, observed));
    let missing = documents
        .links
        .iter()
        .filter(|api| !observed.linked.iter().any(|item| item.name == **api));
    steps.extend(missing.map(|api| link(ids, api)));
    steps.extend(subscription_step(ids, documents, observed));
    steps
}

fn product_step(
    ids: &AccessIds,
    owner: &Owner,
    documents: &AccessDocuments,
    observed: &Observed,
) -> Option<Step> {
    let resource = Resource::Product(ids.product_id.clone());
    let Some(found) = &observed.product else {
        return Some(Step::put(resource, &documents.product, None));
    };
    let mut difference = documents.product.difference(&found.properties);
    let description = found.properties.description.as_deref();
    if mark::judge(description, owner) == Verdict::OursFormerLife {
        difference.get_or_insert_default().description = description.map(|text| mark::replace(text, owner));
    }
    difference.map(|difference| Step::patch(resource, difference, found.etag.as_ref()))
}

/// A new product may come back unpublished whatever was sent.
pub(crate) fn after_product(
    ids: &AccessIds,
    documents: &AccessDocuments,
    created: &Product,
    etag: Option<&String>,
) -> Option<Step> {
    let difference = documents.product.difference(created)?;
    let resource = Resource::Product(ids.product_id.clone());
    Some(Step::patch(resource, difference, etag))
}

fn subscription_step(ids: &AccessIds, documents: &AccessDocuments, observed: &Observed) -> Option<Step> {
    let resource = Resource::Subscription(ids.subscription_id.clone());
    let Some(found) = &observed.subscription else {
        return Some(Step::put(resource, &documents.subscription, None));
    };
    // An administrator may have suspended it, and that is left as it is.
    let wanted = Subscription {
        state: None,
        ..documents.subscription.clone()
    };
    let difference = wanted.difference(&found.properties)?;
    Some(Step::patch(resource, difference, found.etag.as_ref()))
}

fn link(ids: &AccessIds, api: &str) -> Step {
    let resource = Resource::ProductApi(ids.product_id.clone(), api.to_owned());
    Step {
        verb: Verb::Put,
        change: format!("{} to {api}", resource.kind()),
        resource,
        if_match: None,
        // The address says it all. A body with empty properties would be read as an API without a path.
        body: None,
    }
}

fn unlink(ids: &AccessIds, api: &str) -> Step {
    let step = Step::delete(Resource::ProductApi(ids.product_id.clone(), api.to_owned()));
    Step {
        change: format!("{} to {api}", step.change),
        // Links take no If-Match.
        if_match: None,
        ..step
    }
}
