//! What one kind of question may take of the weather service: a wish to ask goes in, and leave to do so comes out, or when to come
//! back. Alerts have a lane of their own, so that no crowd of forecasts, and no forecasts that hang, take their places or their budget.

use super::error::NwsError;
use crate::limit::Bucket;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

/// Longest wait for a place among the requests that are under way.
const LONGEST_QUEUE: Duration = Duration::from_secs(4);
/// So many requests in a row without any answer, and the service is taken to be silent.
const SILENT: u32 = 5;
/// A silent service is left alone for this long; then one request finds out.
const LEFT_ALONE: Duration = Duration::from_secs(5);

/// Places, budget and health of one kind of question.
#[derive(Debug)]
pub(super) struct Lane {
    places: Semaphore,
    /// What this lane may ask, beside what the replica may ask.
    share: Option<Bucket>,
    all: Arc<Bucket>,
    health: Mutex<Health>,
}

impl Lane {
    pub(super) fn open(places: usize, share: Option<Bucket>, all: Arc<Bucket>) -> Lane {
        Lane {
            places: Semaphore::new(places),
            share,
            all,
            health: Mutex::default(),
        }
    }

    /// Leave for one request, whose end has to be told.
    pub(super) async fn enter(&self) -> Result<Entered<'_>, NwsError> {
        self.check(Health::check)?;
        let Ok(Ok(place)) = timeout(LONGEST_QUEUE, self.places.acquire()).await else {
            return Err(NwsError::Busy);
        };
        // Those in front may have found it silent.
        self.check(Health::check)?;
        let now = std::time::Instant::now();
        if let Some(share) = &self.share {
            share.take(now).map_err(NwsError::OverBudget)?;
        }
        self.all.take(now).map_err(NwsError::OverBudget)?;
        self.check(Health::begin)?;
        Ok(Entered {
            lane: self,
            _place: place,
        })
    }

    fn check(&self, ask: fn(&mut Health, Instant) -> Result<(), Duration>) -> Result<(), NwsError> {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        ask(&mut health, Instant::now()).map_err(NwsError::Silent)
    }
}

/// A request that is under way. Dropped without a word it says nothing about the service.
#[derive(Debug)]
pub(super) struct Entered<'a> {
    lane: &'a Lane,
    _place: SemaphorePermit<'a>,
}

impl Entered<'_> {
    /// There was an answer, whatever it was, or there was none.
    pub(super) fn end(&self, answered: bool) {
        let mut health = self.lane.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.ended(answered, Instant::now());
    }
}

/// Whether the service answers at all.
#[derive(Debug, Default)]
struct Health {
    in_a_row: u32,
    left_alone_until: Option<Instant>,
}

impl Health {
    fn check(&mut self, now: Instant) -> Result<(), Duration> {
        match self.left_alone_until {
            Some(until) if now < until => Err(until - now),
            _ => Ok(()),
        }
    }

    /// The same, for who is going to ask: the first one after the pause, which the others wait for once more.
    fn begin(&mut self, now: Instant) -> Result<(), Duration> {
        self.check(now)?;
        if let Some(until) = &mut self.left_alone_until {
            *until = now + LEFT_ALONE;
        }
        Ok(())
    }

    fn ended(&mut self, answered: bool, now: Instant) {
        if answered {
            *self = Health::default();
            return;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.in_a_row >= SILENT {
            self.left_alone_until = Some(now + LEFT_ALONE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unlimited() -> Arc<Bucket> {
        Arc::new(Bucket::per_minute(u32::MAX, std::time::Instant::now()).unwrap())
    }

    async fn silence(lane: &Lane) {
        for _ in 0..SILENT {
            lane.enter().await.unwrap().end(false);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_service_is_asked_by_one_at_a_time_until_it_answers() {
        let lane = Lane::open(4, None, unlimited());
        silence(&lane).await;
        let refused = lane.enter().await.unwrap_err();
        assert!(
            matches!(refused, NwsError::Silent(wait) if wait == LEFT_ALONE),
            "{refused}"
        );
        assert_eq!(refused.advice(), "Try again in 5 seconds.");
        tokio::time::sleep(LEFT_ALONE).await;
        let trial = lane.enter().await.unwrap();
        assert!(
            matches!(lane.enter().await, Err(NwsError::Silent(_))),
            "one finds out"
        );
        trial.end(false);
        assert!(matches!(lane.enter().await, Err(NwsError::Silent(_))));
        tokio::time::sleep(LEFT_ALONE).await;
        drop(lane.enter().await.unwrap());
        assert!(
            lane.enter().await.is_err(),
            "one that was given up counts like the others"
        );
        tokio::time::sleep(LEFT_ALONE).await;
        lane.enter().await.unwrap().end(true);
        for _ in 1..SILENT {
            lane.enter().await.unwrap().end(false);
        }
        assert!(lane.enter().await.is_ok(), "counted from the beginning");
    }

    #[tokio::test(start_paused = true)]
    async fn few_at_once_and_nobody_waits_for_ever() {
        let lane = Lane::open(2, None, unlimited());
        let (first, _second) = (lane.enter().await.unwrap(), lane.enter().await.unwrap());
        let before = Instant::now();
        assert!(matches!(lane.enter().await, Err(NwsError::Busy)));
        assert_eq!(before.elapsed(), LONGEST_QUEUE);
        drop(first);
        assert!(lane.enter().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn those_in_the_queue_do_not_find_out_one_after_another() {
        let lane = Arc::new(Lane::open(5, None, unlimited()));
        let mut held = Vec::new();
        for _ in 0..SILENT {
            held.push(lane.enter().await.unwrap());
        }
        let waiting: Vec<_> = (0..100)
            .map(|_| {
                let lane = Arc::clone(&lane);
                tokio::spawn(async move { lane.enter().await.map(drop) })
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(3)).await;
        for entered in held {
            entered.end(false);
        }
        for waited in waiting {
            assert!(matches!(waited.await.unwrap(), Err(NwsError::Silent(_))));
        }
    }

    #[tokio::test]
    async fn forecasts_leave_a_part_of_the_budget_to_alerts() {
        let now = std::time::Instant::now();
        let all = Arc::new(Bucket::per_minute(8, now).unwrap());
        let forecasts = Lane::open(4, Bucket::per_minute(6, now), Arc::clone(&all));
        let alerts = Lane::open(4, None, all);
        for _ in 0..6 {
            assert!(forecasts.enter().await.is_ok());
        }
        assert!(matches!(forecasts.enter().await, Err(NwsError::OverBudget(_))));
        for _ in 0..2 {
            assert!(alerts.enter().await.is_ok());
        }
        assert!(matches!(alerts.enter().await, Err(NwsError::OverBudget(_))));
    }
}
