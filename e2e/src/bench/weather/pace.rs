//! When requests are due: as fast as answers come, or at a fixed rate whatever becomes of them.
//!
//! At a fixed rate a request's time counts from when it was due, not from when a connection was free for it: a server that stops
//! for a while is charged for every request that had to wait (otherwise called coordinated omission).

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

#[derive(Debug)]
pub enum Pace {
    AsAnswered,
    Fixed(Mutex<Schedule>),
}

/// One after the other.
#[derive(Debug)]
pub struct Schedule {
    next: Instant,
    every: Duration,
}

impl Pace {
    /// The first is due at `begin`.
    pub fn with_rate(per_second: Option<u32>, begin: Instant) -> Self {
        match per_second {
            None => Self::AsAnswered,
            Some(rate) => Self::Fixed(Mutex::new(Schedule {
                next: begin,
                every: Duration::from_secs(1) / rate.max(1),
            })),
        }
    }

    /// Waits until the next request is due, and says when that was.
    pub async fn due(&self) -> Instant {
        let schedule = match self {
            Self::AsAnswered => return Instant::now(),
            Self::Fixed(schedule) => schedule,
        };
        // Whoever is free waits here, first come first served, so only one looks at the clock.
        let mut schedule = schedule.lock().await;
        let due = schedule.next;
        schedule.next = due + schedule.every;
        // Not a timer, as tokio's has a grain of a millisecond. The load has its core for itself.
        while Instant::now() < due {
            tokio::task::yield_now().await;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_late_stays_due_when_it_was() {
        let begin = Instant::now();
        let pace = Pace::with_rate(Some(100), begin);
        assert_eq!(pace.due().await, begin);
        // Nobody asked for a while, as when every connection waits for a slow answer.
        tokio::time::sleep(Duration::from_millis(35)).await;
        for number in 1..=5_u32 {
            let due = pace.due().await;
            assert_eq!(due, begin + Duration::from_millis(10) * number);
            assert!(Instant::now() >= due);
        }
    }
}
