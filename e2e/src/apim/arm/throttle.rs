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
        Self { tokens: size, size, per_second, filled: now }
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

#[derive(Debug)]
pub(crate) struct Throttle {
    reads: Bucket,
    writes: Bucket,
    deletes: Bucket,
}

/// What a request took from its bucket.
#[derive(Debug, PartialEq)]
pub(crate) enum Taken {
    /// Header and value that say what remains.
    Remaining(&'static str, String),
    /// Whole seconds to wait.
    Wait(u64),
}

impl Throttle {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            reads: Bucket::new(250.0, 25.0, now),
            writes: Bucket::new(200.0, 10.0, now),
            deletes: Bucket::new(200.0, 10.0, now),
        }
    }

    /// A POST counts as a write, also one that only reads secrets.
    pub(crate) fn take(&mut self, method: &Method, now: Instant) -> Taken {
        let (bucket, header) = match *method {
            Method::GET | Method::HEAD => (&mut self.reads, "x-ms-ratelimit-remaining-subscription-reads"),
            Method::DELETE => (&mut self.deletes, "x-ms-ratelimit-remaining-subscription-deletes"),
            _ => (&mut self.writes, "x-ms-ratelimit-remaining-subscription-writes"),
        };
        match bucket.take(now) {
            Ok(left) => Taken::Remaining(header, format!("{left:.0}")),
            Err(wait) => Taken::Wait(wait.as_secs() + 1),
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
            let expected = Taken::Remaining("x-ms-ratelimit-remaining-subscription-writes", left.to_string());
            assert_eq!(throttle.take(&Method::PUT, start), expected);
        }
        assert_eq!(throttle.take(&Method::POST, start), Taken::Wait(1));
        assert!(matches!(throttle.take(&Method::DELETE, start), Taken::Remaining(..)));
        let later = start + Duration::from_secs(1);
        let granted = (0..20).filter(|_| matches!(throttle.take(&Method::PATCH, later), Taken::Remaining(..))).count();
        assert_eq!(granted, 10);
    }
}
