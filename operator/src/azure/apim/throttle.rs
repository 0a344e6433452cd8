//! Keeps our calls under ARM's token buckets, and all of them back when ARM has said 429.
//! In: the kind of a call; out: the moment when it may go.
//!
//! ARM documents, per subscription, principal and region: reads 250 at once and then 25 a second, writes and
//! deletes 200 at once and then 10 a second (request-limits-and-throttling).

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::time::Instant;

/// A token bucket: `burst` calls at once, refilled with `per_second`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub per_second: NonZeroU32,
    pub burst: NonZeroU32,
}

impl Rate {
    pub fn new(per_second: u32, burst: u32) -> Self {
        let at_least_one = |value| NonZeroU32::new(value).unwrap_or(NonZeroU32::MIN);
        Self {
            per_second: at_least_one(per_second),
            burst: at_least_one(burst),
        }
    }

    fn limiter(self) -> DefaultDirectRateLimiter {
        RateLimiter::direct(Quota::per_second(self.per_second).allow_burst(self.burst))
    }
}

/// Both budgets of one ARM principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    pub writes: Rate,
    pub reads: Rate,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            writes: Rate::new(10, 200),
            reads: Rate::new(25, 250),
        }
    }
}

/// How long one call may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience {
    /// For a pause that ARM asked for.
    pub(crate) pause: Duration,
    /// For those that came before.
    pub(crate) turn: Duration,
}

/// Share one among all clients that use the same principal and subscription.
#[derive(Debug)]
pub struct Throttle {
    writes: Lane,
    reads: Lane,
}

#[derive(Debug)]
struct Lane {
    bucket: Mutex<(Rate, Arc<DefaultDirectRateLimiter>)>,
    paused_until: Mutex<Option<Instant>>,
}

impl Lane {
    fn new(rate: Rate) -> Self {
        Self {
            bucket: Mutex::new((rate, Arc::new(rate.limiter()))),
            paused_until: Mutex::new(None),
        }
    }

    fn bucket(&self) -> MutexGuard<'_, (Rate, Arc<DefaultDirectRateLimiter>)> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pause(&self, delay: Duration) {
        let until = Instant::now() + delay;
        let mut paused = self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        if paused.is_none_or(|current| current < until) {
            *paused = Some(until);
        }
    }

    fn paused_for(&self) -> Option<Duration> {
        let paused = self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        let left = (*paused)?.checked_duration_since(Instant::now())?;
        (!left.is_zero()).then_some(left)
    }
}

impl Throttle {
    pub fn new(rates: Rates) -> Self {
        Self {
            writes: Lane::new(rates.writes),
            reads: Lane::new(rates.reads),
        }
    }

    /// The rate of writes that holds now.
    pub fn writes(&self) -> Rate {
        self.writes.bucket().0
    }

    /// Changes the rate of writes. Whoever waits for a turn by the former rate still gets it so.
    pub fn set_writes(&self, rate: Rate) {
        let mut bucket = self.writes.bucket();
        if bucket.0 != rate {
            *bucket = (rate, Arc::new(rate.limiter()));
        }
    }

    fn lane(&self, is_write: bool) -> &Lane {
        if is_write { &self.writes } else { &self.reads }
    }

    /// Waits for a turn. `Err` with the time to come back after, when ARM has asked for a longer pause than
    /// `patience.pause`, or when so many others wait that the turn does not come within `patience.turn`.
    pub(crate) async fn turn(&self, is_write: bool, patience: Patience) -> Result<(), Duration> {
        let lane = self.lane(is_write);
        if let Some(left) = lane.paused_for() {
            if left > patience.pause {
                return Err(left);
            }
            tokio::time::sleep(left).await;
        }
        let bucket = Arc::clone(&lane.bucket().1);
        let turn = tokio::time::timeout(patience.turn, bucket.until_ready());
        turn.await.map_err(|_| patience.turn)
    }

    /// ARM answered 429 to a call of this kind.
    pub(crate) fn refused(&self, is_write: bool, delay: Duration) {
        self.lane(is_write).pause(delay);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        pause: Duration::from_secs(1),
        turn: Duration::from_secs(1),
    };

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let throttle = Throttle::new(Rates {
            writes: Rate::new(1, 1),
            ..Rates::default()
        });
        throttle.turn(true, PATIENCE).await.unwrap();
        let patience = Patience {
            turn: Duration::from_millis(20),
            ..PATIENCE
        };
        assert_eq!(throttle.turn(true, patience).await, Err(patience.turn));
        // The platform raises the limit: whoever comes now goes at once.
        throttle.set_writes(Rate::new(10, 10));
        assert_eq!(throttle.turn(true, patience).await, Ok(()));
        // The same rate again is no fresh burst.
        for _ in 0..9 {
            throttle.set_writes(Rate::new(10, 10));
            throttle.turn(true, patience).await.unwrap();
        }
        assert!(throttle.turn(true, patience).await.is_err());
    }

    #[tokio::test]
    async fn a_refusal_holds_back_its_kind_only() {
        let throttle = Throttle::new(Rates::default());
        throttle.refused(true, Duration::from_mins(1));
        assert!(throttle.turn(true, PATIENCE).await.is_err());
        assert!(throttle.turn(false, PATIENCE).await.is_ok());
    }

    #[tokio::test]
    async fn beyond_the_burst_calls_are_spread() {
        let throttle = Throttle::new(Rates {
            writes: Rate::new(20, 2),
            reads: Rate::new(25, 250),
        });
        let start = std::time::Instant::now();
        for _ in 0..6 {
            throttle.turn(true, PATIENCE).await.unwrap();
        }
        assert!(
            start.elapsed() >= Duration::from_millis(190),
            "{:?}",
            start.elapsed()
        );
    }
}
