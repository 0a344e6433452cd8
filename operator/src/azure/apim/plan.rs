//! What to write so that API Management is as desired.
//! In: the documents and what was read; out: an ordered list of requests, or a conflict and no request. Pure.
//!
//! Order: backend, API, operations, policy, subscription. An API of ours has no serviceUrl, so until its policy
//! names the backend it answers an error, never an unprotected server.

use serde::Serialize;
use serde_json::Value;

use super::{
    document::{ServerDocuments, ServerIds},
    error::RegistrationError,
    mark::{self, Owner, Verdict},
    openapi::OPERATION_IDS,
    policy,
    request::{Found, Verb},
    target::Resource,
    wire::{Api, Backend, Envelope, Item, Operation, Policy, Subscription, same_scope},
};

/// What was read of one server.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    pub(crate) backend: Option<Found<Backend>>,
    pub(crate) api: Option<Found<Api>>,
    pub(crate) operations: Vec<Item<Operation>>,
    pub(crate) policy: Option<Found<Policy>>,
    pub(crate) subscription: Option<Found<Subscription>>,
}

/// Whose each resource is, as far as it exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ownership {
    pub(crate) backend: Verdict,
    pub(crate) api: Verdict,
    pub(crate) subscription: Verdict,
}

impl Observed {
    /// Judges the marks. People edit descriptions, and then a mark is lost; the resources that bear each other out
    /// make up for one: a marked backend that the API's policy routes to speaks for the API, and the other way
    /// round, and a subscription with our name and scope belongs to our API.
    pub(crate) fn ownership(&self, owner: &Owner, ids: &ServerIds) -> Ownership {
        let description = |text: &Option<String>| mark::judge(text.as_deref(), owner);
        let mut backend = self
            .backend
            .as_ref()
            .map_or(Verdict::Unmarked, |f| description(&f.properties.description));
        let mut api = self
            .api
            .as_ref()
            .map_or(Verdict::Unmarked, |f| description(&f.properties.description));
        let routed = self
            .policy
            .as_ref()
            .is_some_and(|found| policy::routes_to(&found.properties.value, &ids.backend_id));
        if routed && api == Verdict::Unmarked && backend.is_ours() {
            api = Verdict::Ours;
        } else if routed && backend == Verdict::Unmarked && api.is_ours() {
            backend = Verdict::Ours;
        }
        let mut subscription = self.subscription.as_ref().map_or(Verdict::Unmarked, |found| {
            mark::judge_label(found.properties.display_name.as_deref(), owner)
        });
        if let Some(found) = &self.subscription
            && subscription == Verdict::Unmarked
            && api.is_ours()
            && found
                .properties
                .scope
                .as_deref()
                .is_some_and(|scope| same_scope(&api_scope(ids), scope))
        {
            subscription = Verdict::Ours;
        }
        Ownership {
            backend,
            api,
            subscription,
        }
    }
}

fn api_scope(ids: &ServerIds) -> String {
    format!("/apis/{}", ids.api_id)
}

/// One request to come.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) verb: Verb,
    pub(crate) resource: Resource,
    pub(crate) if_match: Option<String>,
    pub(crate) body: Option<Value>,
    /// For logs and status, for example `backend (url)`.
    pub(crate) change: String,
}

impl Step {
    /// Creates, or replaces what has this ETag.
    pub(crate) fn put<T: Serialize>(resource: Resource, properties: T, if_match: Option<String>) -> Self {
        let body = json(properties);
        Self {
            verb: Verb::Put,
            change: resource.kind().to_owned(),
            resource,
            if_match,
            body: Some(body),
        }
    }

    /// Changes only the members given. The ETag is required by the service.
    pub(crate) fn patch<T: Serialize>(resource: Resource, properties: T, etag: Option<&String>) -> Self {
        let body = json(properties);
        let members = body["properties"]
            .as_object()
            .map(|members| members.keys().cloned().collect::<Vec<_>>());
        let change = format!("{} ({})", resource.kind(), members.unwrap_or_default().join(", "));
        Self {
            verb: Verb::Patch,
            resource,
            if_match: Some(matching(etag)),
            body: Some(body),
            change,
        }
    }

    pub(crate) fn delete(resource: Resource) -> Self {
        let change = format!("{} (deleted)", resource.kind());
        Self {
            verb: Verb::Delete,
            resource,
            if_match: Some("*".to_owned()),
            body: None,
            change,
        }
    }
}

fn matching(etag: Option<&String>) -> String {
    etag.cloned().unwrap_or_else(|| "*".to_owned())
}

/// Our wire types have only members that JSON can hold.
fn json<T: Serialize>(properties: T) -> Value {
    serde_json::to_value(Envelope { properties }).unwrap_or_default()
}

/// Refuses what is somebody else's.
pub(crate) fn check_ownership(
    observed: &Observed,
    ownership: &Ownership,
    ids: &ServerIds,
) -> Result<(), RegistrationError> {
    let checks = [
        (
            observed.backend.is_some(),
            &ownership.backend,
            Resource::Backend(ids.backend_id.clone()),
        ),
        (
            observed.api.is_some(),
            &ownership.api,
            Resource::Api(ids.api_id.clone()),
        ),
        (
            observed.subscription.is_some(),
            &ownership.subscription,
            Resource::Subscription(ids.subscription_id.clone()),
        ),
    ];
    for (exists, verdict, resource) in checks {
        if exists {
            check_verdict(verdict, &resource)?;
        }
    }
    Ok(())
}

pub(crate) fn check_verdict(verdict: &Verdict, resource: &Resource) -> Result<(), RegistrationError> {
    let problem = match verdict {
        Verdict::Ours | Verdict::OursFormerLife => return Ok(()),
        Verdict::Foreign(owner) => format!("belongs to {owner}; it is left alone"),
        Verdict::Unmarked => {
            "exists already and has no mark of this operator; it is left alone. Delete or rename it in API Management"
                .to_owned()
        }
    };
    Err(RegistrationError::Conflict {
        resource: resource.title(),
        problem,
    })
}

/// All writes that are due. `rekey` writes the probe's key even though nothing seems to differ.
pub(crate) fn plan(
    ids: &ServerIds,
    documents: &ServerDocuments,
    observed: &Observed,
    rekey: bool,
) -> Vec<Step> {
    let mut steps = vec![];
    plan_backend(&mut steps, ids, documents, observed);
    plan_api(&mut steps, ids, documents, observed);
    plan_policy(&mut steps, ids, documents, observed);
    plan_subscription(&mut steps, ids, documents, observed, rekey);
    steps
}

fn plan_backend(steps: &mut Vec<Step>, ids: &ServerIds, documents: &ServerDocuments, observed: &Observed) {
    let resource = Resource::Backend(ids.backend_id.clone());
    match &observed.backend {
        None => steps.push(Step::put(resource, &documents.backend, None)),
        Some(found) => {
            if let Some(difference) = documents.backend.difference(&found.properties) {
                steps.push(Step::patch(resource, difference, found.etag.as_ref()));
            }
        }
    }
}

fn plan_api(steps: &mut Vec<Step>, ids: &ServerIds, documents: &ServerDocuments, observed: &Observed) {
    let resource = Resource::Api(ids.api_id.clone());
    let Some(found) = &observed.api else {
        steps.push(Step::put(
            resource,
            documents.import(super::wire::OthersSettings::default()),
            None,
        ));
        return;
    };
    let operations = operation_steps(ids, documents, &observed.operations);
    let foreign = observed
        .operations
        .iter()
        .any(|operation| !OPERATION_IDS.contains(&operation.name.as_str()));
    // An import deletes operations that its document lacks, and costs a long operation: only where it saves writes.
    if operations.len() > 1 && !foreign {
        let import = documents.import(found.properties.others.sendable());
        let mut step = Step::put(resource, import, Some(matching(found.etag.as_ref())));
        "api (operations)".clone_into(&mut step.change);
        steps.push(step);
        return;
    }
    // The API's mark tells of the operations, so it comes after them. They may give the API another ETag.
    let etag = found.etag.as_ref().filter(|_| operations.is_empty());
    steps.extend(operations);
    if let Some(difference) = documents.api.difference(&found.properties) {
        steps.push(Step::patch(resource, difference, etag));
    }
}

/// The writes that bring the operations in line one by one. Operations of others are not touched.
fn operation_steps(ids: &ServerIds, documents: &ServerDocuments, found: &[Item<Operation>]) -> Vec<Step> {
    let resource = |id: &str| Resource::Operation(ids.api_id.clone(), id.to_owned());
    let mut steps = vec![];
    for obsolete in found {
        let name = obsolete.name.as_str();
        let wanted = documents.operations.iter().any(|operation| operation.id == name);
        // Before the new ones: two operations must not have one method and template.
        if OPERATION_IDS.contains(&name) && !wanted {
            steps.push(Step::delete(resource(name)));
        }
    }
    for operation in &documents.operations {
        let wire = operation.wire();
        match found.iter().find(|item| item.name == operation.id) {
            None => steps.push(Step::put(resource(operation.id), wire, None)),
            Some(item) => {
                if let Some(difference) = wire.difference(&item.properties) {
                    // Lists give no ETags.
                    steps.push(Step::patch(resource(operation.id), difference, None));
                }
            }
        }
    }
    steps
}

fn plan_policy(steps: &mut Vec<Step>, ids: &ServerIds, documents: &ServerDocuments, observed: &Observed) {
    let resource = Resource::ApiPolicy(ids.api_id.clone());
    let found = observed.policy.as_ref();
    if found.is_some_and(|found| policy::same_policy(&documents.policy, &found.properties.value)) {
        return;
    }
    let if_match = found.map(|found| matching(found.etag.as_ref()));
    steps.push(Step::put(resource, documents.policy_body(), if_match));
}

fn plan_subscription(
    steps: &mut Vec<Step>,
    ids: &ServerIds,
    documents: &ServerDocuments,
    observed: &Observed,
    rekey: bool,
) {
    let resource = Resource::Subscription(ids.subscription_id.clone());
    match (&documents.subscription, &observed.subscription) {
        (None, None) => {}
        (None, Some(_)) => steps.push(Step::delete(resource)),
        (Some(wanted), None) => steps.push(Step::put(resource, wanted, None)),
        (Some(wanted), Some(found)) => {
            let mut difference = wanted.difference(&found.properties);
            if rekey {
                difference
                    .get_or_insert_default()
                    .primary_key
                    .clone_from(&wanted.primary_key);
            }
            if let Some(difference) = difference {
                steps.push(Step::patch(resource, difference, found.etag.as_ref()));
            }
        }
    }
}
