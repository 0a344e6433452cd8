//! Step `requeue`: when to look again. In: the check and the time; out: a delay. Pure.

use std::time::{Duration, Instant};

use super::check::Check;
use super::secret::LOOK;

/// The shortest delay: a check that ran out during the pass must not make the queue spin.
const LEAST: Duration = Duration::from_secs(1);

/// When the check runs out. Settings that cannot be used wait for a change.
pub(super) fn next(check: Option<&Check>, rotates: bool, now: Instant) -> Option<Duration> {
    let check = check.map(|check| check.valid_until.saturating_duration_since(now).max(LEAST));
    // What a rotation waits for shows in time, and in the servers' Secrets.
    let rotation = rotates.then_some(LOOK);
    [check, rotation].into_iter().flatten().min()
}
