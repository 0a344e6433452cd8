//! Step `requeue`: when to look again. In: the check and the time; out: a delay. Pure.

use std::time::{Duration, Instant};

use super::check::Check;

/// The shortest delay: a check that ran out during the pass must not make the queue spin.
const LEAST: Duration = Duration::from_secs(1);

/// When the check runs out. Settings that cannot be used wait for a change.
pub(super) fn next(check: Option<&Check>, now: Instant) -> Option<Duration> {
    check.map(|check| check.valid_until.saturating_duration_since(now).max(LEAST))
}
