//! How the three lanes meet. Each has a queue, limits and failures of its own:
//!
//! - workload: the pass over a server (`mod.rs`). Kubernetes alone; it writes status, and nobody else does.
//! - registration: Azure Resource Manager alone (`register.rs`, `deregister.rs`). So many at once for each gateway.
//! - proof: MCP alone (`verify.rs`). Few at once, fewer for one namespace, and those that were slow among themselves.
//!
//! The pass says what it wants of the others, and reads what they last found; it never waits for them. They say what they
//! found, and ask for a pass. All of that is in one table, in memory: losing it costs looks and never a write. What a
//! server's conditions say is for people and is not read back, but once: a process that has just begun takes it for
//! true until it has looked itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::Stream;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use mcp_fleet_crds::LastWrite;

use super::error::{RegisterError, VerifyError};
use super::memory::{Checked, Memory};
use super::register::{Done, Wish};
use super::verify::{Probe, Sight};
use crate::runtime::backoff::{Backoff, Retry};
use crate::runtime::context::Key;
use crate::runtime::metrics::Metrics;
use crate::runtime::queue::{Again, Ask, Limits, Priority, Queue};

/// Registrations at once in one gateway.
const REGISTRATIONS: usize = 10;
/// Probes at once, of servers that answer as they should and of slow ones, and of one namespace among them.
const PROBES: Limits = Limits {
    section: 4,
    tenant: 2,
};
/// A server whose last probe took longer waits among its like.
const SLOW: Duration = Duration::from_secs(5);
const SLOW_SECTION: &str = "slow";

/// An operation of the service takes seconds.
const OPERATION: Duration = Duration::from_secs(2);
/// A Service needs a moment to know a new pod, and the gateway one to know a new API.
const AGAIN: Duration = Duration::from_millis(500);
/// A first probe may come a moment too early.
const FIRST_TRIES: u32 = 4;
/// A connection that breaks once is no outage: what was verified is looked at again before anybody is told otherwise.
const CONFIRMING_TRIES: u32 = 2;

/// The queues, and the table.
#[derive(Debug)]
pub struct Lanes {
    pub workload: Arc<Queue<Key>>,
    pub registration: Arc<Queue<Key>>,
    pub proof: Arc<Queue<Key>>,
    pub registration_backoff: Backoff<Key>,
    pub proof_backoff: Backoff<Key>,
    table: Mutex<HashMap<Key, Sheet>>,
    /// Who hears of gateways that do not take their key.
    refusals: Mutex<Vec<UnboundedSender<String>>>,
}

/// What the lanes know of one server.
#[derive(Debug, Default)]
struct Sheet {
    /// Another uid is another object: all this is void.
    uid: String,
    registration: Registration,
    proof: Proof,
    /// The path that it wants is another server's.
    waits_for_path: bool,
    /// Since when status waits for what the lanes are about to say.
    held_since: Option<Instant>,
}

#[derive(Debug, Default)]
struct Registration {
    /// What the lane works on, or will.
    wish: Option<Arc<Wish>>,
    answer: Option<Answer>,
    memory: Memory,
}

/// What came of a wish.
#[derive(Clone, Debug)]
struct Answer {
    of: u64,
    circumstances: u64,
    result: Result<Done, Arc<RegisterError>>,
}

#[derive(Debug, Default)]
struct Proof {
    probe: Option<Arc<Probe>>,
    verified: Option<Checked>,
    /// What was seen and is not in status yet.
    seen: Option<Arc<Sight>>,
    /// Of a probe with this fingerprint.
    failure: Option<(u64, Arc<VerifyError>)>,
    /// Failures in a row that nobody was told of yet.
    held: u32,
    slow: bool,
    /// The gateway that did not take the key that all its servers share.
    refused_by: Option<String>,
}

/// How far the registration is, as the pass reads it.
#[derive(Debug)]
pub enum Registering {
    /// Nothing is known of this wish; the lane is at it.
    UnderWay,
    Done(Done, Option<LastWrite>),
    Failed(Arc<RegisterError>),
}

/// What the last probe saw, as the pass reads it.
#[derive(Debug)]
pub enum Proving {
    UnderWay,
    /// Not told yet.
    Seen(Arc<Sight>),
    /// Told already, or assumed from before this process.
    Known,
    Failed(Arc<VerifyError>),
}

impl Lanes {
    pub fn new(metrics: &Metrics, passes: u16) -> Self {
        let queue = |limits, lane| Arc::new(Queue::new(limits, metrics.lane(lane)));
        let registrations = Limits::total(REGISTRATIONS);
        Self {
            workload: queue(Limits::total(usize::from(passes)), "workload"),
            registration: queue(registrations, "registration"),
            proof: queue(PROBES, "proof"),
            registration_backoff: Backoff::default(),
            proof_backoff: Backoff::default(),
            table: Mutex::default(),
            refusals: Mutex::default(),
        }
    }

    /// Asks for a pass.
    pub fn look_at(&self, key: &Key, priority: Priority) {
        self.workload.add(key.clone(), ask(key, priority, ""));
    }

    /// Says what is wanted of the registration, and reads how far it is. `trusted`: what status says of it was so before
    /// this process began. `judged`: it was looked at before, so that others come first.
    pub fn register(
        &self,
        key: &Key,
        uid: &str,
        wish: Wish,
        (trusted, judged): (bool, bool),
        hold: Duration,
    ) -> Registering {
        let mut table = self.lock();
        let registration = &mut sheet(&mut table, key, uid).registration;
        let (of, circumstances) = (wish.fingerprint(), wish.circumstances());
        let Registration {
            wish: present,
            answer,
            memory,
        } = registration;
        let trusted = trusted && !memory.asked;
        let answer = answer.as_ref().filter(|answer| answer.of == of);
        let (due, priority) = match answer.map(|answer| &answer.result) {
            Some(Ok(Done::Registered)) if memory.repair => (true, Priority::News),
            Some(Ok(Done::Registered)) => {
                let holds = memory
                    .registered
                    .is_some_and(|checked| checked.holds(of, Instant::now(), hold));
                (!holds, Priority::Repair)
            }
            Some(Ok(_)) => (false, Priority::Repair),
            // The lane comes back to it by itself; sooner only if something is different.
            Some(Err(_)) => {
                let same = answer.is_some_and(|answer| answer.circumstances == circumstances);
                (!same, Priority::Repair)
            }
            None if trusted || judged => (true, Priority::Repair),
            None => (true, Priority::News),
        };
        let in_hand = present
            .as_ref()
            .is_some_and(|present| present.fingerprint() == of && present.circumstances() == circumstances);
        let priority = if wish.is_deletion() {
            Priority::Deletion
        } else {
            priority
        };
        let section = wish.gateway().to_owned();
        if due && !in_hand {
            *present = Some(Arc::new(wish));
        }
        let reading = match answer.map(|answer| answer.result.clone()) {
            Some(Ok(done)) => Registering::Done(done, memory.untold.clone()),
            Some(Err(error)) => Registering::Failed(error),
            None if trusted => Registering::Done(Done::Registered, None),
            None => Registering::UnderWay,
        };
        drop(table);
        if due && !in_hand {
            self.registration.add(key.clone(), ask(key, priority, &section));
        }
        reading
    }

    /// Nothing is wanted of the registration, or not now.
    pub fn no_registration(&self, key: &Key, uid: &str) {
        let mut table = self.lock();
        let registration = &mut sheet(&mut table, key, uid).registration;
        registration.wish = None;
        registration.answer = None;
        drop(table);
        self.registration.remove(key);
        self.registration_backoff.forget(key);
    }

    /// Whether what is registered is known, or was known before this process began, and nothing is to be changed.
    pub fn knows_registration(&self, key: &Key, uid: &str) -> (bool, bool) {
        let mut table = self.lock();
        let memory = &sheet(&mut table, key, uid).registration.memory;
        (memory.registered.is_some(), memory.asked)
    }

    /// What the registration lane works on, with what is remembered of it.
    pub fn begin_registration(&self, key: &Key, uid: &str) -> Option<(Arc<Wish>, Memory)> {
        let table = self.lock();
        let registration = &table.get(key).filter(|sheet| sheet.uid == uid)?.registration;
        Some((registration.wish.clone()?, registration.memory.clone()))
    }

    /// The registration lane has come to an end with a wish; when it comes back to it.
    pub fn end_registration(
        &self,
        key: &Key,
        uid: &str,
        wish: &Wish,
        memory: Memory,
        result: Result<Done, RegisterError>,
    ) -> Again {
        let mut table = self.lock();
        let Some(sheet) = table.get_mut(key).filter(|sheet| sheet.uid == uid) else {
            return Again::WhenAsked;
        };
        let registration = &mut sheet.registration;
        let of = wish.fingerprint();
        let next = match &result {
            Ok(Done::Pending { .. }) => Again::After(OPERATION, wish.priority()),
            Ok(_) => {
                self.registration_backoff.forget(key);
                Again::WhenAsked
            }
            Err(error) => {
                tracing::warn!(reason = error.reason(), %error, "registration failed");
                let retry = if wish.is_deletion() {
                    error.retry().in_deletion()
                } else {
                    error.retry()
                };
                again(&self.registration_backoff, key, retry, wish.priority())
            }
        };
        let before = registration.answer.as_ref().filter(|answer| answer.of == of);
        let unchanged = matches!(result, Ok(Done::Registered)) && memory.untold == registration.memory.untold;
        let silent = unchanged && matches!(before.map(|answer| &answer.result), Some(Ok(Done::Registered)));
        let is_done = matches!(result, Ok(ref done) if !matches!(done, Done::Pending { .. }));
        // A newer wish stays; the queue has been told of it.
        if is_done
            && registration
                .wish
                .as_ref()
                .is_some_and(|held| held.fingerprint() == of)
        {
            registration.wish = None;
        }
        registration.memory = memory;
        registration.answer = Some(Answer {
            of,
            circumstances: wish.circumstances(),
            result: result.map_err(Arc::new),
        });
        drop(table);
        if !silent {
            self.look_at(
                key,
                if unchanged {
                    Priority::Repair
                } else {
                    Priority::News
                },
            );
        }
        next
    }

    /// Says what is to be proved, and reads what was seen. `trusted` and `judged` as for the registration.
    pub fn prove(
        &self,
        key: &Key,
        uid: &str,
        probe: Probe,
        (trusted, judged): (bool, bool),
        hold: Duration,
    ) -> Proving {
        let mut table = self.lock();
        let proof = &mut sheet(&mut table, key, uid).proof;
        let of = probe.fingerprint;
        let verified = proof.verified.filter(|verified| verified.fingerprint == of);
        let failure = proof.failure.as_ref().filter(|(failed, _)| *failed == of);
        let trusted = trusted && proof.verified.is_none() && proof.failure.is_none();
        let (due, priority) = match (verified, failure) {
            (_, Some(_)) => (false, Priority::Repair),
            (Some(verified), None) => (!verified.holds(of, Instant::now(), hold), Priority::Repair),
            (None, None) if trusted || judged => (true, Priority::Repair),
            (None, None) => (true, Priority::News),
        };
        let reading = match (verified, failure, &proof.seen) {
            (_, Some((_, error)), _) => Proving::Failed(Arc::clone(error)),
            (Some(_), None, Some(seen)) => Proving::Seen(Arc::clone(seen)),
            (Some(_), None, None) => Proving::Known,
            (None, None, _) if trusted => Proving::Known,
            (None, None, _) => Proving::UnderWay,
        };
        let in_hand = proof.probe.as_ref().is_some_and(|held| held.fingerprint == of);
        let section = if proof.slow { SLOW_SECTION } else { "" };
        if due && !in_hand {
            proof.probe = Some(Arc::new(probe));
            proof.held = 0;
        }
        drop(table);
        if due && !in_hand {
            self.proof.add(key.clone(), ask(key, priority, section));
        }
        reading
    }

    /// There is nothing to be probed for now. What was seen stays known.
    pub fn no_proof(&self, key: &Key, uid: &str) {
        let mut table = self.lock();
        let proof = &mut sheet(&mut table, key, uid).proof;
        proof.probe = None;
        proof.failure = None;
        proof.refused_by = None;
        drop(table);
        self.proof.remove(key);
        self.proof_backoff.forget(key);
    }

    pub fn begin_proof(&self, key: &Key, uid: &str) -> Option<Arc<Probe>> {
        let table = self.lock();
        table
            .get(key)
            .filter(|sheet| sheet.uid == uid)?
            .proof
            .probe
            .clone()
    }

    /// A probe has come to its end; when to probe again.
    pub fn end_proof(
        &self,
        key: &Key,
        uid: &str,
        probe: &Probe,
        took: Duration,
        result: Result<Sight, VerifyError>,
    ) -> Again {
        let mut table = self.lock();
        let Some(sheet) = table.get_mut(key).filter(|sheet| sheet.uid == uid) else {
            return Again::WhenAsked;
        };
        let Sheet {
            proof, registration, ..
        } = sheet;
        let of = probe.fingerprint;
        let current = proof.probe.as_ref().is_some_and(|held| held.fingerprint == of);
        proof.slow = took > SLOW;
        let mut refused = None;
        let next = match result {
            Ok(sight) => {
                self.proof_backoff.forget(key);
                proof.verified = Some(Checked::new(of, Instant::now()));
                proof.seen = Some(Arc::new(sight));
                proof.failure = None;
                proof.held = 0;
                proof.refused_by = None;
                if current {
                    proof.probe = None;
                }
                Again::WhenAsked
            }
            Err(error) => {
                if error.wants_key_written() {
                    registration.memory.refuse_key(Instant::now());
                }
                let tries = if probe.passed_before || proof.verified.is_some() {
                    CONFIRMING_TRIES
                } else {
                    FIRST_TRIES
                };
                let doubted = proof.failure.is_none() && proof.held < tries && error.retry() != Retry::Slow;
                if doubted {
                    proof.held += 1;
                    Again::After(AGAIN, Priority::News)
                } else {
                    tracing::warn!(reason = error.reason(), %error, "the server could not be verified");
                    let next = again(&self.proof_backoff, key, error.retry(), Priority::Repair);
                    refused = error.refused_by().map(ToOwned::to_owned);
                    proof.refused_by.clone_from(&refused);
                    proof.verified = None;
                    proof.seen = None;
                    proof.failure = Some((of, Arc::new(error)));
                    next
                }
            }
        };
        let repair = registration.memory.repair;
        let told = proof.held == 0 || proof.failure.is_some() || repair;
        drop(table);
        if let Some(gateway) = refused {
            let mut listeners = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            listeners.retain(|listener| listener.unbounded_send(gateway.clone()).is_ok());
        }
        if told {
            self.look_at(key, Priority::News);
        }
        next
    }

    /// Status waits for what the lanes are about to say; since how long.
    pub fn hold(&self, key: &Key, uid: &str) -> Duration {
        let mut table = self.lock();
        sheet(&mut table, key, uid)
            .held_since
            .get_or_insert_with(Instant::now)
            .elapsed()
    }

    /// Lets the time pass for which status waits, if it does.
    #[cfg(test)]
    pub(super) fn end_patience(&self, key: &Key) -> bool {
        let mut table = self.lock();
        let held = table.get_mut(key).and_then(|sheet| sheet.held_since.as_mut());
        match held {
            Some(since) => {
                *since = since.checked_sub(Duration::from_hours(1)).unwrap_or(*since);
                true
            }
            None => false,
        }
    }

    /// Objects that lanes come back to after a failure.
    pub fn in_backoff(&self) -> usize {
        self.registration_backoff.len() + self.proof_backoff.len()
    }

    /// Status tells of what the pass has read.
    pub fn told(&self, key: &Key, uid: &str, write: Option<&LastWrite>, sight: Option<&Arc<Sight>>) {
        let mut table = self.lock();
        let Sheet {
            registration,
            proof,
            held_since,
            ..
        } = sheet(&mut table, key, uid);
        *held_since = None;
        // Not what has come since.
        if registration.memory.untold.as_ref() == write {
            registration.memory.untold = None;
        }
        if let (Some(seen), Some(sight)) = (&proof.seen, sight)
            && Arc::ptr_eq(seen, sight)
        {
            proof.seen = None;
        }
    }

    /// Remembers who waits for another server's path.
    pub fn set_waits_for_path(&self, key: &Key, uid: &str, waits: bool) {
        sheet(&mut self.lock(), key, uid).waits_for_path = waits;
    }

    /// Who waits for another server's path.
    pub fn waiting_for_paths(&self) -> Vec<Key> {
        let table = self.lock();
        let waiting = table.iter().filter(|(_, sheet)| sheet.waits_for_path);
        waiting.map(|(key, _)| key.clone()).collect()
    }

    /// Whether the gateway did not take the key that its servers share, as one of them found.
    pub fn refuses_key(&self, gateway: &str) -> bool {
        self.lock()
            .values()
            .any(|sheet| sheet.proof.refused_by.as_deref() == Some(gateway))
    }

    /// Gateways that did not take their key, as that is found.
    pub fn refusals(&self) -> impl Stream<Item = String> + Send + 'static {
        let (sender, receiver) = unbounded();
        let mut listeners = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.push(sender);
        receiver
    }

    /// An object that is gone leaves nothing behind.
    pub fn forget(&self, key: &Key) {
        self.lock().remove(key);
        self.registration.remove(key);
        self.proof.remove(key);
        self.registration_backoff.forget(key);
        self.proof_backoff.forget(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Sheet>> {
        // Whole after every statement above.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sheet of an object with this uid.
fn sheet<'a>(table: &'a mut HashMap<Key, Sheet>, key: &Key, uid: &str) -> &'a mut Sheet {
    let sheet = table.entry(key.clone()).or_default();
    if sheet.uid != uid {
        *sheet = Sheet {
            uid: uid.to_owned(),
            ..Sheet::default()
        };
    }
    sheet
}

/// How a server asks.
pub fn ask(key: &Key, priority: Priority, section: &str) -> Ask {
    Ask {
        priority,
        section: section.to_owned(),
        tenant: key.0.clone().unwrap_or_default(),
    }
}

fn again(backoff: &Backoff<Key>, key: &Key, retry: Retry, priority: Priority) -> Again {
    match backoff.failed(key.clone(), retry, rand::random()) {
        Some(wait) => Again::After(wait, priority),
        None => Again::WhenAsked,
    }
}
