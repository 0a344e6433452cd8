//! Brings one server's registration in line: read, judge, plan, write, follow.
//! In: [`ServerRegistration`], how deep to look, and an operation that a former pass left running; out: what was
//! written, or the operation that still runs.
//!
//! Every step can be the last one before a crash or a lost answer: names are the same in every pass, everything
//! starts with reading, and marks are part of the first write of each resource. So the next pass goes on where this
//! one ended and makes nothing twice.

use futures::try_join;

use super::{
    document::{ServerDocuments, ServerRegistration, documents},
    error::{ArmError, ErrorClass, RegistrationError, Retry},
    mark::Verdict,
    openapi::OPERATION_IDS,
    operation::{Outcome, PendingOperation, follow, in_progress},
    plan::{Observed, Step, check_ownership, plan},
    policy,
    remove::remove_server,
    request::{Found, Response},
    target::Resource,
    transport::ArmClient,
    wire::{Api, Backend, Item, Policy, Subscription, same_path},
};

/// A stale ETag means: read again. Somebody who changes the same API all the time wins for now.
const ATTEMPTS: u32 = 3;

/// How much to read. Reads have a budget too, and most passes find nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Everything: after a change of what is desired, and when nothing is known.
    Full,
    /// Everything, and the probe's key is written again: when the gateway refuses it.
    Repair,
    /// Two reads, of another pair in each round, and everything only if they differ from what is desired.
    Drift { round: u64 },
}

/// A registration that is in line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Full ARM ids.
    pub api: String,
    pub backend: String,
    pub subscription: Option<String>,
    pub writes: u32,
    /// What was written, for logs and status, for example `policy` or `backend (url)`. Empty when nothing was due.
    pub changed: Vec<String>,
}

/// Makes API Management as desired. After an error, drop `progress`: it has ended or is no use.
pub async fn ensure_server(
    client: &ArmClient,
    desired: &ServerRegistration,
    depth: Depth,
    progress: Option<PendingOperation>,
) -> Result<Outcome<Registered>, RegistrationError> {
    let documents = documents(desired)?;
    if let Some(operation) = progress
        && let Outcome::Pending(operation) = follow(client, operation, client.limits().operation).await?
    {
        return Ok(Outcome::Pending(operation));
    }
    if let Depth::Drift { round } = depth
        && is_unchanged(client, desired, &documents, round).await?
    {
        return Ok(Outcome::Done(registered(client, desired, vec![])));
    }
    let mut changed = vec![];
    let mut attempt = 1;
    loop {
        let result = pass(client, desired, &documents, depth == Depth::Repair, &mut changed).await;
        match result {
            Err(RegistrationError::Arm(ArmError {
                class: ErrorClass::PreconditionFailed { .. },
                ..
            })) if attempt < ATTEMPTS => {
                attempt += 1;
            }
            Err(error) => return Err(error),
            Ok(Some(operation)) => return Ok(Outcome::Pending(operation)),
            Ok(None) => return Ok(Outcome::Done(registered(client, desired, changed))),
        }
    }
}

fn registered(client: &ArmClient, desired: &ServerRegistration, changed: Vec<String>) -> Registered {
    let target = client.target();
    let ids = &desired.ids;
    Registered {
        api: target.id(&Resource::Api(ids.api_id.clone())),
        backend: target.id(&Resource::Backend(ids.backend_id.clone())),
        subscription: desired
            .probe_key
            .as_ref()
            .map(|_| target.id(&Resource::Subscription(ids.subscription_id.clone()))),
        writes: u32::try_from(changed.len()).unwrap_or(u32::MAX),
        changed,
    }
}

/// One pass over everything; `Some` when an operation outlasts it.
async fn pass(
    client: &ArmClient,
    desired: &ServerRegistration,
    documents: &ServerDocuments,
    rekey: bool,
    changed: &mut Vec<String>,
) -> Result<Option<PendingOperation>, RegistrationError> {
    let ids = &desired.ids;
    let api = Resource::Api(ids.api_id.clone());
    let mut observed = read(client, desired).await?;
    let ownership = observed.ownership(&desired.owner, ids);
    check_ownership(&observed, &ownership, ids)?;
    if let Some(found) = &observed.api
        && in_progress(found.properties.provisioning_state.as_deref())
    {
        // The import of a pass that was cut off.
        let operation = PendingOperation::on_resource(&api.title(), client.target().url(&api));
        if let Outcome::Pending(operation) = follow(client, operation, client.limits().operation).await? {
            return Ok(Some(operation));
        }
        observed = read(client, desired).await?;
    }
    check_path(client, desired, documents, observed.api.as_ref()).await?;
    let had_policy = observed.policy.is_some();
    for step in plan(ids, documents, &observed, rekey) {
        match write(client, &step).await {
            Ok((_, None)) => changed.push(step.change),
            Ok((_, Some(operation))) => return Ok(Some(operation)),
            Err(error) => {
                let error = path_conflict(error, &step.resource);
                let refused = matches!(error, RegistrationError::Conflict { .. })
                    || error.retry() == Retry::UntilChanged;
                if !had_policy && refused {
                    withdraw(client, desired).await;
                }
                return Err(error);
            }
        }
    }
    Ok(None)
}

/// Sends one step and follows what it starts. `Some` when that outlasts the patience of a pass.
pub(crate) async fn write(
    client: &ArmClient,
    step: &Step,
) -> Result<(Response, Option<PendingOperation>), ArmError> {
    let mut request = client.request(step.verb, &step.resource);
    request.body.clone_from(&step.body);
    request.if_match.clone_from(&step.if_match);
    let answer = client.send(&request).await?;
    tracing::info!(
        verb = step.verb.label(),
        resource = request.title,
        change = step.change,
        correlation = answer.header("x-ms-correlation-request-id"),
        "wrote to API Management"
    );
    let started = PendingOperation::from_answer(client, step.verb, &request.title, &request.url, &answer)?;
    let Some(operation) = started else {
        return Ok((answer, None));
    };
    match follow(client, operation, client.limits().operation).await? {
        Outcome::Done(()) => Ok((answer, None)),
        Outcome::Pending(operation) => Ok((answer, Some(operation))),
    }
}

/// The service refused a part of a registration that never was complete: what was made goes again, so that nothing
/// half made stays. A failure here is not reported over the refusal; deletion comes by here again.
async fn withdraw(client: &ArmClient, desired: &ServerRegistration) {
    if let Err(error) = remove_server(client, &desired.owner, &desired.ids).await {
        tracing::warn!(%error, owner = %desired.owner, "could not withdraw an incomplete registration");
    }
}

/// The path may have been taken between our check and the write, or in other letters than the filter of the check
/// matches. The service answers 400 for the member `path`, or 409.
fn path_conflict(error: ArmError, resource: &Resource) -> RegistrationError {
    let refused_for_path = match &error.class {
        ErrorClass::Validation { message, target } => {
            (target.as_deref() == Some("path") && message.contains("as API")) || is_same_path(message)
        }
        ErrorClass::ConflictInProgress { message } => is_same_path(message),
        _ => false,
    };
    if !refused_for_path || !matches!(resource, Resource::Api(_)) {
        return error.into();
    }
    RegistrationError::Conflict {
        resource: resource.title(),
        problem: format!(
            "cannot have its path; choose another gateway path: {}",
            error.class
        ),
    }
}

fn is_same_path(message: &str) -> bool {
    message.to_ascii_lowercase().contains("same path")
}

async fn read(client: &ArmClient, desired: &ServerRegistration) -> Result<Observed, ArmError> {
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
) -> Result<Vec<Item<super::wire::Operation>>, ArmError> {
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

/// Before a path is taken or changed: does another API have it? Asked before the first write, so that a conflict
/// leaves nothing half made.
async fn check_path(
    client: &ArmClient,
    desired: &ServerRegistration,
    documents: &ServerDocuments,
    found: Option<&Found<Api>>,
) -> Result<(), RegistrationError> {
    let wanted = documents.api.path.as_deref().unwrap_or_default();
    let current = found.and_then(|found| found.properties.path.as_deref());
    if current.is_some_and(|current| same_path(wanted, current)) {
        return Ok(());
    }
    let filter = format!("path eq '{}'", wanted.replace('\'', "''"));
    let apis: Vec<Item<Api>> = client
        .list(&Resource::Apis, Some(&filter))
        .await?
        .unwrap_or_default();
    // The filter may be read loosely; the decision is ours.
    let holder = apis.iter().find(|api| {
        let name = api.name.split(';').next().unwrap_or_default();
        name != desired.ids.api_id
            && api
                .properties
                .path
                .as_deref()
                .is_some_and(|path| same_path(wanted, path))
    });
    let Some(holder) = holder else { return Ok(()) };
    let owner = match super::mark::parse(holder.properties.description.as_deref().unwrap_or_default()) {
        Some(owner) => format!(", which belongs to {owner}"),
        None => String::new(),
    };
    Err(RegistrationError::Conflict {
        resource: format!("path {wanted}"),
        problem: format!(
            "is taken by api {}{owner}; choose another gateway path",
            holder.name
        ),
    })
}

/// Two reads, compared with what is desired. Over three rounds every resource has its turn.
async fn is_unchanged(
    client: &ArmClient,
    desired: &ServerRegistration,
    documents: &ServerDocuments,
    round: u64,
) -> Result<bool, ArmError> {
    let ids = &desired.ids;
    let same_policy = |found: Option<Found<Policy>>| {
        found.is_some_and(|found| policy::same_policy(&documents.policy, &found.properties.value))
    };
    match (round % 3, &documents.subscription) {
        (1, _) => {
            let resource = Resource::Backend(ids.backend_id.clone());
            let (backend, operations) =
                try_join!(client.get::<Backend>(&resource), read_operations(client, desired))?;
            Ok(
                backend.is_some_and(|found| documents.backend.difference(&found.properties).is_none())
                    && same_operations(documents, &operations),
            )
        }
        (2, Some(wanted)) => {
            let resource = Resource::Subscription(ids.subscription_id.clone());
            let (found, policy) = try_join!(
                client.get::<Subscription>(&resource),
                read_policy(client, desired)
            )?;
            Ok(
                found.is_some_and(|found| wanted.difference(&found.properties).is_none())
                    && same_policy(policy),
            )
        }
        _ => {
            let resource = Resource::Api(ids.api_id.clone());
            let (found, policy) = try_join!(client.get::<Api>(&resource), read_policy(client, desired))?;
            let same_api = found.is_some_and(|found| {
                let ours = super::mark::judge(found.properties.description.as_deref(), &desired.owner)
                    == Verdict::Ours;
                ours && documents.api.difference(&found.properties).is_none()
                    && !in_progress(found.properties.provisioning_state.as_deref())
            });
            Ok(same_api && same_policy(policy))
        }
    }
}

fn same_operations(documents: &ServerDocuments, found: &[Item<super::wire::Operation>]) -> bool {
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
