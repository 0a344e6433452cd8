//! One tool call's work: a state or a point goes in, a rendered result comes out; cached, fetched once at a time, within 10 seconds.

use crate::nws::client::Nws;
use crate::nws::error::NwsError;
use crate::nws::freshness::{ALERTS, FORECAST, POINT};
use crate::nws::model::{Grid, Period, read_alerts, read_forecast, read_grid};
use crate::tools::point::Point;
use crate::tools::render::{self, Rendered, SHOWN_PERIODS};
use crate::tools::state::State;
use futures::TryFutureExt as _;
use moka::Expiry;
use moka::future::Cache;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time for a whole call, retries and redirects included.
const DEADLINE: Duration = Duration::from_secs(10);
/// Memory for rendered answers.
const RENDERED_BYTES: u64 = 8 << 20;
/// Grid cells and points that are remembered; about 100 and 2,000 bytes each.
const POINTS: u64 = 20_000;
const FORECASTS: u64 = 2_000;

/// The weather, with everything remembered that is still fresh.
#[derive(Debug, Clone)]
pub struct Weather {
    nws: Nws,
    alerts: Cache<State, Fresh<Rendered>>,
    rendered_forecasts: Cache<Point, Fresh<Rendered>>,
    grids: Cache<Point, Fresh<Arc<Grid>>>,
    forecasts: Cache<Arc<Grid>, Fresh<Arc<Vec<Period>>>>,
}

/// A value and the moment from which it is stale.
#[derive(Debug, Clone)]
struct Fresh<V> {
    value: V,
    until: Instant,
}

impl<V> Fresh<V> {
    fn from_now(value: V, fresh: Duration) -> Fresh<V> {
        Fresh {
            value,
            until: Instant::now() + fresh,
        }
    }
}

/// Tells the cache to drop each value when it is stale.
struct WhenStale;

impl<K, V> Expiry<K, Fresh<V>> for WhenStale {
    fn expire_after_create(&self, _key: &K, value: &Fresh<V>, created: Instant) -> Option<Duration> {
        Some(value.until.saturating_duration_since(created))
    }
}

fn by_count<K, V>(entries: u64) -> Cache<K, Fresh<V>>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    Cache::builder()
        .max_capacity(entries)
        .expire_after(WhenStale)
        .build()
}

fn by_bytes<K: Hash + Eq + Send + Sync + 'static>(bytes: u64) -> Cache<K, Fresh<Rendered>> {
    Cache::builder()
        .max_capacity(bytes)
        .weigher(|_, fresh: &Fresh<Rendered>| {
            u32::try_from(fresh.value.members.len() + 256).unwrap_or(u32::MAX)
        })
        .expire_after(WhenStale)
        .build()
}

impl Weather {
    /// Weather from `nws`, with nothing remembered yet.
    pub fn from_nws(nws: Nws) -> Weather {
        Weather {
            nws,
            alerts: by_bytes(RENDERED_BYTES),
            rendered_forecasts: by_bytes(RENDERED_BYTES),
            grids: by_count(POINTS),
            forecasts: by_count(FORECASTS),
        }
    }

    /// The result of get_alerts.
    pub async fn alerts(&self, state: State) -> Rendered {
        if let Some(fresh) = self.alerts.get(&state).await {
            return fresh.value;
        }
        let fetch = self.alerts.try_get_with(state, self.fetch_alerts(state));
        // Boxed, so that an answer out of the cache does not carry the room for a fetch through every caller.
        within_deadline(Box::pin(fetch))
            .await
            .unwrap_or_else(|error| explain(&format!("alerts for {}", state.code()), &error))
    }

    /// The result of get_forecast.
    pub async fn forecast(&self, point: Point) -> Rendered {
        if let Some(fresh) = self.rendered_forecasts.get(&point).await {
            return fresh.value;
        }
        let fetch = self
            .rendered_forecasts
            .try_get_with(point, self.fetch_forecast(point))
            // The caches inside have wrapped the error once already.
            .map_err(|error: Arc<Arc<NwsError>>| Arc::clone(error.as_ref()));
        within_deadline(Box::pin(fetch))
            .await
            .unwrap_or_else(|error| explain(&format!("the forecast for {point}"), &error))
    }

    async fn fetch_alerts(&self, state: State) -> Result<Fresh<Rendered>, NwsError> {
        let path = format!("/alerts/active/area/{}", state.code());
        let fetched = self.nws.get("alerts", &path, ALERTS).await?;
        let rendered = render::alerts(&read_alerts(&fetched.body)?).map_err(unwritable)?;
        Ok(Fresh::from_now(rendered, fetched.fresh))
    }

    async fn fetch_forecast(&self, point: Point) -> Result<Fresh<Rendered>, Arc<NwsError>> {
        let grid = self.grids.try_get_with(point, async {
            let fetched = self.nws.get("points", &format!("/points/{point}"), POINT).await?;
            Ok(Fresh::from_now(
                Arc::new(read_grid(&fetched.body)?),
                fetched.fresh,
            ))
        });
        let grid = grid.await?.value;
        let forecast = self.forecasts.try_get_with(grid.clone(), async {
            // The URL in the point's document is not followed: the parts of it that matter are in `grid`, checked.
            let fetched = self
                .nws
                .get("forecast", &format!("/gridpoints/{grid}/forecast"), FORECAST)
                .await?;
            let mut periods = read_forecast(&fetched.body)?;
            periods.truncate(SHOWN_PERIODS);
            Ok::<_, NwsError>(Fresh::from_now(Arc::new(periods), fetched.fresh))
        });
        let forecast = forecast.await?;
        let rendered = render::forecast(point, &forecast.value).map_err(unwritable)?;
        Ok(Fresh {
            value: rendered,
            until: forecast.until,
        })
    }
}

async fn within_deadline(
    fetch: impl Future<Output = Result<Fresh<Rendered>, Arc<NwsError>>>,
) -> Result<Rendered, Arc<NwsError>> {
    match tokio::time::timeout(DEADLINE, fetch).await {
        Ok(fetched) => fetched.map(|fresh| fresh.value),
        Err(_) => Err(Arc::new(NwsError::TimedOut)),
    }
}

fn unwritable(_: serde_json::Error) -> NwsError {
    NwsError::Malformed("values that JSON cannot hold")
}

fn explain(wanted: &str, error: &NwsError) -> Rendered {
    tracing::warn!(reason = error.reason(), error = %Sources(error), "failed to fetch {wanted}");
    render::failure(&format!("Unable to fetch {wanted}: {error}. {}", error.advice()))
}

/// An error with everything behind it, for the log; a caller is shown the first part only.
struct Sources<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Sources<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(error) = next {
            write!(out, ": {error}")?;
            next = error.source();
        }
        Ok(())
    }
}
