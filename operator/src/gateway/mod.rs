//! Controller of McpGateway: is the API Management service there, under which URL and addresses, and who uses it.
//! The line, one file a step (P = pure and synchronous):
//!
//! load -> validate P -> claim -> check (with probe) -> status P -> requeue P; and for a deleted object: finalize.
//!
//! In: a McpGateway; out: its status (conditions `Accepted`, `Available` and `Ready`, URL, tier, addresses, number of
//! servers) and Events. The service is read every five minutes, which is also how a changed address is noticed, and not
//! with every pass: passes come with every server that begins or ends to use the gateway.
//!
//! With `probe: AllApis` the gateway has one thing of its own in the service, the probe's subscription; condition
//! `Registered` tells of it. It is looked at with each check, written anew when a server tells that its key is refused,
//! and goes with the mode or with the gateway.
//!
//! As soon as a server demands it, the gateway has a secret, which its policies send: a named value. See `secret`.
//!
//! Whether we may write is not asked beforehand: what Azure would answer (`Microsoft.Authorization/permissions`) is a
//! list of wildcards to be matched here as Azure does there. A missing role shows as `Forbidden` on the first server.
//!
//! Two gateways that are both marked as default are both `Accepted=False`, reason `TwoDefaults`; servers that name one
//! of them go on.
//!
//! RBAC: `get`, `list`, `watch`, `patch` on mcpgateways and `patch` on mcpgateways/status; `list`, `watch` on mcpservers
//! and mcpaccesses; `create`, `patch` on events.k8s.io events.

mod check;
mod claim;
mod default;
mod finalize;
mod load;
mod probe;
mod requeue;
mod secret;
mod status;
#[cfg(test)]
mod tests;
mod triggers;
mod validate;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::{Api, ResourceExt as _};
use mcp_fleet_crds::McpGateway;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use self::claim::Claim;
pub use self::default::{defaults, is_default};
use self::probe::Probe;
pub use self::probe::probe_key;
use crate::constants::kinds;
use crate::gateway::check::Check;
use crate::kube_write::{WriteError, apply_status, set_claim};
use crate::runtime::context::{Context, ControllerState};
use crate::runtime::controller;
use crate::runtime::events::Events;
use crate::runtime::metrics::PassOutcome;
use crate::runtime::queue::{Again, Priority};
use crate::runtime::telemetry::pass_span;

/// Everything that passes over gateways share.
#[derive(Debug)]
pub struct Controller {
    context: Arc<Context>,
    state: ControllerState,
    checks: Mutex<HashMap<String, Check>>,
}

impl Controller {
    pub fn new(context: Arc<Context>, events: Events) -> Self {
        Self {
            context,
            state: ControllerState::new(kinds::GATEWAY, events),
            checks: Mutex::default(),
        }
    }

    fn remembered(&self, name: &str) -> Option<Check> {
        self.checks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    fn remember(&self, name: &str, check: Check) {
        self.checks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned(), check);
    }

    /// A gateway that is gone leaves nothing behind in memory.
    fn forget(&self, name: &str) {
        self.context.arm.forget(name);
        self.state.backoff.forget(&(None, name.to_owned()));
        self.checks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
    }
}

/// Runs the controller until `shutdown`.
pub async fn run(context: Arc<Context>, events: Events, concurrency: u16, shutdown: CancellationToken) {
    let triggers = triggers::all(&context.caches);
    let cache = context.caches.gateways.clone();
    let metrics = context.writer.metrics.clone();
    let shared = Arc::new(Controller::new(context, events));
    let gone = Arc::clone(&shared);
    let reconcile =
        |gateway, controller: Arc<Controller>| async move { reconcile(gateway, &controller).await };
    controller::run(
        cache,
        triggers,
        (&metrics, "gateway", concurrency),
        shared,
        shutdown,
        reconcile,
        move |(_, name)| gone.forget(name),
    )
    .await;
}

/// One pass, from its span to the time of the next.
pub async fn reconcile(gateway: Arc<McpGateway>, controller: &Controller) -> Again {
    let span = pass_span(kinds::GATEWAY, &*gateway, rand::random());
    async {
        let begin = Instant::now();
        let result = if gateway.metadata.deletion_timestamp.is_some() {
            finalize::finalize(&gateway, controller).await
        } else {
            pass(&gateway, controller).await
        };
        conclude(&gateway, controller, result, begin.elapsed())
    }
    .instrument(span)
    .await
}

/// What a pass found: when to come back, and the reason if something is wrong.
struct Outcome {
    next: Option<Duration>,
    reason: Option<String>,
}

async fn pass(gateway: &McpGateway, controller: &Controller) -> Result<Outcome, WriteError> {
    let context = &controller.context;
    let loaded = load::load(&context.caches, gateway);
    let accepted = validate::validate(gateway, &loaded, &context.arm);
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
    let plan = secret::plan(gateway, &loaded.accepted, now);
    let check = match &accepted.clients {
        Some(clients) => {
            let (claimed, value) = (
                probe::claimed(gateway),
                secret::claimed(gateway, &loaded.accepted),
            );
            hold(gateway, controller, claimed.clone(), value.clone()).await?;
            let check = check::check(gateway, controller, clients, &loaded, &plan).await;
            if claimed.is_some() && check.probe == Ok(Probe::Unwanted) {
                hold(gateway, controller, None, value).await?;
            }
            Some(check)
        }
        None => None,
    };
    let mut status = status::status(gateway, &loaded, &accepted, check.as_ref(), Timestamp::now());
    let number = check
        .as_ref()
        .and_then(|check| check.secret.clone().ok().flatten());
    status.secret = plan.status(gateway, number);
    let rotates = status
        .secret
        .as_ref()
        .is_some_and(|secret| secret.other.is_some());
    write(gateway, controller, &status).await?;
    Ok(Outcome {
        next: requeue::next(check.as_ref(), rotates, Instant::now()),
        reason: status::trouble(&status.conditions),
    })
}

/// The finalizer comes before anybody can use the gateway: what is registered through it can be removed only with it.
/// The claim names the probe's subscription and the secret's named value while there may be one.
async fn hold(
    gateway: &McpGateway,
    controller: &Controller,
    probe: Option<String>,
    secret: Option<String>,
) -> Result<(), WriteError> {
    let writer = &controller.context.writer;
    let api = Api::<McpGateway>::all(writer.client.clone());
    let claim = Claim::new(gateway, probe, secret).text();
    if set_claim(writer, &api, gateway, &claim).await?.is_some() {
        catch_up(gateway, controller, gateway.resource_version()).await;
    }
    Ok(())
}

async fn write(
    gateway: &McpGateway,
    controller: &Controller,
    status: &mcp_fleet_crds::McpGatewayStatus,
) -> Result<(), WriteError> {
    let writer = &controller.context.writer;
    let api = Api::<McpGateway>::all(writer.client.clone());
    let previous = gateway.status.clone().unwrap_or_default();
    let same = status::same(&previous, status);
    // The claim may have changed the object during this pass.
    let cached = controller.context.caches.gateways.get(None, &gateway.name_any());
    let replaced = cached.and_then(|cached| cached.resource_version());
    if apply_status(writer, &api, gateway, status, same).await? {
        controller
            .state
            .events
            .publish_transitions(gateway, &previous.conditions, &status.conditions)
            .await;
        catch_up(gateway, controller, replaced).await;
    }
    Ok(())
}

/// Waits until the cache shows more than the version that a write has replaced.
async fn catch_up(gateway: &McpGateway, controller: &Controller, replaced: Option<String>) {
    let (caches, limit) = (&controller.context.caches, controller.context.settings.catch_up);
    caches
        .gateways
        .catch_up(None, &gateway.name_any(), replaced.as_deref(), limit)
        .await;
}

/// Counts the pass and turns its end into the next one's time.
fn conclude(
    gateway: &McpGateway,
    controller: &Controller,
    result: Result<Outcome, WriteError>,
    took: Duration,
) -> Again {
    let key = (None, gateway.name_any());
    let state = &controller.state;
    let metrics = &controller.context.writer.metrics;
    let (next, outcome, reason) = match result {
        Ok(Outcome { next, reason: None }) => {
            state.backoff.forget(&key);
            (next, PassOutcome::Ok, String::new())
        }
        Ok(Outcome {
            next,
            reason: Some(reason),
        }) => (next, PassOutcome::Failed, reason),
        Err(error) => {
            tracing::warn!(%error, "the pass ended early");
            (
                state.backoff.failed(key, error.retry(), rand::random()),
                PassOutcome::Failed,
                error.reason().to_owned(),
            )
        }
    };
    metrics.reconciled(state.kind, outcome, &reason, took);
    metrics.set_in_backoff(state.kind, state.backoff.len());
    next.map_or(Again::WhenAsked, |wait| Again::After(wait, Priority::Repair))
}
