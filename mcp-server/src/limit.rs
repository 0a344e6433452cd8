//! A token bucket: a rate goes in, and for each use permission comes out, or how long to wait for it.
//!
//! One atomic number (the generic cell rate algorithm, ITU-T I.371), so that asking costs next to nothing on the hot path.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const MINUTE: u64 = 60_000_000_000;

/// So many uses at once, refilled evenly over a minute. The clock is the caller's.
#[derive(Debug)]
pub struct Bucket {
    start: Instant,
    /// Nanoseconds in which one use grows back.
    each: u64,
    /// Nanoseconds after `start` at which the bucket will be full again.
    full_at: AtomicU64,
}

impl Bucket {
    /// A full bucket of `uses`; `None` is no limit, for a rate of 0.
    pub fn per_minute(uses: u32, start: Instant) -> Option<Bucket> {
        Some(Bucket {
            start,
            each: MINUTE.checked_div(u64::from(uses))?,
            full_at: AtomicU64::new(0),
        })
    }

    /// Use once, or learn after which time that will be possible.
    pub fn take(&self, now: Instant) -> Result<(), Duration> {
        let now = self.nanoseconds(now);
        let mut wait = 0;
        let taken = self
            .full_at
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |full_at| {
                let after = full_at.max(now) + self.each;
                wait = (after - now).saturating_sub(MINUTE);
                (wait == 0).then_some(after)
            });
        taken.map(|_| ()).map_err(|_| Duration::from_nanos(wait))
    }

    /// Give out nothing for this long, and then at the even rate only.
    pub fn close_for(&self, now: Instant, time: Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(MINUTE).min(10 * MINUTE);
        let full_at = self.nanoseconds(now) + time + MINUTE - self.each;
        self.full_at.fetch_max(full_at, Ordering::AcqRel);
    }

    fn nanoseconds(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX / 2)
    }
}

/// Whole seconds for Retry-After and for people; never 0, which would mean at once.
pub fn whole_seconds(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000_000))
        .unwrap_or(u64::MAX)
        .max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn as_many_at_once_as_it_holds_and_then_at_the_even_rate() {
        let start = Instant::now();
        let bucket = Bucket::per_minute(60, start).unwrap();
        for _ in 0..60 {
            assert_eq!(bucket.take(start), Ok(()));
        }
        assert_eq!(bucket.take(start), Err(seconds(1.0)));
        assert_eq!(bucket.take(start + seconds(0.75)), Err(seconds(0.25)));
        assert_eq!(bucket.take(start + seconds(1.0)), Ok(()));
        assert!(bucket.take(start + seconds(1.0)).is_err());
        for _ in 0..60 {
            assert_eq!(bucket.take(start + seconds(1000.0)), Ok(()));
        }
        assert!(
            bucket.take(start + seconds(1000.0)).is_err(),
            "it does not overflow"
        );
    }

    #[test]
    fn closed_for_a_time() {
        let start = Instant::now();
        let bucket = Bucket::per_minute(60, start).unwrap();
        bucket.close_for(start, seconds(5.0));
        assert_eq!(bucket.take(start), Err(seconds(5.0)));
        assert_eq!(bucket.take(start + seconds(5.0)), Ok(()));
        assert_eq!(bucket.take(start + seconds(5.0)), Err(seconds(1.0)));
    }

    #[test]
    fn no_rate_is_no_limit_and_a_wait_is_never_nothing() {
        assert!(Bucket::per_minute(0, Instant::now()).is_none());
        assert_eq!(whole_seconds(Duration::ZERO), 1);
        assert_eq!(whole_seconds(seconds(2.000_001)), 3);
    }

    proptest! {
        #[test]
        fn never_more_than_twice_the_rate_in_a_minute(
            uses in 1..200_u32,
            steps in proptest::collection::vec(0..400_u64, 0..400),
        ) {
            let start = Instant::now();
            let bucket = Bucket::per_minute(uses, start).unwrap();
            let (mut now, mut taken) = (start, 0_u32);
            for step in steps {
                now += Duration::from_millis(step);
                if now.duration_since(start) > Duration::from_mins(1) {
                    break;
                }
                taken += u32::from(bucket.take(now).is_ok());
            }
            prop_assert!(taken <= 2 * uses);
        }

        #[test]
        fn the_wait_that_it_tells_is_enough(uses in 1..u32::MAX, ahead in 0..20_u32) {
            let start = Instant::now();
            let bucket = Bucket::per_minute(uses, start).unwrap();
            bucket.close_for(start, Duration::from_millis(u64::from(ahead) * 100));
            if let Err(wait) = bucket.take(start) {
                prop_assert_eq!(bucket.take(start + wait), Ok(()));
            }
        }
    }
}
