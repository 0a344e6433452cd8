//! When the key in a Secret was last compared with API Management. In: the objects' names and the time; out: whether it is
//! due. In memory, and from the start of the process on: a restart must not ask for the keys of every access.
//!
//! The subscription's ETag tells of a changed key at every look. That is no promise of the service, so once a day the keys
//! themselves are asked for, which costs a write of Azure's budget.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::runtime::backoff::spread;
use crate::runtime::context::Key;

const PERIOD: Duration = Duration::from_hours(24);

/// The next comparison of each access.
#[derive(Debug, Default)]
pub(super) struct Comparisons(Mutex<HashMap<Key, Instant>>);

impl Comparisons {
    /// Whether a comparison is due. An access that was never seen has a whole period before it.
    pub(super) fn is_due(&self, key: &Key, now: Instant, jitter: f64) -> bool {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = next
            .entry(key.clone())
            .or_insert_with(|| now + spread(PERIOD, jitter));
        *next <= now
    }

    pub(super) fn done(&self, key: &Key, now: Instant, jitter: f64) {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        next.insert(key.clone(), now + spread(PERIOD, jitter));
    }

    pub(super) fn forget(&self, key: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_compared_once_a_day_and_not_at_the_start() {
        let (comparisons, start) = (Comparisons::default(), Instant::now());
        let key = (Some("agents".to_owned()), "bot".to_owned());
        let due = |hours| comparisons.is_due(&key, start + Duration::from_hours(hours), 0.5);
        assert!(!due(0) && !due(23));
        assert!(due(24) && due(25), "until it is done");
        comparisons.done(&key, start + Duration::from_hours(25), 0.5);
        assert!(!due(48) && due(49));
        comparisons.forget(&key);
        assert!(!due(49));
    }
}
