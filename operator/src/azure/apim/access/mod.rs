//! Who may call: a published product with the APIs of one access, and a subscription to it.
//!
//! The same line as for servers: `document` (what we want) -> `observe` -> `plan` (judge and compare, pure) -> steps.
//! What is to be taken away is a plan of its own, [`revoke`]: it comes first, and needs neither what the consumer wants
//! nor an answer about anything but the product and its links.
//!
//! In: [`AccessRegistration`]; out: what was made. `keys` reads and renews the keys.
//!
//! The product's description belongs to people; only the mark in it is ours. A link that we did not make (an API
//! without a mark of this cluster) stays.

pub(crate) mod document;
mod keys;
pub(crate) mod plan;

use futures::{join, try_join};

use super::{
    attempts::Attempts,
    ensure::write,
    error::{ArmError, RegistrationError},
    mark::Owner,
    plan::Step,
    remove::{Removal, delete},
    request::{Response, Verb, parse},
    target::Resource,
    transport::ArmClient,
    wire::{Api, Envelope, Item, Product, Subscription},
};
use document::{AccessDocuments, documents};
pub use keys::{Keys, read_keys, regenerate_key};
pub use plan::Kept;
use plan::{Observed, additions, after_product, removals};

/// The names of what one access has in API Management.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessIds {
    pub product_id: String,
    pub subscription_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRegistration {
    pub owner: Owner,
    pub ids: AccessIds,
    /// Of the product; the service wants it to be unique among products.
    pub display_name: String,
    pub description: Option<String>,
    /// Names of the APIs (not full ids) that are linked.
    pub apis: Vec<String>,
    /// What may stay linked beside them.
    pub kept: Kept,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Full ARM ids.
    pub product: String,
    pub subscription: String,
    /// `Some` when the subscription was made just now: its keys come with the answer.
    pub keys: Option<Keys>,
    /// ETag of the subscription, which changes with each of its keys.
    pub etag: Option<String>,
    /// `active`, unless an administrator has suspended it in API Management; that is left as it is.
    pub subscription_state: String,
    /// APIs that are not there (yet).
    pub missing: Vec<String>,
    pub writes: u32,
    pub changed: Vec<String>,
}

/// What [`revoke`] read, for the steps after it, and what it took away.
#[derive(Debug)]
pub struct Revoked {
    observed: Observed,
    /// Names of the APIs that are linked still.
    pub linked: Vec<String>,
    pub changed: Vec<String>,
}

/// Unlinks what is not consented to (any more). Whatever else fails, each link that is to go is tried.
pub async fn revoke(
    client: &ArmClient,
    owner: &Owner,
    ids: &AccessIds,
    kept: &Kept,
) -> Result<Revoked, RegistrationError> {
    let (observed, trouble) = observe(client, ids).await?;
    take_away(client, owner, ids, kept, observed, trouble).await
}

async fn take_away(
    client: &ArmClient,
    owner: &Owner,
    ids: &AccessIds,
    kept: &Kept,
    mut observed: Observed,
    mut trouble: Option<ArmError>,
) -> Result<Revoked, RegistrationError> {
    let mut changed = vec![];
    for step in removals(owner, ids, kept, &observed) {
        let Resource::ProductApi(_, api) = &step.resource else {
            continue;
        };
        match write(client, &step).await {
            Ok(_) => changed.push(step.change.clone()),
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                trouble.get_or_insert(error);
                continue;
            }
        }
        observed.linked.retain(|item| item.name != *api);
    }
    match trouble {
        Some(error) => Err(error.into()),
        None => Ok(Revoked {
            linked: observed.linked.iter().map(|item| item.name.clone()).collect(),
            observed,
            changed,
        }),
    }
}

/// Makes product, links and subscription as desired. `revoked` spares the first reads.
pub async fn ensure_access(
    client: &ArmClient,
    desired: &AccessRegistration,
    mut revoked: Option<Revoked>,
) -> Result<Granted, RegistrationError> {
    let target = client.target();
    let mut granted = Granted {
        product: target.id(&Resource::Product(desired.ids.product_id.clone())),
        subscription: target.id(&Resource::Subscription(desired.ids.subscription_id.clone())),
        keys: None,
        etag: None,
        subscription_state: "active".to_owned(),
        missing: vec![],
        writes: 0,
        changed: vec![],
    };
    let mut attempts = Attempts::default();
    loop {
        let mut was_complete = true;
        match pass(client, desired, revoked.take(), &mut granted, &mut was_complete).await {
            Err(error) if attempts.again(&error) => {}
            Err(error) => {
                if error.is_refusal() && !was_complete {
                    withdraw(client, desired).await;
                }
                return Err(error);
            }
            Ok(()) => break,
        }
    }
    granted.writes = u32::try_from(granted.changed.len()).unwrap_or(u32::MAX);
    Ok(granted)
}

async fn pass(
    client: &ArmClient,
    desired: &AccessRegistration,
    revoked: Option<Revoked>,
    granted: &mut Granted,
    was_complete: &mut bool,
) -> Result<(), RegistrationError> {
    let AccessRegistration { owner, ids, kept, .. } = desired;
    let revoked = match revoked {
        Some(revoked) => revoked,
        None => revoke(client, owner, ids, kept).await?,
    };
    granted.changed.extend(revoked.changed);
    let observed = revoked.observed;
    observed.check(owner, ids)?;
    *was_complete = observed.subscription.is_some();
    if let Some(found) = &observed.subscription {
        granted.etag.clone_from(&found.etag);
        if let Some(state) = &found.properties.state {
            granted.subscription_state.clone_from(state);
        }
    }
    granted.missing.clear();
    let documents = documents(desired);
    for step in additions(ids, owner, &documents, &observed) {
        carry_out(client, ids, &documents, &step, granted).await?;
    }
    Ok(())
}

async fn carry_out(
    client: &ArmClient,
    ids: &AccessIds,
    documents: &AccessDocuments,
    step: &Step,
    granted: &mut Granted,
) -> Result<(), RegistrationError> {
    let answer = match (write(client, step).await, &step.resource) {
        (Ok((answer, _)), _) => answer,
        (Err(error), Resource::ProductApi(_, api)) if error.is_not_found() => {
            granted.missing.push(api.clone());
            return Ok(());
        }
        (Err(error), _) => return Err(error.into()),
    };
    granted.changed.push(step.change.clone());
    match (&step.resource, step.verb) {
        (Resource::Product(_), Verb::Put) => {
            let created: Envelope<Product> = answered(client, step, &answer)?;
            let etag = answer.etag();
            if let Some(step) = after_product(ids, documents, &created.properties, etag.as_ref()) {
                write(client, &step).await?;
                granted.changed.push(step.change);
            }
        }
        (Resource::Subscription(_), verb) => {
            granted.etag = answer.etag();
            if verb == Verb::Put {
                let created: Envelope<Subscription> = answered(client, step, &answer)?;
                granted.keys = keys::keys_of(created.properties);
            }
        }
        _ => {}
    }
    Ok(())
}

fn answered<T: serde::de::DeserializeOwned>(
    client: &ArmClient,
    step: &Step,
    answer: &Response,
) -> Result<T, ArmError> {
    parse(&client.request(step.verb, &step.resource), answer)
}

/// The service refused a part of an access that never was complete: nothing half made stays.
async fn withdraw(client: &ArmClient, desired: &AccessRegistration) {
    if let Err(error) = remove_access(client, &desired.owner, &desired.ids).await {
        tracing::warn!(%error, owner = %desired.owner, "could not withdraw an incomplete access");
    }
}

/// Reads all of it at once. What cannot be told about the subscription comes beside: links are taken away without it.
async fn observe(client: &ArmClient, ids: &AccessIds) -> Result<(Observed, Option<ArmError>), ArmError> {
    let product = Resource::Product(ids.product_id.clone());
    let links = Resource::ProductApis(ids.product_id.clone());
    let subscription = Resource::Subscription(ids.subscription_id.clone());
    let (product, linked, subscription) = join!(
        client.get::<Product>(&product),
        client.list::<Item<Api>>(&links, None),
        client.get::<Subscription>(&subscription)
    );
    let (subscription, trouble) = match subscription {
        Ok(found) => (found, None),
        Err(error) => (None, Some(error)),
    };
    let observed = Observed {
        product: product?,
        linked: linked?.unwrap_or_default(),
        subscription,
    };
    Ok((observed, trouble))
}

/// Removes an access: the product with its links and subscriptions, and our subscription if it outlives it.
pub async fn remove_access(
    client: &ArmClient,
    owner: &Owner,
    ids: &AccessIds,
) -> Result<Removal, RegistrationError> {
    let product = Resource::Product(ids.product_id.clone());
    let subscription = Resource::Subscription(ids.subscription_id.clone());
    let (found_product, found_subscription) = try_join!(
        client.get::<Product>(&product),
        client.get::<Subscription>(&subscription)
    )?;
    let observed = Observed {
        product: found_product,
        linked: vec![],
        subscription: found_subscription,
    };
    let ownership = observed.ownership(owner, ids);
    let mut left = vec![];
    let resources = [
        (observed.product.is_some(), ownership.product, product),
        (
            observed.subscription.is_some(),
            ownership.subscription,
            subscription.clone(),
        ),
    ];
    for (exists, verdict, resource) in resources {
        if !exists {
            continue;
        }
        if !verdict.is_ours() {
            left.push(resource.title());
            continue;
        }
        // The product takes its subscriptions along.
        let taken_along = resource == subscription && client.get::<Subscription>(&resource).await?.is_none();
        if !taken_along && let Some(pending) = delete(client, resource).await? {
            return Ok(pending);
        }
    }
    Ok(Removal::Gone { left })
}
