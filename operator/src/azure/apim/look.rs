//! Step `look`: what is there of one server. In: its documents and how deep to look; out: [`Looked`].
//!
//! The inventory says which servers are as they should be without a read of their own, but for the policy, which no list
//! shows. Operations are in no list either: the print of those that we wrote is in the API's mark, and what somebody
//! else does to them is looked for now and then, in place of the policy. Whatever differs is read before it is changed.

use futures::try_join;

use super::{
    document::{ServerDocuments, ServerRegistration},
    error::ArmError,
    inventory::Sight,
    names::short_hash,
    openapi::OPERATION_IDS,
    plan::Observed,
    policy,
    request::Found,
    target::Resource,
    transport::ArmClient,
    wire::{Api, Backend, Item, Operation, Policy, Subscription},
};

/// In one of so many rounds the operations are looked at in place of the policy.
const OPERATIONS_TURN: u64 = 4;

/// How much to read. Reads have a budget too, and most passes find nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Against the lists, and the policy: after a change of what is desired, and when nothing is known.
    Full,
    /// Everything, and the probe's key is written again: when the gateway refuses it.
    Repair,
    /// Against the lists, and the policy or, in some rounds, the operations.
    Drift { round: u64 },
}

/// What was found.
#[derive(Debug)]
pub(crate) enum Looked {
    /// All is as desired.
    InLine,
    Found(Box<Observed>),
}

pub(crate) async fn look(
    client: &ArmClient,
    desired: &ServerRegistration,
    documents: &ServerDocuments,
    depth: Depth,
) -> Result<Looked, ArmError> {
    if depth == Depth::Repair {
        return found(read(client, desired).await?);
    }
    client.inventory().refresh(client).await?;
    match client.inventory().sight(&desired.ids, documents) {
        [Sight::AsWanted, Sight::AsWanted, Sight::AsWanted] => {
            look_at_the_rest(client, desired, documents, depth).await
        }
        [Sight::Absent, Sight::Absent, Sight::Absent | Sight::AsWanted] => {
            // The lists are a little old, and a PUT would write over what came to be meanwhile.
            let api = Resource::Api(desired.ids.api_id.clone());
            match client.get::<Api>(&api).await? {
                None => found(Observed::default()),
                Some(_) => found(read(client, desired).await?),
            }
        }
        _ => found(read(client, desired).await?),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "every arm above answers so")]
fn found(observed: Observed) -> Result<Looked, ArmError> {
    Ok(Looked::Found(Box::new(observed)))
}

/// What no list shows: the policy, or the operations when it is their turn.
async fn look_at_the_rest(
    client: &ArmClient,
    desired: &ServerRegistration,
    documents: &ServerDocuments,
    depth: Depth,
) -> Result<Looked, ArmError> {
    if let Depth::Drift { round } = depth
        && is_turn_of_operations(&desired.ids.api_id, round)
    {
        let operations = read_operations(client, desired).await?;
        if same_operations(documents, &operations) {
            return Ok(Looked::InLine);
        }
        return found(read(client, desired).await?);
    }
    let Some(policy) = read_policy(client, desired).await? else {
        return found(read(client, desired).await?);
    };
    let stored = &policy.properties.value;
    if policy::same_policy(&documents.policy, stored) {
        return Ok(Looked::InLine);
    }
    // A policy that routes to our backend bears out what the list says: the API is ours, and only this is to be written.
    if policy::routes_to(stored, &desired.ids.backend_id) {
        return found(as_listed(documents, policy));
    }
    found(read(client, desired).await?)
}

/// Servers take turns, so that not all of them look at their operations in the same period.
fn is_turn_of_operations(api: &str, round: u64) -> bool {
    let offset = short_hash(&["turn", api], 4);
    let offset = u64::from_str_radix(&offset, 16).unwrap_or_default();
    round.wrapping_add(offset) % OPERATIONS_TURN == OPERATIONS_TURN - 1
}

/// A server whose lists say that all but the policy is as wanted. Nothing of it is written, so ETags do not matter.
fn as_listed(documents: &ServerDocuments, policy: Found<Policy>) -> Observed {
    fn unread<T>(properties: T) -> Found<T> {
        Found {
            properties,
            etag: None,
        }
    }
    Observed {
        backend: Some(unread(documents.backend.clone())),
        api: Some(unread(documents.api.clone())),
        operations: documents
            .operations
            .iter()
            .map(|operation| Item {
                name: operation.id.to_owned(),
                properties: operation.wire(),
            })
            .collect(),
        policy: Some(policy),
        subscription: documents.subscription.clone().map(unread),
    }
}

/// Reads everything.
pub(crate) async fn read(client: &ArmClient, desired: &ServerRegistration) -> Result<Observed, ArmError> {
    let ids = &desired.ids;
    let backend = Resource::Backend(ids.backend_id.clone());
    let api = Resource::Api(ids.api_id.clone());
    let subscription = Resource::Subscription(ids.subscription_id.clone());
    let (backend, api, subscription) = try_join!(
        client.get::<Backend>(&backend),
        client.get::<Api>(&api),
        client.get::<Subscription>(&subscription)
    )?;
    let mut observed = Observed {
        backend,
        api,
        subscription,
        ..Observed::default()
    };
    if observed.api.is_some() {
        let (operations, policy) = try_join!(read_operations(client, desired), read_policy(client, desired))?;
        observed.operations = operations;
        observed.policy = policy;
    }
    Ok(observed)
}

async fn read_operations(
    client: &ArmClient,
    desired: &ServerRegistration,
) -> Result<Vec<Item<Operation>>, ArmError> {
    let operations = client
        .list(&Resource::Operations(desired.ids.api_id.clone()), None)
        .await?;
    Ok(operations.unwrap_or_default())
}

async fn read_policy(
    client: &ArmClient,
    desired: &ServerRegistration,
) -> Result<Option<Found<Policy>>, ArmError> {
    client.get(&Resource::ApiPolicy(desired.ids.api_id.clone())).await
}

fn same_operations(documents: &ServerDocuments, found: &[Item<Operation>]) -> bool {
    let ours = found
        .iter()
        .filter(|item| OPERATION_IDS.contains(&item.name.as_str()))
        .count();
    ours == documents.operations.len()
        && documents.operations.iter().all(|wanted| {
            let item = found.iter().find(|item| item.name == wanted.id);
            item.is_some_and(|item| wanted.wire().difference(&item.properties).is_none())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_have_their_turn_and_servers_take_turns() {
        let mut at_once = 0;
        for number in 0..100 {
            let api = format!("demo-tools-s{number}");
            let turns: Vec<u64> = (0..8)
                .filter(|round| is_turn_of_operations(&api, *round))
                .collect();
            assert_eq!(turns.len(), 2);
            assert_eq!(turns[1] - turns[0], OPERATIONS_TURN);
            at_once += u32::from(turns[0] == 0);
        }
        assert!((10..40).contains(&at_once), "{at_once} of 100 in one round");
    }
}
