//! Step `requeue`, pure: when to come back. In: what the pass found; out: [`Next`].

use std::time::Duration;

use mcp_fleet_crds::McpServerStatus;

use super::Report;
use super::error::{InvalidServer, PassError};
use super::register::Progress;
use super::verify::Verification;
use crate::condition::{find, is_true, types};
use crate::runtime::backoff::Retry;

/// An operation of the service takes seconds.
const OPERATION: Duration = Duration::from_secs(2);
/// Pods fail without their Deployment telling, so they are looked at: often at first, and then now and then.
const STARTING: Duration = Duration::from_secs(5);
const WAITING: Duration = Duration::from_secs(30);
const FIRST_MINUTES: Duration = Duration::from_mins(2);

/// A Service needs a moment to know a new pod, and the gateway one to know a new API.
pub const HELD_BACK: Duration = Duration::from_millis(500);
const HELD_BACK_PASSES: u32 = 4;
/// A connection that breaks once is no outage: what was verified is looked at again before anybody is told otherwise.
const CONFIRMING_PASSES: u32 = 2;

/// Whether the only news is a probe whose word is not taken yet: a first one that came a moment too early, or one that
/// a server fails which has passed before. Telling that would be a write for nothing.
pub fn is_held_back(
    report: &Report,
    previous: &McpServerStatus,
    status: &McpServerStatus,
    held: u32,
) -> bool {
    let Some(PassError::Verify(error)) = &report.error else {
        return false;
    };
    let doubtful =
        find(&status.conditions, types::VERIFIED).is_some_and(|verified| verified.status == "Unknown");
    let passed_before = is_true(&previous.conditions, types::VERIFIED) && error.retry() != Retry::Slow;
    (doubtful && held < HELD_BACK_PASSES) || (passed_before && held < CONFIRMING_PASSES)
}

/// When to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// After a time of its own.
    After(Duration),
    /// After the object's backoff.
    Backoff(Retry),
    /// To look for what somebody changed by hand.
    Drift,
}

/// When to come back after a pass. `waiting` is how long the workload has been as it is.
pub fn next(report: &Report, waiting: Duration) -> Next {
    let Report {
        valid: _,
        observed,
        progress,
        verification,
        error,
        written: _,
        announced: _,
        registration: _,
    } = report;
    if let Some(error) = error {
        return Next::Backoff(error.retry());
    }
    // What another server has may be free by then; nobody would tell.
    let refusal = report
        .refusals()
        .into_iter()
        .map(InvalidServer::retry)
        .find(|retry| *retry != Retry::UntilChanged);
    if let Some(Progress::Pending { .. }) = progress {
        return Next::After(OPERATION);
    }
    let unsettled = observed
        .as_ref()
        .is_some_and(|observed| !observed.is_available() || !observed.settled);
    let scaled_to_zero = observed
        .as_ref()
        .is_some_and(|observed| observed.available.reason == "ScaledToZero");
    let awaits = matches!(progress, Some(Progress::Waiting(_)))
        || matches!(verification, Some(Verification::Waiting(_)));
    if scaled_to_zero || !(unsettled || awaits) {
        return refusal.map_or(Next::Drift, Next::Backoff);
    }
    Next::After(if waiting < FIRST_MINUTES {
        STARTING
    } else {
        WAITING
    })
}
