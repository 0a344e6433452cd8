//! Step `requeue`: when to look again after a pass without trouble. In: the object, the period, a random number, and how
//! long until a former key ends; out: a delay, or none. Pure. Failures have their backoff.

use std::time::Duration;

use mcp_fleet_crds::McpAccess;

use crate::runtime::backoff::spread;

/// What somebody changes in API Management by hand is found once in a period; an object that is gone, never.
pub(super) fn settled(
    access: &McpAccess,
    period: Duration,
    jitter: f64,
    until_end: Option<Duration>,
) -> Option<Duration> {
    let look = spread(period, jitter);
    access
        .metadata
        .deletion_timestamp
        .is_none()
        .then(|| until_end.map_or(look, |end| look.min(end)))
}
