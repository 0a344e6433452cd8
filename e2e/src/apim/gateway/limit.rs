//! Call counters of `rate-limit` and `rate-limit-by-key`.
//! In: a counter's name, its limit and the time. Out: whether the call may pass, and when the next one may.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::apim::switches::RateLimiter;

#[derive(Debug, Default)]
struct Counter {
    /// Sliding window: when the calls of the window came.
    calls: VecDeque<Instant>,
    /// Token bucket: what is left, and since when.
    bucket: Option<(f64, Instant)>,
}

#[derive(Debug, Default)]
pub(crate) struct Counts(HashMap<String, Counter>);

/// Calls that remain, or the time to wait.
pub(crate) type Verdict = Result<u32, Duration>;

impl Counts {
    pub(crate) fn take(
        &mut self,
        name: &str,
        calls: u32,
        period: Duration,
        now: Instant,
        how: RateLimiter,
    ) -> Verdict {
        let counter = self.0.entry(name.to_owned()).or_default();
        match how {
            RateLimiter::SlidingWindow => counter.slide(calls, period, now),
            RateLimiter::TokenBucket => counter.fill(calls, period, now),
        }
    }
}

impl Counter {
    fn slide(&mut self, calls: u32, period: Duration, now: Instant) -> Verdict {
        while self.calls.front().is_some_and(|first| *first + period <= now) {
            self.calls.pop_front();
        }
        let used = u32::try_from(self.calls.len()).unwrap_or(u32::MAX);
        if used < calls {
            self.calls.push_back(now);
            return Ok(calls - used - 1);
        }
        let next = self
            .calls
            .front()
            .map_or(period, |first| (*first + period).saturating_duration_since(now));
        Err(next)
    }

    fn fill(&mut self, calls: u32, period: Duration, now: Instant) -> Verdict {
        let size = f64::from(calls);
        let rate = size / period.as_secs_f64();
        let (left, since) = self.bucket.unwrap_or((size, now));
        let left = (left + now.saturating_duration_since(since).as_secs_f64() * rate).min(size);
        if left >= 1.0 {
            self.bucket = Some((left - 1.0, now));
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and a u32"
            )]
            return Ok((left - 1.0) as u32);
        }
        self.bucket = Some((left, now));
        Err(Duration::from_secs_f64((1.0 - left) / rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_counting_stop_at_the_limit_and_recover() {
        let period = Duration::from_mins(1);
        for how in [RateLimiter::SlidingWindow, RateLimiter::TokenBucket] {
            let mut counts = Counts::default();
            let start = Instant::now();
            assert_eq!(counts.take("a", 2, period, start, how), Ok(1));
            assert_eq!(counts.take("a", 2, period, start, how), Ok(0));
            let wait = counts.take("a", 2, period, start, how).unwrap_err();
            assert!(
                wait > Duration::from_secs(29) && wait <= period,
                "{how:?} {wait:?}"
            );
            assert_eq!(
                counts.take("b", 2, period, start, how),
                Ok(1),
                "counters are apart"
            );
            assert!(
                counts
                    .take("a", 2, period, start + wait + Duration::from_millis(1), how)
                    .is_ok()
            );
        }
    }
}
