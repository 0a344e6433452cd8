//! Step `requeue`, pure: when to come back. In: what the pass found; out: [`Next`].

use std::time::Duration;

use mcp_fleet_crds::{McpServer, McpServerStatus};

use super::Report;
use super::claim::Claim;
use super::error::InvalidServer;
use super::observe::Observed;
use super::register::Progress;
use super::verify::Verification;
use crate::condition::{find, types};
use crate::runtime::backoff::Retry;

/// Pods fail without their Deployment telling, so they are looked at: often at first, and then now and then.
const STARTING: Duration = Duration::from_secs(5);
const WAITING: Duration = Duration::from_secs(30);
const FIRST_MINUTES: Duration = Duration::from_mins(2);

/// How long status waits for what the other lanes are about to say.
pub const HELD_BACK: Duration = Duration::from_secs(30);

/// Whether status may wait for the other lanes: nothing went wrong, and what they are at makes up the better part of the
/// news. Told at once, each of their steps would be a write.
pub fn may_be_held_back(
    report: &Report,
    server: &McpServer,
    previous: &McpServerStatus,
    status: &McpServerStatus,
) -> bool {
    // Until a new spec has taken over, nobody is to believe that it has: that it was taken up is told at once.
    let claimed = Claim::of(server).is_some();
    let is_available = report.observed.as_ref().is_some_and(Observed::is_available);
    if previous.observed_generation != server.metadata.generation && claimed && is_available {
        return false;
    }
    let under_way = matches!(report.progress, Some(Progress::UnderWay))
        || matches!(report.verification, Some(Verification::UnderWay));
    let turned_false = status.conditions.iter().any(|condition| {
        condition.status == "False"
            && condition.type_ != types::READY
            && find(&previous.conditions, &condition.type_)
                .is_none_or(|before| before.status != "False" || before.reason != condition.reason)
    });
    under_way && report.error.is_none() && !turned_false
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
    /// Another lane asks for the next pass.
    WhenAsked,
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
        registration: _,
        sight: _,
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
    let unsettled = observed
        .as_ref()
        .is_some_and(|observed| !observed.is_available() || !observed.settled);
    let scaled_to_zero = observed
        .as_ref()
        .is_some_and(|observed| observed.available.reason == "ScaledToZero");
    // What a lane is at, it tells by itself.
    let awaits = matches!(
        (progress, verification),
        (Some(Progress::Waiting(_)), _)
            | (
                Some(Progress::Registered(_) | Progress::Unregistered) | None,
                Some(Verification::Waiting(_))
            )
    );
    if scaled_to_zero || !(unsettled || awaits) {
        return refusal.map_or(Next::Drift, Next::Backoff);
    }
    Next::After(if waiting < FIRST_MINUTES {
        STARTING
    } else {
        WAITING
    })
}
