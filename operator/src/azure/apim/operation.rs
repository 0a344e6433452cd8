//! ARM's long operations: from the answer that starts one to its end.
//! In: an answer, or a stored [`PendingOperation`]; out: done, or the operation to store when time is up.
//!
//! Rules, as recorded against the service: where `Azure-AsyncOperation` is given, its `status` decides; else
//! `Location` is polled as given: 202 runs, any other 2xx is the end (the service answers with the code that
//! `asyncCode` names, so waiting for 200 would wait for ever), and 404 after a DELETE is the end. The body behind
//! `Location` has no status. An answer without either header that says `provisioningState: InProgress` is
//! followed on the resource itself.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use url::Url;

use super::{
    error::{ArmError, ErrorClass, ErrorDetail},
    request::{Response, Verb},
    transport::ArmClient,
};

/// The first guess at how long an operation takes; after that, the last ones tell.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const SHORTEST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// A service that asks for more patience than this is asked again earlier; a pass ends before it anyway.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(30);

/// How the end of an operation shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Signal {
    /// The `status` of an `Azure-AsyncOperation` address.
    Status,
    /// The HTTP status of a `Location` address.
    Location,
    /// `provisioningState` of the resource, or its absence after a DELETE.
    Resource,
}

/// An operation that runs in Azure. It can be stored (it holds no secret) and followed by another process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingOperation {
    /// Checked again before every use: a stored address came from outside this process.
    pub url: String,
    pub signal: Signal,
    pub verb: Verb,
    /// For messages, for example `api demo-tools-weather-1f2e3d4c`.
    pub resource: String,
}

/// The answer of a function that may have to wait for Azure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    Done(T),
    /// Still running at the deadline. Give it to the next call, or drop it: a pass without it is right as well.
    Pending(PendingOperation),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct StatusBody {
    status: Option<String>,
    provisioning_state: Option<String>,
    properties: Option<StatusProperties>,
    error: Option<ErrorDetail>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct StatusProperties {
    status: Option<String>,
    provisioning_state: Option<String>,
}

impl StatusBody {
    fn read(body: &[u8]) -> Self {
        // A poll may answer without a body, and a resource's `properties` may have any shape.
        serde_json::from_slice(body).unwrap_or_default()
    }

    /// Status of an operation: at the root, or in `properties` in the older result contract.
    fn operation_state(&self) -> Option<State> {
        let inner = self.properties.as_ref();
        let text = self
            .status
            .as_deref()
            .or(inner.and_then(|inner| inner.status.as_deref()));
        text.map(State::parse).or_else(|| self.resource_state())
    }

    fn resource_state(&self) -> Option<State> {
        let inner = self
            .properties
            .as_ref()
            .and_then(|inner| inner.provisioning_state.as_deref());
        self.provisioning_state.as_deref().or(inner).map(State::parse)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Succeeded,
    Failed,
}

impl State {
    fn parse(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "succeeded" | "ready" | "completed" => Self::Succeeded,
            "failed" | "canceled" | "cancelled" => Self::Failed,
            _ => Self::Running,
        }
    }
}

/// Whether a resource that was read says that an operation on it still runs.
pub(crate) fn in_progress(provisioning_state: Option<&str>) -> bool {
    provisioning_state.is_some_and(|text| !text.is_empty() && State::parse(text) == State::Running)
}

impl PendingOperation {
    /// The operation that an answer starts, if it starts one. `resource_url` is what the request was sent to.
    pub(crate) fn from_answer(
        client: &ArmClient,
        verb: Verb,
        resource: &str,
        resource_url: &Url,
        answer: &Response,
    ) -> Result<Option<Self>, ArmError> {
        let pending = |url: Url, signal| Self {
            url: url.into(),
            signal,
            verb,
            resource: resource.to_owned(),
        };
        let accepted = answer.status == 202;
        let running = StatusBody::read(&answer.body).resource_state() == Some(State::Running);
        if let Some(address) = answer.header("azure-asyncoperation") {
            let url = client.checked_poll_url(address, verb, resource)?;
            return Ok(Some(pending(url, Signal::Status)));
        }
        if let Some(address) = answer.header("location")
            && (accepted || running)
        {
            let url = client.checked_poll_url(address, verb, resource)?;
            return Ok(Some(pending(url, Signal::Location)));
        }
        Ok((accepted || running).then(|| pending(resource_url.clone(), Signal::Resource)))
    }

    /// An operation seen on the resource itself, after the process that started it was lost.
    pub(crate) fn on_resource(resource: &str, url: Url) -> Self {
        Self {
            url: url.into(),
            signal: Signal::Resource,
            verb: Verb::Put,
            resource: resource.to_owned(),
        }
    }

    fn failed(&self, class: ErrorClass) -> ArmError {
        ArmError {
            action: self.verb.action(),
            resource: self.resource.clone(),
            class,
            correlation_id: None,
        }
    }

    /// Reads one poll's answer: `None` while it runs.
    fn judge(&self, answer: &Result<Response, ArmError>) -> Option<Result<(), ArmError>> {
        let answer = match answer {
            Ok(answer) => answer,
            // A result that is kept no longer, or a resource that is gone: the end of a DELETE. After a PUT the
            // next read of the resource tells what became of it.
            Err(error) if error.is_not_found() => return Some(Ok(())),
            Err(error) => return Some(Err(error.clone())),
        };
        let body = StatusBody::read(&answer.body);
        let state = match self.signal {
            Signal::Location => (answer.status == 202).then_some(State::Running),
            _ if answer.status == 202 => Some(State::Running),
            Signal::Status => body.operation_state(),
            Signal::Resource if self.verb == Verb::Delete => Some(State::Running),
            Signal::Resource => body.resource_state(),
        };
        match state {
            Some(State::Running) => None,
            Some(State::Failed) => {
                let class = body.error.map_or_else(
                    || ErrorClass::Server {
                        status: 500,
                        message: "the operation failed or was canceled".to_owned(),
                    },
                    |error| error.class_of_operation(),
                );
                Some(Err(self.failed(class)))
            }
            Some(State::Succeeded) | None => Some(Ok(())),
        }
    }
}

/// Follows an operation until it ends or `patience` is over.
pub async fn follow(
    client: &ArmClient,
    operation: PendingOperation,
    patience: Duration,
) -> Result<Outcome<()>, ArmError> {
    let deadline = Instant::now() + patience;
    let url = client.checked_poll_url(&operation.url, operation.verb, &operation.resource)?;
    let start = Instant::now();
    let mut pause = client.pace().expected(operation.verb).min(patience / 2);
    let mut delay = after_a_miss(pause);
    let mut polls = 0;
    loop {
        tokio::time::sleep(pause).await;
        let answer = client.poll(&url, &operation.resource).await;
        polls += 1;
        if let Some(end) = operation.judge(&answer) {
            client.pace().learn(operation.verb, start.elapsed(), polls);
            return end.map(Outcome::Done);
        }
        let asked = answer.ok().and_then(|answer| answer.retry_after());
        pause = asked.map_or(delay, |asked| asked.min(LONGEST_RETRY_AFTER).max(FIRST_DELAY));
        if Instant::now() + pause > deadline {
            return Ok(Outcome::Pending(operation));
        }
        delay = (delay * 2).min(LONGEST_DELAY);
    }
}

/// A guess that was too short was hardly far off.
fn after_a_miss(guess: Duration) -> Duration {
    FIRST_DELAY.max(guess / 8)
}

/// How long operations take at present, so that the first poll comes when there is something to hear: a poll is a read,
/// and a fleet that is created follows an import for each server.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    imports: Mutex<Option<Duration>>,
    deletions: Mutex<Option<Duration>>,
}

impl Pace {
    fn of(&self, verb: Verb) -> MutexGuard<'_, Option<Duration>> {
        let pace = if verb == Verb::Delete {
            &self.deletions
        } else {
            &self.imports
        };
        pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expected(&self, verb: Verb) -> Duration {
        self.of(verb).unwrap_or(FIRST_DELAY)
    }

    /// Over at the first poll: perhaps long before. Else it was over between this poll and the one before.
    fn learn(&self, verb: Verb, took: Duration, polls: u32) {
        let factor = if polls == 1 { 0.93 } else { 1.0 };
        *self.of(verb) = Some(took.mul_f64(factor).clamp(SHORTEST_DELAY, LONGEST_DELAY));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Polls for a run of operations that take this long.
    fn polls(pace: &Pace, millis: u64, operations: u32) -> u32 {
        let takes = Duration::from_millis(millis);
        let mut sum = 0;
        for _ in 0..operations {
            let (mut at, mut polls) = (pace.expected(Verb::Put), 1);
            let mut delay = after_a_miss(at);
            while at < takes {
                at += delay;
                delay = (delay * 2).min(LONGEST_DELAY);
                polls += 1;
            }
            pace.learn(Verb::Put, at, polls);
            sum += polls;
        }
        sum
    }

    #[test]
    fn most_operations_cost_one_poll_whatever_their_length() {
        for millis in [1, 300, 1_500, 4_000] {
            let pace = Pace::default();
            let count = polls(&pace, millis, 100);
            assert!(count <= 150, "{count} polls for 100 operations of {millis} ms");
            // And when they become shorter, nobody waits for long.
            polls(&pace, 1, 60);
            assert!(pace.expected(Verb::Put) <= Duration::from_millis(100));
            assert_eq!(
                pace.expected(Verb::Delete),
                FIRST_DELAY,
                "deletions are another matter"
            );
        }
    }
}
