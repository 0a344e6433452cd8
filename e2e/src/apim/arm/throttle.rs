//! ARM's own throttling: token buckets per kind of operation.
//! In: a verb and the time. Out: what remains, or how long to wait.
//! Source: "Understand how Azure Resource Manager throttles requests" (per region, subscription and principal).

use std::time::{Duration, Instant};

use http::Method;

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    size: f64,
    per_second: f64,
    filled: Instant,
}

impl Bucket {
    fn new(size: f64, per_second: f64, now: Instant) -> Self {
        Self {
            tokens: size,
            size,
            per_second,
            filled: now,
        }
    }

    fn take(&mut self, now: Instant) -> Result<f64, Duration> {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_second).min(self.size);
        self.filled = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            Ok(self.tokens.floor())
        } else {
            Err(Duration::from_secs_f64((1.0 - self.tokens) / self.per_second))
        }
    }
}

/// The buckets of one kind of operation: the principal's own, and the subscription's for all principals.
#[derive(Debug)]
struct Pair {
    own: Bucket,
    global: Bucket,
    headers: [&'static str; 2],
}

#[derive(Debug)]
pub(crate) struct Throttle {
    reads: Pair,
    writes: Pair,
    deletes: Pair,
}

/// What a request took from its buckets.
#[derive(Debug, PartialEq)]
pub(crate) enum Taken {
    /// Headers and values that say what remains.
    Remaining([(&'static str, String); 2]),
    /// Whole seconds to wait.
    Wait(u64),
}

impl Throttle {
    /// The global sizes are those of the recorded headers.
    pub(crate) fn new(now: Instant) -> Self {
        let pair = |size: f64, per_second: f64, global: f64, headers| Pair {
            own: Bucket::new(size, per_second, now),
            global: Bucket::new(global, per_second * 15.0, now),
            headers,
        };
        Self {
            reads: pair(
                250.0,
                25.0,
                16_500.0,
                [
                    "x-ms-ratelimit-remaining-subscription-reads",
                    "x-ms-ratelimit-remaining-subscription-global-reads",
                ],
            ),
            writes: pair(
                200.0,
                10.0,
                12_000.0,
                [
                    "x-ms-ratelimit-remaining-subscription-writes",
                    "x-ms-ratelimit-remaining-subscription-global-writes",
                ],
            ),
            deletes: pair(
                200.0,
                10.0,
                12_000.0,
                [
                    "x-ms-ratelimit-remaining-subscription-deletes",
                    "x-ms-ratelimit-remaining-subscription-global-deletes",
                ],
            ),
        }
    }

    /// A POST counts as a write, also one that only reads secrets (recorded).
    pub(crate) fn take(&mut self, method: &Method, now: Instant) -> Taken {
        let pair = match *method {
            Method::GET | Method::HEAD => &mut self.reads,
            Method::DELETE => &mut self.deletes,
            _ => &mut self.writes,
        };
        match (pair.own.take(now), pair.global.take(now)) {
            (Ok(own), Ok(global)) => {
                let [first, second] = pair.headers;
                Taken::Remaining([(first, format!("{own:.0}")), (second, format!("{global:.0}"))])
            }
            (Err(wait), _) | (_, Err(wait)) => Taken::Wait(wait.as_secs() + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_hundred_writes_at_once_then_ten_a_second() {
        let start = Instant::now();
        let mut throttle = Throttle::new(start);
        for left in (0..200).rev() {
            let Taken::Remaining([own, global]) = throttle.take(&Method::PUT, start) else {
                panic!("{left} are left")
            };
            assert_eq!(
                own,
                ("x-ms-ratelimit-remaining-subscription-writes", left.to_string())
            );
            assert_eq!(global.1, (11_800 + left).to_string());
        }
        assert_eq!(throttle.take(&Method::POST, start), Taken::Wait(1));
        assert!(matches!(
            throttle.take(&Method::DELETE, start),
            Taken::Remaining(_)
        ));
        let later = start + Duration::from_secs(1);
        let granted = (0..20)
            .filter(|_| matches!(throttle.take(&Method::PATCH, later), Taken::Remaining(_)))
            .count();
        assert_eq!(granted, 10);
    }
}
