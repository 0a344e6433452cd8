//! Log lines about what may go on for long: a reason goes in, and now and then it comes out that a line is due, for how many times.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines for the same reason.
const EVERY: Duration = Duration::from_secs(10);

/// Keeps a log from filling. Reasons come from closed sets, so there are few of them.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<HashMap<&'static str, Said>>);

#[derive(Debug)]
struct Said {
    at: Instant,
    unsaid: u64,
}

impl Seldom {
    /// Count one more time. If a line is due: how many times it speaks of, this one included.
    pub fn due(&self, reason: &'static str) -> Option<u64> {
        self.due_at(reason, Instant::now())
    }

    fn due_at(&self, reason: &'static str, now: Instant) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match said.get_mut(reason) {
            Some(last) if now.duration_since(last.at) < EVERY => {
                last.unsaid += 1;
                None
            }
            Some(last) => {
                last.at = now;
                Some(std::mem::take(&mut last.unsaid) + 1)
            }
            None => {
                said.insert(reason, Said { at: now, unsaid: 0 });
                Some(1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_ten_seconds_for_each_reason() {
        let seldom = Seldom::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(seldom.due_at("a", start), Some(1));
        assert_eq!(seldom.due_at("a", after(1)), None);
        assert_eq!(seldom.due_at("b", after(1)), Some(1));
        assert_eq!(seldom.due_at("a", after(9)), None);
        assert_eq!(seldom.due_at("a", after(10)), Some(3));
        assert_eq!(seldom.due_at("a", after(11)), None);
        assert_eq!(seldom.due_at("a", after(60)), Some(2));
    }
}
