//! Controller of McpServer. The line, one file a step (P = pure and synchronous):
//!
//! load -> validate P -> build P -> apply -> observe P -> register -> verify -> status P -> requeue P
//!
//! and for a deleted object: deregister. In: an McpServer; out: its children, its registration in a gateway, its
//! status and Events. Status is written and the next pass is planned also after an error.

pub mod apply;
mod apply_extra;
mod authority;
pub mod build;
pub mod claim;
pub mod deregister;
pub mod door;
pub mod error;
pub mod load;
pub mod memory;
pub mod observe;
pub mod references;
pub mod register;
pub mod requeue;
pub mod status;
#[cfg(test)]
mod tests;
mod triggers;
pub mod validate;
pub mod verify;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt as _};
use mcp_fleet_crds::{McpServer, McpServerStatus};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use self::error::{InvalidServer, PassError};
use self::memory::{Memories, Memory};
use self::observe::Observed;
use self::register::Progress;
use self::requeue::Next;
use self::status::News;
use self::validate::{Plan, Valid};
use self::verify::Verification;
use crate::condition::{self, types};
use crate::constants::kinds;
use crate::kube_write::{WriteError, apply_status};
use crate::runtime::backoff::{Retry, spread};
use crate::runtime::context::{Context, ControllerState, Key};
use crate::runtime::controller;
use crate::runtime::events::Events;
use crate::runtime::metrics::PassOutcome;
use crate::runtime::telemetry::pass_span;

/// A look is repeated when this part of the drift period is over: passes come up to a quarter early.
const LOOK_HOLDS: f64 = 0.7;
/// What goes on for longer than this is told, although it will pass.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that passes over servers share.
#[derive(Debug)]
pub struct Controller {
    context: Arc<Context>,
    state: ControllerState,
    memories: Memories,
}

impl Controller {
    pub fn new(context: Arc<Context>, events: Events) -> Self {
        Self {
            context,
            state: ControllerState::new(kinds::SERVER, events),
            memories: Memories::default(),
        }
    }

    fn forget(&self, key: &Key) {
        let (namespace, name) = key;
        self.context
            .configs
            .forget(namespace.as_deref().unwrap_or_default(), name);
        self.state.backoff.forget(key);
        self.memories.forget(key);
    }
}

/// What a pass found, as far as it came.
#[derive(Debug, Default)]
pub struct Report {
    pub valid: Option<Valid>,
    pub observed: Option<Observed>,
    pub progress: Option<Progress>,
    pub verification: Option<Verification>,
    pub error: Option<PassError>,
    pub written: Written,
    /// The status that was written in the middle of the pass.
    pub announced: Option<McpServerStatus>,
    pub registration: Knowledge,
}

/// What is known of the registration when the service gives no answer about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Knowledge {
    /// Just what is asked for now was there at the last look.
    Same,
    /// This process has not asked yet: what status says is the best there is.
    Inherited,
    /// Something else is asked for than was there at the last look.
    #[default]
    Changing,
}

impl Report {
    /// What of the spec is refused.
    pub fn refusals(&self) -> Vec<&InvalidServer> {
        self.valid.as_ref().map(Valid::refusals).unwrap_or_default()
    }
}

/// What a pass has written to Kubernetes; of children, with the version that was replaced.
#[derive(Debug, Default)]
pub struct Written {
    pub status: bool,
    pub deployment: Option<Replaced>,
    pub service: Option<Replaced>,
    pub replica_key: bool,
}

/// The version of a child before it was written; None for one that was not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced(pub Option<String>);

/// Runs the controller until `shutdown`.
pub async fn run(context: Arc<Context>, events: Events, concurrency: u16, shutdown: CancellationToken) {
    let cache = context.caches.servers.clone();
    let triggers = triggers::all(&context);
    let shared = Arc::new(Controller::new(context, events));
    let gone = Arc::clone(&shared);
    let reconcile = |server, controller: Arc<Controller>| async move { reconcile(server, &controller).await };
    controller::run(
        cache,
        triggers,
        concurrency,
        shared,
        shutdown,
        reconcile,
        move |reference| {
            gone.forget(&(reference.namespace.clone(), reference.name.clone()));
        },
    )
    .await;
}

/// One pass, from its span to the time of the next.
pub async fn reconcile(server: Arc<McpServer>, controller: &Controller) -> Action {
    let span = pass_span(kinds::SERVER, &*server, rand::random());
    async {
        if server.metadata.deletion_timestamp.is_some() {
            delete(&server, controller).await
        } else {
            keep(&server, controller).await
        }
    }
    .instrument(span)
    .await
}

/// The line.
async fn line(
    server: &McpServer,
    controller: &Controller,
    memory: &mut Memory,
    report: &mut Report,
) -> Result<(), PassError> {
    let context = &controller.context;
    let previous = server.status.clone().unwrap_or_default();
    let hold = context.settings.drift.mul_f64(LOOK_HOLDS);

    let loaded = load::load(context, server).await.map_err(PassError::Load)?;
    let valid = validate::validate(server, &loaded, &context.settings).map_err(PassError::Invalid)?;
    let valid = report.valid.insert(valid);
    let desired = build::build(valid, apply::replicas(&loaded));
    // On the heap, as the two below: the state of these calls is large, and most of a pass does without it.
    let apply = apply::apply(
        &context.writer,
        valid,
        &context.probe_keys,
        desired,
        &loaded,
        &mut report.written,
    );
    let applied = Box::pin(apply).await.map_err(PassError::Apply)?;
    let observed = report
        .observed
        .insert(observe::observe(valid, &applied, &loaded.pods));
    if previous.observed_generation != server.metadata.generation {
        report.announced = announce(server, controller, &previous, valid, observed).await;
        report.written.status = report.announced.is_some();
    }
    let progress = Box::pin(register::register(context, server, valid, observed, memory, hold)).await;
    let progress = report.progress.insert(progress.map_err(PassError::Register)?);
    let verification = Box::pin(verify::verify(context, valid, observed, progress, memory, hold)).await;
    report.verification = Some(verification.map_err(PassError::Verify)?);
    Ok(())
}

/// Tells of a new spec before anything that takes time: until it has taken over, nobody is to believe that it has.
async fn announce(
    server: &McpServer,
    controller: &Controller,
    previous: &McpServerStatus,
    valid: &Valid,
    observed: &Observed,
) -> Option<McpServerStatus> {
    // Nothing takes time before there is somebody to register, and the end of the pass tells it all. A claim that is
    // still to be made is made of the object as it is: a write in between would have it refused.
    let claimed =
        claim::Claim::of(server).is_some() || matches!(valid.registration, Ok(Plan::Unregistered { .. }));
    if !claimed || !observed.is_available() {
        return None;
    }
    let report = Report {
        valid: Some(valid.clone()),
        observed: Some(observed.clone()),
        ..Report::default()
    };
    let generation = server.metadata.generation.unwrap_or(0);
    let status = status::status(previous, generation, &report, now());
    let told = tell(server, controller, previous, &status, false).await;
    told.unwrap_or(false).then_some(status)
}

/// A pass over a server that is to be: the line, then status and requeue, whatever came of it.
async fn keep(server: &McpServer, controller: &Controller) -> Action {
    let begin = Instant::now();
    let key = key(server);
    let limit = controller.context.settings.pass_limit;
    let mut memory = controller
        .memories
        .recall(&key, &server.uid().unwrap_or_default());
    let mut report = Report::default();
    let line = Box::pin(line(server, controller, &mut memory, &mut report));
    let result = tokio::time::timeout(limit, line).await;
    report.error = result
        .unwrap_or(Err(PassError::Timeout {
            seconds: limit.as_secs(),
        }))
        .err();
    report.registration = match (&memory.registered, memory.asked) {
        (Some(_), _) => Knowledge::Same,
        (None, false) => Knowledge::Inherited,
        (None, true) => Knowledge::Changing,
    };

    let previous = report.announced.take().or_else(|| server.status.clone());
    let (previous, now) = (previous.unwrap_or_default(), now());
    let status = status::status(&previous, server.metadata.generation.unwrap_or(0), &report, now);
    if requeue::is_held_back(&report, &previous, &status, memory.held) {
        memory.held += 1;
        controller.memories.keep(key, memory);
        catch_up(server, controller, &previous, &report.written).await;
        let reason = report.error.as_ref().map_or("", PassError::reason);
        controller.context.writer.metrics.reconciled(
            kinds::SERVER,
            PassOutcome::Held,
            reason,
            begin.elapsed(),
        );
        return Action::requeue(requeue::HELD_BACK);
    }
    let settled = report.observed.as_ref().is_none_or(|observed| observed.settled);
    let news = status::news(&previous, &status, settled);
    let quiet = match news {
        News::Nothing => true,
        News::Lasting => false,
        News::Passing => memory.passing.get_or_insert_with(Instant::now).elapsed() < PATIENCE,
    };
    let told = tell(server, controller, &previous, &status, quiet).await;
    report.written.status |= *told.as_ref().unwrap_or(&false);
    memory.held = 0;
    if news == News::Nothing || !quiet {
        memory.passing = None;
    }
    if news == News::Nothing || matches!(told, Ok(true)) {
        memory.untold = None;
    }
    controller.memories.keep(key, memory);
    let shown = if matches!(told, Ok(true)) {
        &status
    } else {
        &previous
    };
    catch_up(server, controller, shown, &report.written).await;
    let waiting = condition::find(&status.conditions, types::AVAILABLE).map_or(Duration::ZERO, |condition| {
        now.duration_since(condition.last_transition_time.0)
            .unsigned_abs()
    });
    let (failure, next) = match (&report.error, &told) {
        // Nobody has heard of this pass, so it must not be the last one for a while.
        (None, Err(error)) => (Some(Failure::to_tell(error)), Next::Backoff(error.retry())),
        (Some(error), _) => (Some(Failure::of(error)), requeue::next(&report, waiting)),
        (None, _) => {
            let refusal = report
                .refusals()
                .first()
                .map(|refusal| Failure::of_refusal(refusal));
            (refusal, requeue::next(&report, waiting))
        }
    };
    conclude(server, controller, failure, next, begin)
}

/// A pass over a server that is being deleted.
async fn delete(server: &McpServer, controller: &Controller) -> Action {
    let begin = Instant::now();
    let context = &controller.context;
    let limit = context.settings.pass_limit;
    let line = Box::pin(deregister::deregister(context, server));
    let Ok(deletion) = tokio::time::timeout(limit, line).await else {
        // Status keeps what it said; the next pass takes up what this one left.
        let timeout = PassError::Timeout {
            seconds: limit.as_secs(),
        };
        return conclude(
            server,
            controller,
            Some(Failure::of(&timeout)),
            Next::Backoff(Retry::Fast),
            begin,
        );
    };
    if let Ok(deregister::Deletion::Done) = deletion {
        controller.forget(&key(server));
        return conclude(server, controller, None, Next::Drift, begin);
    }
    let previous = server.status.clone().unwrap_or_default();
    let generation = server.metadata.generation.unwrap_or(0);
    let status = status::deleting(&previous, generation, &deletion, now());
    let same = status::news(&previous, &status, true) == News::Nothing;
    // A deletion that is not done comes back soon anyway.
    let told = tell(server, controller, &previous, &status, same).await;
    let written = told.unwrap_or(false);
    catch_up(
        server,
        controller,
        &status,
        &Written {
            status: written,
            ..Written::default()
        },
    )
    .await;
    let (failure, next) = match &deletion {
        Err(error) => (
            Some(Failure {
                reason: error.reason(),
                error: error.to_string(),
            }),
            // The object will not change any more; what it waits for may.
            Next::Backoff(error.retry().in_deletion()),
        ),
        Ok(_) => (None, Next::After(Duration::from_secs(2))),
    };
    conclude(server, controller, failure, next, begin)
}

/// Writes status if it says anything new, and then Events. Whether it was written.
async fn tell(
    server: &McpServer,
    controller: &Controller,
    previous: &McpServerStatus,
    status: &McpServerStatus,
    same: bool,
) -> Result<bool, WriteError> {
    let writer = &controller.context.writer;
    let api = Api::<McpServer>::namespaced(writer.client.clone(), &server.namespace().unwrap_or_default());
    let written = apply_status(writer, &api, server, status, same)
        .await
        .inspect_err(|error| tracing::warn!(%error, "failed to write status"))?;
    if written {
        let events = &controller.state.events;
        events
            .publish_transitions(server, &previous.conditions, &status.conditions)
            .await;
    }
    Ok(written)
}

/// Waits until the caches show what this pass has written: the next one must not judge by what is gone.
async fn catch_up(server: &McpServer, controller: &Controller, status: &McpServerStatus, written: &Written) {
    let Context { caches, settings, .. } = &*controller.context;
    let (namespace, name, limit) = (server.namespace(), server.name_any(), settings.catch_up);
    let namespace = namespace.as_deref();
    let Written {
        status: status_written,
        deployment,
        service,
        replica_key,
    } = written;
    if *status_written {
        let shown = |cached: Option<&McpServer>| {
            cached.is_none_or(|cached| cached.uid() != server.uid() || cached.status.as_ref() == Some(status))
        };
        caches.servers.wait_for(namespace, &name, shown, limit).await;
    }
    if let Some(Replaced(before)) = deployment {
        caches
            .deployments
            .wait_for(namespace, &name, |now| version(now) != *before, limit)
            .await;
    }
    if let Some(Replaced(before)) = service {
        caches
            .services
            .wait_for(namespace, &name, |now| version(now) != *before, limit)
            .await;
    }
    if *replica_key {
        let name = build::names::replica_key(&name);
        caches
            .secrets
            .wait_for(namespace, &name, |now| now.is_some(), limit)
            .await;
    }
}

fn version<K: kube::Resource>(object: Option<&K>) -> Option<String> {
    object.and_then(kube::ResourceExt::resource_version)
}

/// Why a pass failed, for the log and the metrics.
struct Failure {
    reason: &'static str,
    error: String,
}

impl Failure {
    fn of(error: &PassError) -> Self {
        Self {
            reason: error.reason(),
            error: error.to_string(),
        }
    }

    fn of_refusal(refusal: &InvalidServer) -> Self {
        Self {
            reason: refusal.reason(),
            error: refusal.to_string(),
        }
    }

    fn to_tell(error: &WriteError) -> Self {
        Self {
            reason: error.reason(),
            error: error.to_string(),
        }
    }
}

/// Logs and counts the pass, and turns its end into the time of the next.
fn conclude(
    server: &McpServer,
    controller: &Controller,
    failure: Option<Failure>,
    next: Next,
    begin: Instant,
) -> Action {
    let (state, settings) = (&controller.state, &controller.context.settings);
    let metrics = &controller.context.writer.metrics;
    let took = begin.elapsed();
    if let Some(Failure { reason, error }) = failure {
        tracing::warn!(reason, error, milliseconds = took.as_millis(), "the pass failed");
        metrics.reconciled(state.kind, PassOutcome::Failed, reason, took);
    } else {
        tracing::debug!(milliseconds = took.as_millis(), "the pass is done");
        metrics.reconciled(state.kind, PassOutcome::Ok, "", took);
        state.backoff.forget(&key(server));
    }
    let wait = match next {
        Next::After(wait) => Some(wait),
        Next::Drift => Some(spread(settings.drift, rand::random())),
        Next::Backoff(retry) => state.backoff.failed(key(server), retry, rand::random()),
    };
    metrics.set_in_backoff(state.kind, state.backoff.len());
    wait.map_or_else(Action::await_change, Action::requeue)
}

/// In whole seconds, as Kubernetes stores times: what is written and what is read back must be equal.
fn now() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default()
}

fn key(server: &McpServer) -> Key {
    (server.namespace(), server.name_any())
}
