//! Controller of McpAccess: who may call. The line, one file a step (P = pure and synchronous):
//!
//! load -> validate P -> revoke -> register -> secret -> status P -> requeue P; and for a deleted object: finalize.
//!
//! In: a McpAccess and the servers that it names or selects; out: a published product with their APIs and a subscription
//! in API Management, a Secret with the key, and status (conditions `Accepted`, `Registered` and `Ready`).
//!
//! `revoke` is first, in whatever state the rest is: consent is the border between two teams, and the party that it guards
//! against writes the McpAccess, its Secret and its annotations.
//!
//! Nothing is made before every named server consents, is registered, and all are on one gateway. Later, a server that
//! goes, or takes its consent back, is unlinked and the others stay; one that comes again is linked again.
//!
//! The Secret has `APIM_ENDPOINT` (the gateway's base URL), `APIM_SUBSCRIPTION_KEY`, one `<NAMESPACE>_<NAME>_URL` per
//! server (upper case, every other character an underscore), and all of it again as lines in `.env`. Which of the two keys
//! it holds follows from status (`rotate`).
//!
//! RBAC: `get`, `list`, `watch`, `patch` on mcpaccesses and `patch` on mcpaccesses/status; `list`, `watch` on mcpservers
//! and mcpgateways; `get`, `list`, `watch`, `create`, `patch`, `delete` on secrets; `create`, `patch` on
//! events.k8s.io events.

mod build;
mod claim;
mod compared;
mod consent;
mod error;
mod finalize;
mod hindrance;
mod load;
mod register;
mod requeue;
mod revoke;
mod rotate;
mod secret;
mod selector;
mod status;
#[cfg(test)]
mod tests;
mod triggers;
mod validate;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::{Api, ResourceExt as _};
use mcp_fleet_crds::{McpAccess, McpAccessStatus};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::azure::apim::Granted;
use crate::constants::kinds;
use crate::kube_write::{WriteError, apply_status};
use crate::runtime::context::{Context, ControllerState, Key};
use crate::runtime::controller;
use crate::runtime::events::Events;
use crate::runtime::metrics::PassOutcome;
use crate::runtime::queue::{Again, Priority};
use crate::runtime::telemetry::pass_span;
use compared::Comparisons;
use error::AccessError;
use load::Loaded;
use secret::Delivered;
use validate::Validated;

/// Everything that passes over accesses share.
#[derive(Debug)]
pub struct Controller {
    context: Arc<Context>,
    state: ControllerState,
    comparisons: Comparisons,
}

impl Controller {
    pub fn new(context: Arc<Context>, events: Events) -> Self {
        Self {
            context,
            state: ControllerState::new(kinds::ACCESS, events),
            comparisons: Comparisons::default(),
        }
    }
}

/// Runs the controller until `shutdown`.
pub async fn run(context: Arc<Context>, events: Events, concurrency: u16, shutdown: CancellationToken) {
    let triggers = triggers::all(&context.caches);
    let cache = context.caches.accesses.clone();
    let metrics = context.writer.metrics.clone();
    let shared = Arc::new(Controller::new(context, events));
    let gone = Arc::clone(&shared);
    let reconcile = |access, controller: Arc<Controller>| async move { reconcile(access, &controller).await };
    controller::run(
        cache,
        triggers,
        (&metrics, "access", concurrency),
        shared,
        shutdown,
        reconcile,
        move |key| {
            gone.state.backoff.forget(key);
            gone.comparisons.forget(key);
        },
    )
    .await;
}

/// One pass, from its span to the time of the next.
pub async fn reconcile(access: Arc<McpAccess>, controller: &Controller) -> Again {
    let span = pass_span(kinds::ACCESS, &*access, rand::random());
    async {
        let begin = Instant::now();
        let outcome = if access.metadata.deletion_timestamp.is_some() {
            finalize::finalize(&access, controller).await
        } else {
            pass(&access, controller).await
        };
        conclude(&access, controller, outcome, begin.elapsed())
    }
    .instrument(span)
    .await
}

/// How a pass ended: the error that it met, if any, and whether another try is due although there was none.
enum Outcome {
    /// With the time that is left until a former key ends.
    Settled(Option<Duration>),
    /// What is waited for is told to nobody, so it is looked at again.
    Again(&'static str),
    Failed(AccessError),
    /// The same of an object that is being deleted.
    Undeleted(AccessError),
}

/// What the steps of a pass came to, as far as they came.
#[derive(Debug, Default)]
struct Work {
    /// APIs that are linked, where the access was registered before this pass.
    linked: Option<Vec<String>>,
    granted: Option<Granted>,
    delivered: Option<Delivered>,
    /// One does not hide another: taking away and handing over fail apart.
    errors: Vec<AccessError>,
}

async fn pass(access: &McpAccess, controller: &Controller) -> Outcome {
    let context = &controller.context;
    let loaded = load::load(&context.caches, access);
    let validated = validate::validate(access, &loaded);
    let mut work = Work::default();
    let limit = context.settings.pass_limit;
    let steps = steps(access, controller, &loaded, &validated, &mut work);
    let seconds = limit.as_secs();
    let ended = tokio::time::timeout(limit, steps).await;
    if let Err(error) = ended.unwrap_or(Err(AccessError::Timeout { seconds })) {
        work.errors.push(error);
    }
    let now = Timestamp::now();
    let status = status::status(access, &loaded, &validated, &work, now);
    let written = write(access, controller, &status).await;
    if let Some(news) = work
        .delivered
        .as_ref()
        .and_then(|delivered| delivered.news.as_ref())
    {
        controller.state.events.tell(access, news).await;
    }
    if let Some(error) = work.errors.into_iter().next() {
        return Outcome::Failed(error);
    }
    if let Err(source) = written {
        return Outcome::Failed(AccessError::Status { source });
    }
    let is_missing = work.granted.is_some_and(|granted| !granted.missing.is_empty());
    match work.delivered {
        _ if is_missing => Outcome::Again("ApiMissing"),
        Some(delivered) if delivered.more => Outcome::Again("RotationPending"),
        _ => Outcome::Settled(rotate::until_end(status.key.as_ref(), now)),
    }
}

/// The steps that talk to others. Taking away is done before anything can end them.
async fn steps(
    access: &McpAccess,
    controller: &Controller,
    loaded: &Loaded,
    validated: &Validated,
    work: &mut Work,
) -> Result<(), AccessError> {
    let context = &controller.context;
    let mut left = Vec::new();
    for one in revoke::revoke(access, context, loaded).await {
        match one {
            Ok(one) => left.push(one),
            Err(error) => work.errors.push(error),
        }
    }
    let first = loaded.places.first();
    work.linked = first
        .and_then(|place| left.iter().find(|left| left.gateway == place.gateway))
        .map(|left| left.revoked.linked.clone());
    let Some(gateway) = &validated.gateway else {
        return Ok(());
    };
    // A Secret of somebody else's stops the rest before anything is made.
    let present = secret::look(access, context).await?;
    if !work.errors.is_empty() {
        return Ok(());
    }
    let (clients, granted) = register::register(access, controller, loaded, validated, gateway, left).await?;
    let granted = &*work.granted.insert(granted);
    let (wanted, given) = ((gateway, validated), (&clients, granted));
    let delivered = secret::deliver(access, controller, wanted, given, present, Timestamp::now()).await?;
    work.delivered = Some(delivered);
    Ok(())
}

async fn write(
    access: &McpAccess,
    controller: &Controller,
    status: &McpAccessStatus,
) -> Result<(), WriteError> {
    let context = &controller.context;
    let api = api(access, context);
    let previous = access.status.clone().unwrap_or_default();
    let same = status::same(&previous, status);
    // The claim may have changed the object during this pass.
    let replaced = cached_version(access, context);
    if apply_status(&context.writer, &api, access, status, same).await? {
        controller
            .state
            .events
            .publish_transitions(access, &previous.conditions, &status.conditions)
            .await;
        catch_up(access, context, replaced).await;
    }
    Ok(())
}

fn api(access: &McpAccess, context: &Context) -> Api<McpAccess> {
    Api::namespaced(
        context.writer.client.clone(),
        &access.namespace().unwrap_or_default(),
    )
}

fn cached_version(access: &McpAccess, context: &Context) -> Option<String> {
    let cached = context
        .caches
        .accesses
        .get(access.namespace().as_deref(), &access.name_any());
    cached.and_then(|cached| cached.resource_version())
}

/// Waits until the cache shows more than the version that a write has replaced.
async fn catch_up(access: &McpAccess, context: &Context, replaced: Option<String>) {
    let (namespace, limit) = (access.namespace(), context.settings.catch_up);
    context
        .caches
        .accesses
        .catch_up(
            namespace.as_deref(),
            &access.name_any(),
            replaced.as_deref(),
            limit,
        )
        .await;
}

/// Counts the pass and turns its end into the next one's time.
fn conclude(access: &McpAccess, controller: &Controller, outcome: Outcome, took: Duration) -> Again {
    let key: Key = (access.namespace(), access.name_any());
    let Controller { context, state, .. } = controller;
    let (next, word, reason) = match outcome {
        Outcome::Settled(until_end) => {
            state.backoff.forget(&key);
            (
                requeue::settled(access, context.settings.drift, rand::random(), until_end),
                PassOutcome::Ok,
                "",
            )
        }
        Outcome::Again(reason) => (
            state
                .backoff
                .failed(key, crate::runtime::backoff::Retry::Fast, rand::random()),
            PassOutcome::Ok,
            reason,
        ),
        Outcome::Failed(error) => {
            tracing::warn!(%error, reason = error.reason(), "the pass failed");
            (
                state.backoff.failed(key, error.retry(), rand::random()),
                PassOutcome::Failed,
                error.reason(),
            )
        }
        Outcome::Undeleted(error) => {
            tracing::warn!(%error, reason = error.reason(), "the deletion waits");
            let retry = error.retry().in_deletion();
            (
                state.backoff.failed(key, retry, rand::random()),
                PassOutcome::Failed,
                error.reason(),
            )
        }
    };
    context.writer.metrics.reconciled(state.kind, word, reason, took);
    context
        .writer
        .metrics
        .set_in_backoff(state.kind, state.backoff.len());
    next.map_or(Again::WhenAsked, |wait| Again::After(wait, Priority::Repair))
}
