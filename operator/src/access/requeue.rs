//! Step `requeue`: when to look again after a pass without trouble. In: the object, the period and a random number;
//! out: a delay, or none. Pure. Failures have their backoff.

use std::time::Duration;

use mcp_fleet_crds::McpAccess;

use crate::runtime::backoff::spread;

/// What somebody changes in API Management by hand is found once in a period; an object that is gone, never.
pub(super) fn settled(access: &McpAccess, period: Duration, jitter: f64) -> Option<Duration> {
    access
        .metadata
        .deletion_timestamp
        .is_none()
        .then(|| spread(period, jitter))
}
