//! What the weather service has said, and since when it is known: a fetch goes in, and what it brought comes out, or, when it
//! fails in a way that passes, the last thing that the service did say, marked as stale and not older than a bound.

use crate::nws::client::Fetched;
use crate::nws::error::NwsError;
use crate::nws::freshness::AsOf;
use crate::seldom::Seldom;
use crate::tools::render::Age;
use moka::Expiry;
use moka::future::Cache;
use std::fmt;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Time for a fetch when there is something stale to answer with; two of them fit into a call.
const PATIENCE: Duration = Duration::from_secs(4);
/// After a failure, stale answers are given for this long before the service is asked again, plus a random part of it.
const PAUSE: Duration = Duration::from_secs(10);
/// A wish to be left alone for longer than this is not heeded for ever: what is stale gets worse with time.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// A value and its age.
#[derive(Debug, Clone)]
pub(super) struct Known<V> {
    pub(super) value: V,
    /// When the service said so.
    pub(super) as_of: AsOf,
    /// Whether the service should have been asked again, but could not be.
    pub(super) stale: bool,
    /// When it is to be asked again.
    until: Instant,
}

impl<V> Known<V> {
    pub(super) fn fresh(value: V, fetched: &Fetched) -> Known<V> {
        Known {
            value,
            as_of: fetched.as_of,
            stale: false,
            until: Instant::now() + fetched.fresh,
        }
    }

    /// What its readers have to be told.
    pub(super) fn age(&self) -> Age {
        Age {
            as_of: self.as_of.wall,
            stale_for: self.stale.then(|| self.as_of.instant.elapsed()),
        }
    }

    /// Another form of the same.
    pub(super) fn with<W>(&self, value: W) -> Known<W> {
        Known {
            value,
            as_of: self.as_of,
            stale: self.stale,
            until: self.until,
        }
    }
}

/// A cache that drops each value when the service is to be asked again.
pub(super) fn remember<K, V>(bytes: u64, weight: fn(&V) -> usize) -> Cache<K, Known<V>>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    bounded(bytes, weight, |known| known.until)
}

fn bounded<K, V>(
    bytes: u64,
    weight: fn(&V) -> usize,
    end: impl Fn(&Known<V>) -> Instant + Send + Sync + 'static,
) -> Cache<K, Known<V>>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    Cache::builder()
        .max_capacity(bytes)
        .weigher(move |_, known: &Known<V>| {
            u32::try_from(weight(&known.value) + ENTRY_BYTES).unwrap_or(u32::MAX)
        })
        .expire_after(At(end))
        .build()
}

/// About what an entry costs beside its value.
const ENTRY_BYTES: usize = 256;

/// Tells a cache when a value ends.
struct At<F>(F);

impl<K, V, F: Fn(&Known<V>) -> Instant> Expiry<K, Known<V>> for At<F> {
    fn expire_after_create(&self, _key: &K, known: &Known<V>, created: Instant) -> Option<Duration> {
        Some((self.0)(known).saturating_duration_since(created))
    }

    fn expire_after_update(
        &self,
        _key: &K,
        known: &Known<V>,
        updated: Instant,
        _left: Option<Duration>,
    ) -> Option<Duration> {
        Some((self.0)(known).saturating_duration_since(updated))
    }
}

/// The last values that the service did give.
pub(super) struct Last<K, V> {
    values: Cache<K, Known<V>>,
    longest: Duration,
    failures: Seldom,
}

impl<K, V> fmt::Debug for Last<K, V> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Last(for {:?})", self.longest)
    }
}

impl<K, V> Last<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Keep values until they are `longest` old, within so many bytes.
    pub(super) fn kept_for(longest: Duration, bytes: u64, weight: fn(&V) -> usize) -> Last<K, V> {
        let end = move |known: &Known<V>| known.as_of.instant + longest;
        Last {
            values: bounded(bytes, weight, end),
            longest,
            failures: Seldom::default(),
        }
    }

    /// What `fetch` brings, or the last that is known. `luck` in 0..1 spreads the next attempts.
    pub(super) async fn refresh(
        &self,
        key: &K,
        luck: f64,
        fetch: impl Future<Output = Result<Known<V>, NwsError>>,
    ) -> Result<Known<V>, NwsError> {
        let last = self.values.get(key).await;
        let fetched = match &last {
            Some(_) => tokio::time::timeout(PATIENCE, fetch)
                .await
                .unwrap_or(Err(NwsError::TimedOut)),
            None => fetch.await,
        };
        let error = match fetched {
            Ok(known) => {
                self.values.insert(key.clone(), known.clone()).await;
                return Ok(known);
            }
            Err(error) => error,
        };
        // Within the time of the attempt it may have grown too old.
        let now = Instant::now();
        match last.map(|known| (known.as_of.instant + self.longest, known)) {
            Some((end, known)) if error.passes() && now < end => {
                let reason = error.reason();
                if let Some(times) = self.failures.due(reason) {
                    let age = now.duration_since(known.as_of.instant).as_secs();
                    tracing::warn!(reason, %error, age, times, "serving a stale answer");
                }
                let wished = error.wait().unwrap_or_default().min(LONGEST_PAUSE);
                let again = now + wished.max(PAUSE.mul_f64(1.0 + luck));
                Ok(Known {
                    stale: true,
                    until: again.min(end),
                    ..known
                })
            }
            _ => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nws::error::Problem;

    fn known(value: u32, age: Duration) -> Known<u32> {
        Known {
            value,
            as_of: AsOf::ago(age),
            stale: false,
            until: Instant::now() + Duration::from_secs(1),
        }
    }

    fn problem(status: u16) -> NwsError {
        NwsError::Problem {
            status,
            problem: Problem::default(),
            retry_after: None,
        }
    }

    fn last() -> Last<&'static str, u32> {
        Last::kept_for(Duration::from_mins(10), 10_000, |_| 4)
    }

    async fn refresh(
        last: &Last<&'static str, u32>,
        with: Result<Known<u32>, NwsError>,
    ) -> Result<Known<u32>, NwsError> {
        last.refresh(&"key", 0.5, async { with }).await
    }

    #[tokio::test]
    async fn a_passing_failure_is_answered_with_the_last_value() {
        let last = last();
        assert!(
            refresh(&last, Err(NwsError::TimedOut)).await.is_err(),
            "nothing known"
        );
        refresh(&last, Ok(known(1, Duration::from_mins(3))))
            .await
            .unwrap();
        refresh(&last, Ok(known(2, Duration::from_mins(2))))
            .await
            .unwrap();
        let stale = refresh(&last, Err(NwsError::TimedOut)).await.unwrap();
        assert_eq!((stale.value, stale.stale), (2, true));
        let pause = stale.until - Instant::now();
        assert!(
            pause > Duration::from_secs(13) && pause <= Duration::from_secs(15),
            "{pause:?}"
        );
        let waiting = NwsError::OverBudget(Duration::from_secs(40));
        let stale = refresh(&last, Err(waiting)).await.unwrap();
        assert!(stale.until - Instant::now() > Duration::from_secs(38));
        let waiting = NwsError::OverBudget(Duration::from_hours(5));
        let stale = refresh(&last, Err(waiting)).await.unwrap();
        assert!(stale.until - Instant::now() <= LONGEST_PAUSE);
    }

    #[tokio::test]
    async fn a_lasting_failure_is_not() {
        let last = last();
        refresh(&last, Ok(known(1, Duration::ZERO))).await.unwrap();
        for status in [400, 403, 404] {
            assert!(refresh(&last, Err(problem(status))).await.is_err(), "{status}");
        }
        for status in [429, 500, 502, 503, 504] {
            assert!(
                refresh(&last, Err(problem(status))).await.unwrap().stale,
                "{status}"
            );
        }
    }

    #[tokio::test]
    async fn nothing_beyond_the_bound() {
        let last = last();
        refresh(&last, Ok(known(1, Duration::from_secs(599))))
            .await
            .unwrap();
        let stale = refresh(&last, Err(NwsError::TimedOut)).await.unwrap();
        assert!(stale.until - Instant::now() <= Duration::from_secs(1));
        refresh(&last, Ok(known(2, Duration::from_secs(601))))
            .await
            .unwrap();
        assert!(refresh(&last, Err(NwsError::TimedOut)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_hangs_costs_less_when_something_is_known() {
        let last = last();
        refresh(&last, Ok(known(1, Duration::ZERO))).await.unwrap();
        let before = tokio::time::Instant::now();
        let stale = last.refresh(&"key", 0.0, std::future::pending()).await.unwrap();
        assert!(stale.stale);
        assert_eq!(before.elapsed(), PATIENCE);
    }

    #[tokio::test]
    async fn values_stay_within_their_bytes() {
        let last: Last<u32, u32> = Last::kept_for(Duration::from_mins(10), 10_000, |_| 1000);
        for key in 0..100 {
            last.refresh(&key, 0.0, async { Ok(known(key, Duration::ZERO)) })
                .await
                .unwrap();
        }
        last.values.run_pending_tasks().await;
        assert!(last.values.weighted_size() <= 10_000);
        assert!(last.values.entry_count() <= 7, "{}", last.values.entry_count());
    }
}
