//! Who may call: a published product with the APIs of one access, and a subscription to it.
//! In: [`AccessRegistration`]; out: what was made and, when wanted, the keys.
//!
//! The product's description belongs to people; only the mark in it is ours. A link that we did not make (an API
//! without a mark of this cluster) stays.

use futures::try_join;
use serde_json::json;

use super::{
    ensure::write,
    error::{ArmError, ErrorClass, RegistrationError},
    mark::{self, Owner, Verdict},
    plan::{Step, check_verdict},
    remove::{Removal, delete},
    request::{Found, Verb, parse},
    secret::SecretString,
    target::Resource,
    transport::ArmClient,
    wire::{Api, Envelope, Item, Product, Subscription, same_scope},
};

const ATTEMPTS: u32 = 3;
const DESCRIPTION_LIMIT: usize = 1000;

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
    /// Names of the APIs (not full ids).
    pub apis: Vec<String>,
}

/// Both keys of a subscription; either works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    pub primary: SecretString,
    pub secondary: SecretString,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Full ARM ids.
    pub product: String,
    pub subscription: String,
    /// `Some` when the caller wanted them, or when they came with an answer.
    pub keys: Option<Keys>,
    /// `active`, unless an administrator has suspended it in API Management; that is left as it is.
    pub subscription_state: String,
    /// APIs that are not there (yet).
    pub missing: Vec<String>,
    pub writes: u32,
    pub changed: Vec<String>,
}

/// What was read of one access.
struct Observed {
    product: Option<Found<Product>>,
    linked: Vec<Item<Api>>,
    subscription: Option<Found<Subscription>>,
}

/// Makes product, links and subscription as desired. With `keys_wanted` the answer has the keys; reading them from
/// the service costs one write of its budget, so a caller that has them says no.
pub async fn ensure_access(
    client: &ArmClient,
    desired: &AccessRegistration,
    keys_wanted: bool,
) -> Result<Granted, RegistrationError> {
    let target = client.target();
    let mut granted = Granted {
        product: target.id(&Resource::Product(desired.ids.product_id.clone())),
        subscription: target.id(&Resource::Subscription(desired.ids.subscription_id.clone())),
        keys: None,
        subscription_state: "active".to_owned(),
        missing: vec![],
        writes: 0,
        changed: vec![],
    };
    let mut attempt = 1;
    loop {
        let mut was_complete = false;
        match pass(client, desired, &mut granted, &mut was_complete).await {
            Err(RegistrationError::Arm(ArmError {
                class: ErrorClass::PreconditionFailed { .. },
                ..
            })) if attempt < ATTEMPTS => {
                attempt += 1;
            }
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
    if keys_wanted && granted.keys.is_none() {
        granted.keys = Some(read_keys(client, &desired.ids).await?);
    }
    Ok(granted)
}

async fn pass(
    client: &ArmClient,
    desired: &AccessRegistration,
    granted: &mut Granted,
    was_complete: &mut bool,
) -> Result<(), RegistrationError> {
    let observed = read(client, &desired.ids).await?;
    *was_complete = observed.subscription.is_some();
    let (product, subscription) = observed.ownership(&desired.owner, &desired.ids);
    if observed.product.is_some() {
        check_verdict(&product, &Resource::Product(desired.ids.product_id.clone()))?;
    }
    if observed.subscription.is_some() {
        check_verdict(
            &subscription,
            &Resource::Subscription(desired.ids.subscription_id.clone()),
        )?;
    }
    ensure_product(client, desired, &observed, granted).await?;
    ensure_links(client, desired, &observed, granted).await?;
    ensure_subscription(client, desired, &observed, granted).await
}

/// The service refused a part of an access that never was complete: nothing half made stays.
async fn withdraw(client: &ArmClient, desired: &AccessRegistration) {
    if let Err(error) = remove_access(client, &desired.owner, &desired.ids).await {
        tracing::warn!(%error, owner = %desired.owner, "could not withdraw an incomplete access");
    }
}

async fn read(client: &ArmClient, ids: &AccessIds) -> Result<Observed, ArmError> {
    let product = Resource::Product(ids.product_id.clone());
    let links = Resource::ProductApis(ids.product_id.clone());
    let subscription = Resource::Subscription(ids.subscription_id.clone());
    let (product, subscription) = try_join!(
        client.get::<Product>(&product),
        client.get::<Subscription>(&subscription)
    )?;
    let linked = match product {
        Some(_) => client.list::<Item<Api>>(&links, None).await?.unwrap_or_default(),
        None => vec![],
    };
    Ok(Observed {
        product,
        linked,
        subscription,
    })
}

impl Observed {
    /// A product whose description somebody rewrote is known by our subscription to it, and the other way round.
    fn ownership(&self, owner: &Owner, ids: &AccessIds) -> (Verdict, Verdict) {
        let mut product = self.product.as_ref().map_or(Verdict::Unmarked, |found| {
            mark::judge(found.properties.description.as_deref(), owner)
        });
        let found = self.subscription.as_ref().map(|found| &found.properties);
        let mut subscription = found.map_or(Verdict::Unmarked, |found| {
            mark::judge_label(found.display_name.as_deref(), owner)
        });
        let ours_by_scope = found
            .and_then(|found| found.scope.as_deref())
            .is_some_and(|scope| same_scope(&scope_of(ids), scope));
        if ours_by_scope && product == Verdict::Unmarked && subscription.is_ours() {
            product = Verdict::Ours;
        } else if ours_by_scope && subscription == Verdict::Unmarked && product.is_ours() {
            subscription = Verdict::Ours;
        }
        (product, subscription)
    }
}

fn scope_of(ids: &AccessIds) -> String {
    format!("/products/{}", ids.product_id)
}

async fn ensure_product(
    client: &ArmClient,
    desired: &AccessRegistration,
    observed: &Observed,
    granted: &mut Granted,
) -> Result<(), RegistrationError> {
    let resource = Resource::Product(desired.ids.product_id.clone());
    let wanted = Product {
        display_name: Some(desired.display_name.chars().take(300).collect()),
        description: Some(mark::describe(
            desired.description.as_deref(),
            &desired.owner,
            DESCRIPTION_LIMIT,
        )),
        subscription_required: Some(true),
        approval_required: Some(false),
        state: Some("published".to_owned()),
    };
    let Some(found) = &observed.product else {
        let step = Step::put(resource.clone(), &wanted, None);
        let (answer, _) = write(client, &step).await?;
        granted.changed.push(step.change);
        // A new product may come back unpublished whatever was sent.
        let request = client.request(Verb::Put, &resource);
        let created: Envelope<Product> = parse(&request, &answer)?;
        if let Some(difference) = wanted.difference(&created.properties) {
            let step = Step::patch(resource, difference, answer.etag().as_ref());
            write(client, &step).await?;
            granted.changed.push(step.change);
        }
        return Ok(());
    };
    let mut difference = wanted.difference(&found.properties);
    let description = found.properties.description.as_deref();
    if mark::judge(description, &desired.owner) == Verdict::OursFormerLife {
        difference.get_or_insert_default().description =
            description.map(|text| mark::replace(text, &desired.owner));
    }
    if let Some(difference) = difference {
        let step = Step::patch(resource, difference, found.etag.as_ref());
        write(client, &step).await?;
        granted.changed.push(step.change);
    }
    Ok(())
}

async fn ensure_links(
    client: &ArmClient,
    desired: &AccessRegistration,
    observed: &Observed,
    granted: &mut Granted,
) -> Result<(), RegistrationError> {
    let link = |api: &str| Resource::ProductApi(desired.ids.product_id.clone(), api.to_owned());
    granted.missing.clear();
    for item in &observed.linked {
        let wanted = desired.apis.contains(&item.name);
        let marked = mark::parse(item.properties.description.as_deref().unwrap_or_default());
        if !wanted && marked.is_some_and(|owner| owner.cluster_id == desired.owner.cluster_id) {
            // Links take no If-Match.
            let step = Step {
                if_match: None,
                ..Step::delete(link(&item.name))
            };
            match write(client, &step).await {
                Ok(_) => granted.changed.push(format!("{} to {}", step.change, item.name)),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    for api in &desired.apis {
        if observed.linked.iter().any(|item| item.name == *api) {
            continue;
        }
        let mut step = Step::put(link(api), json!({}), None);
        // The address says it all. A body with empty properties would be read as an API without a path.
        step.body = None;
        match write(client, &step).await {
            Ok(_) => granted.changed.push(format!("{} to {api}", step.change)),
            Err(error) if error.is_not_found() => granted.missing.push(api.clone()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn ensure_subscription(
    client: &ArmClient,
    desired: &AccessRegistration,
    observed: &Observed,
    granted: &mut Granted,
) -> Result<(), RegistrationError> {
    let resource = Resource::Subscription(desired.ids.subscription_id.clone());
    let mut wanted = Subscription {
        display_name: Some(mark::label(&desired.owner, None)),
        scope: Some(scope_of(&desired.ids)),
        ..Subscription::default()
    };
    let Some(found) = &observed.subscription else {
        // Left to its default, a subscription may wait for somebody's approval.
        wanted.state = Some("active".to_owned());
        let step = Step::put(resource.clone(), &wanted, None);
        let (answer, _) = write(client, &step).await?;
        granted.changed.push(step.change);
        let created: Envelope<Subscription> = parse(&client.request(Verb::Put, &resource), &answer)?;
        granted.keys = keys_of(created.properties);
        return Ok(());
    };
    if let Some(state) = &found.properties.state {
        granted.subscription_state.clone_from(state);
    }
    if let Some(difference) = wanted.difference(&found.properties) {
        let step = Step::patch(resource, difference, found.etag.as_ref());
        write(client, &step).await?;
        granted.changed.push(step.change);
    }
    Ok(())
}

fn keys_of(subscription: Subscription) -> Option<Keys> {
    Some(Keys {
        primary: SecretString::new(subscription.primary_key?),
        secondary: SecretString::new(subscription.secondary_key?),
    })
}

async fn read_keys(client: &ArmClient, ids: &AccessIds) -> Result<Keys, RegistrationError> {
    let request = client.request(
        Verb::Post,
        &Resource::SubscriptionSecrets(ids.subscription_id.clone()),
    );
    let answer = client.send(&request).await?;
    let subscription: Subscription = parse(&request, &answer)?;
    keys_of(subscription).ok_or_else(|| {
        let message = "the service answered without keys".to_owned();
        request.failed(ErrorClass::Unexpected { message }).into()
    })
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
        subscription: found_subscription,
        linked: vec![],
    };
    let (product_verdict, subscription_verdict) = observed.ownership(owner, ids);
    let mut left = vec![];
    for (exists, verdict, resource) in [
        (observed.product.is_some(), product_verdict, product),
        (
            observed.subscription.is_some(),
            subscription_verdict,
            subscription.clone(),
        ),
    ] {
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
