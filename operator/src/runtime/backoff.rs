//! Backoff per object: kube's controller has none, and its error policy never hears of a success.
//!
//! In: how an object's pass went. Out: how long to wait before the next one. The jitter comes in as a number from
//! 0 to 1, so that tests need no luck.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::condition::Outlook;

/// What an error asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// 1 s, doubling to 1 min: something that usually heals by itself.
    Fast,
    /// 30 s, doubling to 15 min: something that a person probably has to change elsewhere.
    Slow,
    /// 30 s, doubling to an hour: the other side refuses, and will most probably do so again.
    Terminal,
    /// The other side named a time; used as it is, but not below a second, nor above the longest wait of our own: a
    /// foreign server must not be able to silence us for ever.
    After(Duration),
    /// Nothing that time alone would change.
    UntilChanged,
}

impl Retry {
    /// The same for an object that is being deleted: its spec is history, so only time can help.
    #[must_use]
    pub fn in_deletion(self) -> Self {
        match self {
            Self::UntilChanged | Self::Terminal => Self::Slow,
            other => other,
        }
    }

    /// For conditions: what is tried again soon passes by itself, the rest waits for a person.
    pub fn outlook(self) -> Outlook {
        match self {
            Self::Fast | Self::After(_) => Outlook::Passes,
            Self::Slow | Self::Terminal | Self::UntilChanged => Outlook::Stalls,
        }
    }
}

const FAST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
const SLOW: (Duration, Duration) = (Duration::from_secs(30), Duration::from_mins(15));
const TERMINAL: (Duration, Duration) = (Duration::from_secs(30), Duration::from_hours(1));
/// Doubling more often than this is beyond every limit above.
const MOST_DOUBLINGS: u32 = 10;

/// Failures in a row, per object.
#[derive(Debug)]
pub struct Backoff<Key> {
    failures: Mutex<HashMap<Key, u32>>,
}

impl<Key> Default for Backoff<Key> {
    fn default() -> Self {
        Self {
            failures: Mutex::default(),
        }
    }
}

impl<Key: Eq + Hash> Backoff<Key> {
    /// Counts a failure and answers how long to wait; None means until something changes.
    pub fn failed(&self, key: Key, retry: Retry, jitter: f64) -> Option<Duration> {
        let mut failures = self.lock();
        let count = failures.entry(key).or_insert(0);
        let doublings = (*count).min(MOST_DOUBLINGS);
        *count = count.saturating_add(1);
        let (first, most) = match retry {
            Retry::Fast => FAST,
            Retry::Slow => SLOW,
            Retry::Terminal => TERMINAL,
            Retry::After(wait) => return Some(wait.clamp(FAST.0, SLOW.1)),
            Retry::UntilChanged => return None,
        };
        Some(spread(most.min(first * 2_u32.pow(doublings)), jitter))
    }

    /// Forgets the failures of an object, after a success or when it is gone.
    pub fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    /// Number of objects that failed last time.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, u32>> {
        // The map is whole after every statement above; a panic elsewhere does not spoil it.
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A duration moved by up to a quarter either way, so that objects do not come back all at once.
pub fn spread(duration: Duration, jitter: f64) -> Duration {
    duration.mul_f64(0.75 + 0.5 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_have_a_start_and_a_limit() {
        let backoff = Backoff::default();
        let waits: Vec<u64> = (0..12)
            .map(|_| backoff.failed("a", Retry::Fast, 0.5).unwrap().as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60]);
        let waits: Vec<u64> = (0..8)
            .map(|_| backoff.failed("b", Retry::Slow, 0.5).unwrap().as_secs())
            .collect();
        assert_eq!(waits, [30, 60, 120, 240, 480, 900, 900, 900]);
        let waits: Vec<u64> = (0..9)
            .map(|_| backoff.failed("c", Retry::Terminal, 0.5).unwrap().as_secs())
            .collect();
        assert_eq!(waits, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
        backoff.forget(&"c");
        assert_eq!(backoff.len(), 2);
        backoff.forget(&"a");
        assert_eq!(
            backoff.failed("a", Retry::Fast, 0.5),
            Some(Duration::from_secs(1))
        );
    }

    #[test]
    fn named_times_and_waiting_for_a_change() {
        let backoff = Backoff::default();
        assert_eq!(
            backoff.failed(1, Retry::After(Duration::ZERO), 0.5),
            Some(Duration::from_secs(1))
        );
        assert_eq!(
            backoff.failed(1, Retry::After(Duration::from_secs(77)), 0.5),
            Some(Duration::from_secs(77))
        );
        assert_eq!(
            backoff.failed(1, Retry::After(Duration::MAX), 0.5),
            Some(Duration::from_mins(15))
        );
        assert_eq!(backoff.failed(1, Retry::UntilChanged, 0.5), None);
        assert_eq!(Retry::UntilChanged.in_deletion(), Retry::Slow);
        assert_eq!(Retry::Fast.in_deletion(), Retry::Fast);
    }

    #[test]
    fn jitter_stays_within_a_quarter() {
        for (jitter, seconds) in [(-1.0, 75), (0.0, 75), (0.5, 100), (1.0, 125), (9.0, 125)] {
            assert_eq!(
                spread(Duration::from_secs(100), jitter),
                Duration::from_secs(seconds)
            );
        }
    }
}
