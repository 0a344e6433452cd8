//! Takes one server out of API Management: what we own of it, and nothing else.
//! In: the owner and the stored names; out: gone, confirmed by reading, or still going.
//!
//! Order: probe subscription, API, backend (the API's policy refers to it, so it goes last). The service drops
//! product links with the API. What is gone already, or was never made, is no error.

use futures::try_join;

use super::{
    document::ServerIds,
    ensure::write,
    error::{ArmError, ErrorClass, RegistrationError},
    mark::Owner,
    operation::PendingOperation,
    plan::{Observed, Step},
    request::Verb,
    target::Resource,
    transport::ArmClient,
    wire::{Api, Backend, Policy, Subscription},
};

/// The state of a removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// All that was ours is gone. `left` names what bears our names but is not ours.
    Gone { left: Vec<String> },
    /// Azure is at it. Call again; the operation is for the message.
    Pending(Option<PendingOperation>),
}

/// Removes a server's registration. Needs nothing but the stored names, so it works while everything else goes.
pub async fn remove_server(
    client: &ArmClient,
    owner: &Owner,
    ids: &ServerIds,
) -> Result<Removal, RegistrationError> {
    let api = Resource::Api(ids.api_id.clone());
    let backend = Resource::Backend(ids.backend_id.clone());
    let subscription = Resource::Subscription(ids.subscription_id.clone());
    let policy = Resource::ApiPolicy(ids.api_id.clone());
    let (found_backend, found_api, found_subscription, found_policy) = try_join!(
        client.get::<Backend>(&backend),
        client.get::<Api>(&api),
        client.get::<Subscription>(&subscription),
        client.get::<Policy>(&policy)
    )?;
    let observed = Observed {
        backend: found_backend,
        api: found_api,
        subscription: found_subscription,
        policy: found_policy,
        operations: vec![],
    };
    let ownership = observed.ownership(owner, ids);
    // A backend of ours without its API: the import that came after it may still run, for a process that is no more,
    // and the service may show the API only at its end. Nobody else's API has this name, so it is deleted unseen.
    let unseen = observed.api.is_none() && observed.backend.is_some() && ownership.backend.is_ours();
    let mut left = vec![];
    let resources = [
        (
            observed.subscription.is_some(),
            ownership.subscription.is_ours(),
            subscription,
        ),
        (
            observed.api.is_some() || unseen,
            ownership.api.is_ours() || unseen,
            api,
        ),
        (observed.backend.is_some(), ownership.backend.is_ours(), backend),
    ];
    for (exists, ours, resource) in resources {
        if !exists {
            continue;
        }
        if !ours {
            left.push(resource.title());
            continue;
        }
        if let Some(pending) = delete(client, resource).await? {
            return Ok(pending);
        }
    }
    Ok(Removal::Gone { left })
}

/// Deletes a resource and looks whether it is gone; `Some` while it is not.
pub(crate) async fn delete(
    client: &ArmClient,
    resource: Resource,
) -> Result<Option<Removal>, RegistrationError> {
    let step = Step::delete(resource.clone());
    match write(client, &step).await {
        Ok((_, None)) => {}
        Ok((_, Some(operation))) => return Ok(Some(Removal::Pending(Some(operation)))),
        Err(ArmError {
            class: ErrorClass::NotFound,
            ..
        }) => return Ok(None),
        // A deletion of a former pass, or another change, is under way.
        Err(ArmError {
            class: ErrorClass::ConflictInProgress { .. },
            ..
        }) => {
            return Ok(Some(Removal::Pending(None)));
        }
        Err(error) => return Err(error.into()),
    }
    let request = client.request(Verb::Get, &resource);
    match client.send(&request).await {
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
        // The service's own reads may lag behind its writes.
        Ok(_) => Ok(Some(Removal::Pending(None))),
    }
}
