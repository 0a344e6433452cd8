//! One tool call's work: a state or a point goes in, a rendered result comes out; cached, fetched once at a time, within 10 seconds,
//! and for a while also when the weather service cannot be asked.

mod known;

use crate::metrics::{Lookup, Metrics};
use crate::nws::client::Nws;
use crate::nws::error::NwsError;
use crate::nws::freshness::{ALERTS, FORECAST, POINT};
use crate::nws::model::{Alert, Grid, Period, read_alerts, read_forecast, read_grid};
use crate::seldom::Seldom;
use crate::tools::Tool;
use crate::tools::point::Point;
use crate::tools::render::{self, Rendered, SHOWN_PERIODS};
use crate::tools::state::State;
use futures::TryFutureExt as _;
use known::{Known, Last, remember};
use moka::future::Cache;
use std::sync::Arc;
use std::time::Duration;

/// Time for a whole call, retries and redirects included.
const DEADLINE: Duration = Duration::from_secs(10);
/// A stale "no alerts" is dangerous.
const OLDEST_ALERTS: Duration = Duration::from_mins(10);
/// A forecast is for days, and made anew about every hour.
const OLDEST_FORECAST: Duration = Duration::from_hours(6);
/// Which grid cell a point lies in hardly ever changes.
const OLDEST_GRID: Duration = Duration::from_hours(48);
/// Memory for each kind of rendered answers.
const RENDERED_BYTES: u64 = 8 << 20;
/// Memory for each kind of what they are made of; a cell of the grid takes about 300 bytes, a forecast 2,000.
const KNOWN_BYTES: u64 = 4 << 20;

/// The weather, with everything remembered that is still of use.
#[derive(Debug)]
pub struct Weather {
    nws: Nws,
    metrics: Arc<Metrics>,
    alerts: Cache<State, Known<Rendered>>,
    last_alerts: Last<State, Arc<Vec<Alert>>>,
    forecasts: Cache<Point, Known<Rendered>>,
    grids: Cache<Point, Known<Arc<Grid>>>,
    last_grids: Last<Point, Arc<Grid>>,
    periods: Cache<Arc<Grid>, Known<Arc<Vec<Period>>>>,
    last_periods: Last<Arc<Grid>, Arc<Vec<Period>>>,
    failures: Seldom,
}

impl Weather {
    /// Weather from `nws`, with nothing remembered yet.
    pub fn from_nws(nws: Nws, metrics: Arc<Metrics>) -> Weather {
        let rendered = |rendered: &Rendered| rendered.members.len();
        let alerts = |alerts: &Arc<Vec<Alert>>| alerts.iter().map(Alert::weight).sum();
        let periods = |periods: &Arc<Vec<Period>>| periods.iter().map(Period::weight).sum();
        let grid = |_: &Arc<Grid>| size_of::<Grid>();
        Weather {
            nws,
            metrics,
            alerts: remember(RENDERED_BYTES, rendered),
            last_alerts: Last::kept_for(OLDEST_ALERTS, KNOWN_BYTES, alerts),
            forecasts: remember(RENDERED_BYTES, rendered),
            grids: remember(KNOWN_BYTES, grid),
            last_grids: Last::kept_for(OLDEST_GRID, KNOWN_BYTES, grid),
            periods: remember(KNOWN_BYTES, periods),
            last_periods: Last::kept_for(OLDEST_FORECAST, KNOWN_BYTES, periods),
            failures: Seldom::default(),
        }
    }

    /// The result of get_alerts.
    pub async fn alerts(&self, state: State) -> Rendered {
        if let Some(known) = self.alerts.get(&state).await {
            return self.cached(Tool::GetAlerts, known);
        }
        let fetch = self.alerts.try_get_with(state, self.fetch_alerts(state));
        // Boxed, so that an answer out of the cache does not carry the room for a fetch through every caller.
        let fetched = within_deadline(Box::pin(fetch)).await;
        self.fetched(Tool::GetAlerts, fetched)
            .unwrap_or_else(|error| self.explain(&format!("alerts for {}", state.code()), &error))
    }

    /// The result of get_forecast.
    pub async fn forecast(&self, point: Point) -> Rendered {
        if let Some(known) = self.forecasts.get(&point).await {
            return self.cached(Tool::GetForecast, known);
        }
        let fetch = self
            .forecasts
            .try_get_with(point, self.fetch_forecast(point))
            // The caches inside have wrapped the error once already.
            .map_err(|error: Arc<Arc<NwsError>>| Arc::clone(error.as_ref()));
        let fetched = within_deadline(Box::pin(fetch)).await;
        self.fetched(Tool::GetForecast, fetched)
            .unwrap_or_else(|error| self.explain(&format!("the forecast for {point}"), &error))
    }

    fn cached(&self, tool: Tool, known: Known<Rendered>) -> Rendered {
        let lookup = if known.stale { Lookup::Stale } else { Lookup::Hit };
        self.metrics.looked_up(tool, lookup);
        known.value
    }

    fn fetched(
        &self,
        tool: Tool,
        fetched: Result<Known<Rendered>, Arc<NwsError>>,
    ) -> Result<Rendered, Arc<NwsError>> {
        let lookup = match &fetched {
            Ok(known) if known.stale => Lookup::Stale,
            Ok(_) | Err(_) => Lookup::Miss,
        };
        self.metrics.looked_up(tool, lookup);
        fetched.map(|known| known.value)
    }

    /// For the caller. The log is told less often, and not where the caller is.
    fn explain(&self, wanted: &str, error: &NwsError) -> Rendered {
        let reason = error.reason();
        if let Some(times) = self.failures.due(reason) {
            tracing::warn!(reason, error = %Sources(error), times, "failed to fetch weather for a call");
        }
        render::failure(&format!("Unable to fetch {wanted}: {error}. {}", error.advice()))
    }

    async fn fetch_alerts(&self, state: State) -> Result<Known<Rendered>, NwsError> {
        let fetch = async {
            let path = format!("/alerts/active/area/{}", state.code());
            let fetched = self.nws.get("alerts", &path, ALERTS).await?;
            Ok(Known::fresh(Arc::new(read_alerts(&fetched.body)?), &fetched))
        };
        let alerts = self.last_alerts.refresh(&state, rand::random(), fetch).await?;
        let rendered = render::alerts(&alerts.value, alerts.age()).map_err(unwritable)?;
        Ok(alerts.with(rendered))
    }

    async fn fetch_forecast(&self, point: Point) -> Result<Known<Rendered>, Arc<NwsError>> {
        let grid = self.grids.try_get_with(point, self.fetch_grid(point)).await?;
        let grid = grid.value;
        let fetch = self.fetch_periods(&grid);
        let periods = self.periods.try_get_with(Arc::clone(&grid), fetch).await?;
        let rendered = render::forecast(point, &periods.value, periods.age()).map_err(unwritable)?;
        Ok(periods.with(rendered))
    }

    async fn fetch_grid(&self, point: Point) -> Result<Known<Arc<Grid>>, NwsError> {
        let fetch = async {
            let fetched = self.nws.get("points", &format!("/points/{point}"), POINT).await?;
            Ok(Known::fresh(Arc::new(read_grid(&fetched.body)?), &fetched))
        };
        self.last_grids.refresh(&point, rand::random(), fetch).await
    }

    async fn fetch_periods(&self, grid: &Arc<Grid>) -> Result<Known<Arc<Vec<Period>>>, NwsError> {
        let fetch = async {
            // The URL in the point's document is not followed: the parts of it that matter are in `grid`, checked.
            let path = format!("/gridpoints/{grid}/forecast");
            let fetched = self.nws.get("forecast", &path, FORECAST).await?;
            let mut periods = read_forecast(&fetched.body)?;
            periods.truncate(SHOWN_PERIODS);
            Ok(Known::fresh(Arc::new(periods), &fetched))
        };
        self.last_periods.refresh(grid, rand::random(), fetch).await
    }
}

async fn within_deadline(
    fetch: impl Future<Output = Result<Known<Rendered>, Arc<NwsError>>>,
) -> Result<Known<Rendered>, Arc<NwsError>> {
    tokio::time::timeout(DEADLINE, fetch)
        .await
        .unwrap_or_else(|_| Err(Arc::new(NwsError::TimedOut)))
}

fn unwritable(_: serde_json::Error) -> NwsError {
    NwsError::Malformed("values that JSON cannot hold")
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
