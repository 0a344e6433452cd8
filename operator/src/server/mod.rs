//! Controller of McpServer. Its workload lane, one file a step (P = pure and synchronous):
//!
//! load -> validate P -> build P -> apply -> observe P -> (register, verify) -> status P -> requeue P
//!
//! It asks nobody but Kubernetes: what is to be registered and verified it hands to two other lanes, and reads what they
//! last found (`lanes.rs`; their work is in `work.rs`). A deleted object goes to the registration lane. In: an McpServer;
//! out: its children, its registration in a gateway, its status and Events. Status is written and the next pass is planned
//! also after an error.

pub mod apply;
mod apply_extra;
mod authority;
pub mod build;
pub mod claim;
pub mod deregister;
pub mod door;
pub mod error;
pub mod lanes;
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
mod work;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use jiff::Timestamp;
use kube::{Api, ResourceExt as _};
use mcp_fleet_crds::{McpServer, McpServerStatus};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use self::deregister::Deletion;
use self::error::{InvalidServer, PassError, RegisterError};
use self::lanes::{Proving, Registering, ask};
use self::observe::Observed;
use self::register::{Done, Progress, Registered, Wish, was_judged};
use self::requeue::Next;
use self::status::News;
use self::validate::Valid;
use self::verify::{Sight, Verification};
use crate::condition::{self, is_true, types};
use crate::constants::kinds;
use crate::kube_write::{WriteError, apply_status};
use crate::runtime::backoff::spread;
use crate::runtime::context::{Context, ControllerState, Key};
use crate::runtime::controller::{feed, key_of};
use crate::runtime::events::Events;
use crate::runtime::metrics::PassOutcome;
use crate::runtime::queue::{Again, Priority, work};
use crate::runtime::telemetry::pass_span;

/// A look is repeated when this part of the drift period is over: passes come up to a quarter early.
const LOOK_HOLDS: f64 = 0.7;

/// Everything that passes over servers share.
#[derive(Debug)]
pub struct Controller {
    context: Arc<Context>,
    state: ControllerState,
}

impl Controller {
    pub fn new(context: Arc<Context>, events: Events) -> Self {
        Self {
            context,
            state: ControllerState::new(kinds::SERVER, events),
        }
    }

    fn forget(&self, key: &Key) {
        let (namespace, name) = key;
        self.context
            .configs
            .forget(namespace.as_deref().unwrap_or_default(), name);
        self.state.backoff.forget(key);
        self.context.lanes.forget(key);
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
    pub registration: Knowledge,
    /// What the verification was read from.
    pub sight: Option<Arc<Sight>>,
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

/// Runs the three lanes until `shutdown`.
pub async fn run(context: Arc<Context>, events: Events, shutdown: CancellationToken) {
    let lanes = Arc::clone(&context.lanes);
    let triggers = triggers::all(&context).map(|(key, priority)| {
        let ask = ask(&key, priority, "");
        (key, ask)
    });
    let controller = Arc::new(Controller::new(context, events));
    let [pass, registration, proof] = std::array::from_fn(|_| Arc::clone(&controller));
    tokio::join!(
        feed(&lanes.workload, triggers, shutdown.clone()),
        work(Arc::clone(&lanes.workload), shutdown.clone(), move |key| {
            work::pass(key, Arc::clone(&pass))
        }),
        work(Arc::clone(&lanes.registration), shutdown.clone(), move |key| {
            work::registration(key, Arc::clone(&registration))
        }),
        work(Arc::clone(&lanes.proof), shutdown.clone(), move |key| {
            work::proof(key, Arc::clone(&proof))
        }),
    );
}

/// One pass, from its span to the time of the next.
pub async fn reconcile(server: Arc<McpServer>, controller: &Controller) -> Again {
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
async fn line(server: &McpServer, controller: &Controller, report: &mut Report) -> Result<(), PassError> {
    let context = &controller.context;
    let loaded = load::load(context, server).await.map_err(PassError::Load)?;
    let valid = validate::validate(server, &loaded, &context.settings).map_err(PassError::Invalid)?;
    let valid = report.valid.insert(valid);
    let desired = build::build(valid, apply::replicas(&loaded));
    // On the heap: the state of this call is large, and most of a pass does without it.
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
    let (progress, stands) = register(context, server, valid, observed);
    let progress = report.progress.insert(progress);
    let (verification, sight) = verify(context, server, valid, observed, progress, stands.as_ref());
    report.verification = Some(verification);
    report.sight = sight;
    Ok(())
}

/// Hands the registration over, and reads how far it is. With what is registered as far as anybody knows.
fn register(
    context: &Context,
    server: &McpServer,
    valid: &Valid,
    observed: &Observed,
) -> (Progress, Option<Registered>) {
    let (lanes, key, uid) = (&context.lanes, key_of(server), &valid.identity.uid);
    let wish = match register::course(context, server, valid, observed) {
        Ok(register::Course::Ask(wish)) => wish,
        Ok(register::Course::Settled(progress)) => {
            lanes.no_registration(&key, uid);
            return (progress, None);
        }
        Err(error) => {
            lanes.no_registration(&key, uid);
            return (Progress::Failed(Arc::new(error)), None);
        }
    };
    let told = wish.is_told(server);
    let (registered, after) = match &wish {
        Wish::Register(wanted) => (Some(wanted.registered.clone()), Progress::UnderWay),
        Wish::Leave { after, .. } => (None, (**after).clone()),
        Wish::Delete { .. } => (None, Progress::UnderWay),
    };
    let judged = was_judged(server, types::REGISTERED);
    let progress = match lanes.register(&key, uid, wish, (told, judged), hold(context)) {
        Registering::UnderWay => Progress::UnderWay,
        Registering::Failed(error) => Progress::Failed(error),
        Registering::Done(Done::Pending { what }, _) => Progress::Pending { what },
        Registering::Done(Done::Registered, untold) => match &registered {
            Some(registered) => Progress::Registered(Box::new(Registered {
                untold,
                ..registered.clone()
            })),
            None => Progress::UnderWay,
        },
        Registering::Done(Done::Left | Done::Deleted, _) => after,
    };
    (progress, registered.filter(|_| told))
}

/// Hands the proof over, and reads what was seen last.
fn verify(
    context: &Context,
    server: &McpServer,
    valid: &Valid,
    observed: &Observed,
    progress: &Progress,
    stands: Option<&Registered>,
) -> (Verification, Option<Arc<Sight>>) {
    let (lanes, key, uid) = (&context.lanes, key_of(server), &valid.identity.uid);
    let conditions = server.status.as_ref().map(|status| &*status.conditions);
    let passed_before = is_true(conditions.unwrap_or_default(), types::VERIFIED);
    let probe = match verify::course(valid, observed, progress, stands) {
        verify::Course::Ask(probe) => probe
            .after(passed_before)
            .with_secret(door::key(valid, &context.probe_keys)),
        verify::Course::Settled(verification) => {
            lanes.no_proof(&key, uid);
            return (verification, None);
        }
    };
    let judged = was_judged(server, types::VERIFIED);
    match lanes.prove(&key, uid, probe, (passed_before && judged, judged), hold(context)) {
        Proving::UnderWay => (Verification::UnderWay, None),
        Proving::Known => (Verification::Unchanged, None),
        Proving::Failed(error) => (Verification::Failed(error), None),
        Proving::Seen(sight) => {
            let Sight { report, through } = (*sight).clone();
            (Verification::Seen { report, through }, Some(sight))
        }
    }
}

/// How long a look holds.
fn hold(context: &Context) -> Duration {
    context.settings.drift.mul_f64(LOOK_HOLDS)
}

/// A pass over a server that is to be: the line, then status and requeue, whatever came of it.
async fn keep(server: &McpServer, controller: &Controller) -> Again {
    let begin = Instant::now();
    let (key, uid) = (key_of(server), server.uid().unwrap_or_default());
    let lanes = &controller.context.lanes;
    let limit = controller.context.settings.pass_limit;
    let mut report = Report::default();
    let line = Box::pin(line(server, controller, &mut report));
    let result = tokio::time::timeout(limit, line).await;
    report.error = result
        .unwrap_or(Err(PassError::Timeout {
            seconds: limit.as_secs(),
        }))
        .err();
    let (registered, asked) = lanes.knows_registration(&key, &uid);
    report.registration = match (registered, asked) {
        (true, _) => Knowledge::Same,
        (false, false) => Knowledge::Inherited,
        (false, true) => Knowledge::Changing,
    };
    let taken = |refusal: &&InvalidServer| matches!(refusal, InvalidServer::PathTaken { .. });
    lanes.set_waits_for_path(&key, &uid, report.refusals().iter().any(taken));

    let (previous, now) = (server.status.clone().unwrap_or_default(), now());
    let status = status::status(&previous, server.metadata.generation.unwrap_or(0), &report, now);
    let settled = report.observed.as_ref().is_none_or(|observed| observed.settled);
    let news = status::news(&previous, &status, settled);
    let waits = match news {
        News::Nothing => false,
        News::Passing => true,
        News::Lasting => requeue::may_be_held_back(&report, server, &previous, &status),
    };
    let left = if waits {
        requeue::HELD_BACK.saturating_sub(lanes.hold(&key, &uid))
    } else {
        Duration::ZERO
    };
    if news == News::Lasting && !left.is_zero() {
        catch_up(server, controller, &previous, &report.written).await;
        let metrics = &controller.context.writer.metrics;
        metrics.reconciled(controller.state.kind, PassOutcome::Held, "", begin.elapsed());
        return Again::After(left, Priority::News);
    }
    let quiet = news == News::Nothing || !left.is_zero();
    let told = tell(server, controller, &previous, &status, quiet).await;
    report.written.status = *told.as_ref().unwrap_or(&false);
    if news == News::Nothing || report.written.status {
        let untold = match &report.progress {
            Some(Progress::Registered(registered)) => registered.untold.as_ref(),
            _ => None,
        };
        lanes.told(&key, &uid, untold, report.sight.as_ref());
    }
    catch_up(server, controller, &status, &report.written).await;
    let waiting = condition::find(&status.conditions, types::AVAILABLE).map_or(Duration::ZERO, |condition| {
        now.duration_since(condition.last_transition_time.0)
            .unsigned_abs()
    });
    let (failure, next) = match (&report.error, &told) {
        // Nobody has heard of this pass, so it must not be the last one for a while.
        (None, Err(error)) => (
            Some(Failure::new(error.reason(), error)),
            Next::Backoff(error.retry()),
        ),
        _ => (Failure::of(&report), requeue::next(&report, waiting)),
    };
    conclude(server, controller, failure, next, begin)
}

/// A pass over a server that is being deleted: the registration lane takes down what is registered, and lets it go.
async fn delete(server: &McpServer, controller: &Controller) -> Again {
    let begin = Instant::now();
    let context = &controller.context;
    let (key, uid) = (key_of(server), server.uid().unwrap_or_default());
    context.lanes.no_proof(&key, &uid);
    let wish = Wish::delete(context, server);
    let reading = context
        .lanes
        .register(&key, &uid, wish, (false, false), hold(context));
    let deletion: Result<Deletion, Arc<RegisterError>> = match reading {
        Registering::Done(Done::Pending { what }, _) => Ok(Deletion::Pending { what }),
        Registering::Failed(error) => Err(error),
        // The lane has not said anything yet, or the object is about to be gone.
        Registering::UnderWay | Registering::Done(..) => {
            return conclude(server, controller, None, Next::WhenAsked, begin);
        }
    };
    let previous = server.status.clone().unwrap_or_default();
    let generation = server.metadata.generation.unwrap_or(0);
    let status = status::deleting(
        &previous,
        generation,
        deletion.as_ref().map_err(|error| &**error),
        now(),
    );
    let same = status::news(&previous, &status, true) == News::Nothing;
    let told = tell(server, controller, &previous, &status, same).await;
    let written = Written {
        status: *told.as_ref().unwrap_or(&false),
        ..Written::default()
    };
    catch_up(server, controller, &status, &written).await;
    let failure = deletion.err().map(|error| Failure::new(error.reason(), &*error));
    let next = told
        .err()
        .map_or(Next::WhenAsked, |error| Next::Backoff(error.retry()));
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
    fn new(reason: &'static str, error: &impl std::fmt::Display) -> Self {
        Self {
            reason,
            error: error.to_string(),
        }
    }

    /// The first that a pass found, in the order of the line.
    fn of(report: &Report) -> Option<Self> {
        if let Some(error) = &report.error {
            return Some(Self::new(error.reason(), error));
        }
        if let Some(refusal) = report.refusals().first() {
            return Some(Self::new(refusal.reason(), refusal));
        }
        match (&report.progress, &report.verification) {
            (Some(Progress::Failed(error)), _) => Some(Self::new(error.reason(), error)),
            (_, Some(Verification::Failed(error))) => Some(Self::new(error.reason(), error)),
            _ => None,
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
) -> Again {
    let Controller { context, state } = controller;
    let (metrics, lanes, key) = (&context.writer.metrics, &context.lanes, key_of(server));
    let took = begin.elapsed();
    if let Some(Failure { reason, error }) = failure {
        tracing::warn!(reason, error, milliseconds = took.as_millis(), "the pass failed");
        metrics.reconciled(state.kind, PassOutcome::Failed, reason, took);
    } else {
        tracing::debug!(milliseconds = took.as_millis(), "the pass is done");
        metrics.reconciled(state.kind, PassOutcome::Ok, "", took);
    }
    let wait = match next {
        Next::Backoff(retry) => state.backoff.failed(key, retry, rand::random()),
        other => {
            state.backoff.forget(&key);
            match other {
                Next::After(wait) => Some(wait),
                Next::Drift => Some(spread(context.settings.drift, rand::random())),
                Next::WhenAsked | Next::Backoff(_) => None,
            }
        }
    };
    metrics.set_in_backoff(state.kind, state.backoff.len() + lanes.in_backoff());
    wait.map_or(Again::WhenAsked, |wait| Again::After(wait, Priority::Repair))
}

/// In whole seconds, as Kubernetes stores times: what is written and what is read back must be equal.
fn now() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default()
}
