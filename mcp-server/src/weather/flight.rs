//! One fetch for all who wait for the same: a key goes in, and what a task of its own brings for it comes out, to each of them.
//!
//! The task has an end of its own. Callers only wait: whoever goes away stops nothing and starts nothing again, and a panic in the task
//! costs its waiters this one answer. What failed is told again for a few seconds, so that a sick service is not asked by each caller.

use crate::nws::error::NwsError;
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// Time for a fetch, retries and redirects included, and so for a whole call.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);
/// Fetches of one kind at once, and failures that are remembered beside them: some KiB each.
const MOST: usize = 1024;

/// What a fetch came to. Errors are shared by those who waited.
pub(super) type Outcome<V> = Result<V, Arc<NwsError>>;

/// The fetches of one kind that are under way, and those that failed a moment ago.
pub(super) struct Flights<K, V>(Arc<Mutex<HashMap<K, Flight<V>>>>);

enum Flight<V> {
    UnderWay(watch::Receiver<Option<Outcome<V>>>),
    Failed { error: Arc<NwsError>, until: Instant },
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Flights<K, V> {
        Flights(Arc::default())
    }
}

impl<K, V> fmt::Debug for Flights<K, V> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Flights")
    }
}

impl<K, V> Flights<K, V>
where
    K: Hash + Eq + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Wait for what is fetched for `key`; `fetch` is begun only when nobody else's is under way and none failed just now.
    pub(super) async fn join<F>(&self, key: K, fetch: impl FnOnce() -> F) -> Outcome<V>
    where
        F: Future<Output = Outcome<V>> + Send + 'static,
    {
        let mut landed = self.board(key, fetch)?;
        let outcome = match landed.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            // The task is gone, and its outcome with it.
            Err(_) => None,
        };
        outcome.unwrap_or_else(|| Err(Arc::new(NwsError::Lost)))
    }

    fn board<F>(
        &self,
        key: K,
        fetch: impl FnOnce() -> F,
    ) -> Result<watch::Receiver<Option<Outcome<V>>>, Arc<NwsError>>
    where
        F: Future<Output = Outcome<V>> + Send + 'static,
    {
        let mut flights = locked(&self.0);
        match flights.get(&key) {
            Some(Flight::UnderWay(landed)) => return Ok(landed.clone()),
            Some(Flight::Failed { error, until }) => {
                let wait = until.saturating_duration_since(Instant::now());
                if !wait.is_zero() {
                    let error = Arc::clone(error);
                    return Err(Arc::new(NwsError::StillFailing { error, wait }));
                }
            }
            None => {}
        }
        if flights.len() >= MOST {
            flights.retain(|_, flight| matches!(flight, Flight::UnderWay(_)));
        }
        if flights.len() >= MOST {
            return Err(Arc::new(NwsError::Busy));
        }
        let (land, landed) = watch::channel(None);
        flights.insert(key.clone(), Flight::UnderWay(landed.clone()));
        drop(flights);
        let mut landing = Landing {
            flights: Arc::clone(&self.0),
            key,
            failed: None,
        };
        let fetch = fetch();
        tokio::spawn(async move {
            let fetched = timeout(DEADLINE, fetch).await;
            let outcome = fetched.unwrap_or_else(|_| Err(Arc::new(NwsError::TimedOut)));
            landing.failed = outcome.as_ref().err().cloned();
            // Before it is told, so that whoever is told and asks again meets what is true now.
            drop(landing);
            land.send_replace(Some(outcome));
        });
        Ok(landed)
    }
}

/// Makes room for the next fetch of the key, also when this one ends in a panic.
struct Landing<K: Hash + Eq, V> {
    flights: Arc<Mutex<HashMap<K, Flight<V>>>>,
    key: K,
    failed: Option<Arc<NwsError>>,
}

impl<K: Hash + Eq, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        let mut flights = locked(&self.flights);
        let remembered = self
            .failed
            .take()
            .and_then(|error| Some((error.remembered()?, error)));
        match (remembered, flights.get_mut(&self.key)) {
            (Some((time, error)), Some(flight)) => {
                let until = Instant::now() + time;
                *flight = Flight::Failed { error, until };
            }
            _ => {
                flights.remove(&self.key);
            }
        }
    }
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each use leaves the map whole.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use std::sync::atomic::{AtomicUsize, Ordering};

    type Kept = Flights<&'static str, u32>;

    fn failing() -> Outcome<u32> {
        Err(Arc::new(NwsError::TimedOut))
    }

    #[tokio::test(start_paused = true)]
    async fn three_hundred_callers_who_leave_in_order_make_one_fetch() {
        let flights = Arc::new(Kept::default());
        let fetches = Arc::new(AtomicUsize::new(0));
        let callers: Vec<_> = (0..300)
            .map(|_| {
                let (flights, fetches) = (Arc::clone(&flights), Arc::clone(&fetches));
                tokio::spawn(async move {
                    let fetch = || {
                        fetches.fetch_add(1, Ordering::Relaxed);
                        pending()
                    };
                    flights.join("key", fetch).await
                })
            })
            .collect();
        for caller in callers {
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert!(!caller.is_finished(), "the gate never opens");
            caller.abort();
            assert!(caller.await.unwrap_err().is_cancelled());
        }
        assert_eq!(fetches.load(Ordering::Relaxed), 1);
        // Nobody waits, and still it has its end.
        tokio::time::sleep(DEADLINE).await;
        let told = flights.join("key", || async { Ok(1) }).await.unwrap_err();
        assert!(matches!(*told, NwsError::StillFailing { .. }), "{told}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_calls_a_second_on_a_hung_service_make_one_fetch_a_deadline() {
        let flights = Arc::new(Kept::default());
        let fetches = Arc::new(AtomicUsize::new(0));
        let begun = Instant::now();
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..6000 {
            let (flights, fetches) = (Arc::clone(&flights), Arc::clone(&fetches));
            callers.spawn(async move {
                let fetch = || {
                    fetches.fetch_add(1, Ordering::Relaxed);
                    pending()
                };
                assert!(flights.join("key", fetch).await.is_err());
            });
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        while let Some(caller) = callers.join_next().await {
            caller.expect("no caller panicked");
        }
        let deadlines = begun.elapsed().as_secs() / DEADLINE.as_secs();
        let fetches = fetches.load(Ordering::Relaxed);
        assert!(
            fetches >= 4 && fetches as u64 <= deadlines,
            "{fetches} in {deadlines} deadlines"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_told_again_for_a_while_and_a_lasting_one_is_not_kept() {
        let flights = Kept::default();
        assert!(flights.join("key", || async { failing() }).await.is_err());
        let told = flights.join("key", || async { Ok(1) }).await.unwrap_err();
        assert_eq!(told.to_string(), NwsError::TimedOut.to_string());
        assert_eq!(told.reason(), NwsError::TimedOut.reason());
        assert_eq!(told.advice(), "Try again in 5 seconds.");
        assert_eq!(flights.join("other", || async { Ok(2) }).await.unwrap(), 2);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(flights.join("key", || async { Ok(3) }).await.unwrap(), 3);
        // About what was asked, so it costs one request each time, like any other answer that is not kept.
        let redirected = || async { Err(Arc::new(NwsError::Redirect)) };
        assert!(flights.join("key", redirected).await.is_err());
        assert_eq!(flights.join("key", || async { Ok(4) }).await.unwrap(), 4);
    }

    #[tokio::test]
    async fn a_panic_costs_its_waiters_one_answer() {
        let flights = Arc::new(Kept::default());
        let waiting = {
            let flights = Arc::clone(&flights);
            tokio::spawn(async move {
                flights
                    .join("key", || async { panic!("a dependency asserts") })
                    .await
            })
        };
        let told = waiting.await.expect("the caller did not panic").unwrap_err();
        assert!(matches!(*told, NwsError::Lost), "{told}");
        assert_eq!(flights.join("key", || async { Ok(1) }).await.unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_an_end_to_how_many_there_are() {
        let flights: Arc<Flights<usize, u32>> = Arc::default();
        let mut callers = tokio::task::JoinSet::new();
        for key in 0..MOST {
            let flights = Arc::clone(&flights);
            callers.spawn(async move { flights.join(key, pending).await });
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        let told = flights.join(MOST, || async { Ok(1) }).await.unwrap_err();
        assert!(matches!(*told, NwsError::Busy), "{told}");
        callers.join_all().await;
        // All of them failed and are remembered, which keeps nobody out.
        assert_eq!(flights.join(MOST, || async { Ok(1) }).await.unwrap(), 1);
    }
}
