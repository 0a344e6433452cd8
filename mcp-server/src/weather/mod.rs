//! One tool call's work: a state or a point goes in, a rendered result comes out; cached, fetched once at a time, within 10 seconds,
//! and for a while also when the weather service cannot be asked.

mod flight;
mod known;

use crate::metrics::{Lookup, Metrics};
use crate::nws::client::{Nws, Question};
use crate::nws::error::NwsError;
use crate::nws::freshness::{ALERTS, FORECAST, POINT};
use crate::nws::model::{Alert, Grid, Period, read_alerts, read_forecast, read_grid};
use crate::seldom::Seldom;
use crate::tools::Tool;
use crate::tools::point::Point;
use crate::tools::render::{self, Rendered, SHOWN_PERIODS};
use crate::tools::state::State;
use flight::{Flights, Outcome};
use known::{Known, Last, remember};
use moka::future::Cache;
use std::sync::Arc;
use std::time::Duration;

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

/// The weather, for callers.
#[derive(Debug)]
pub struct Weather {
    memory: Arc<Memory>,
    metrics: Arc<Metrics>,
    alerts: Flights<State, Known<Rendered>>,
    forecasts: Flights<Point, Known<Rendered>>,
    failures: Seldom,
}

/// Everything remembered that is still of use. Fetches hold it, since they outlive their callers.
#[derive(Debug)]
struct Memory {
    nws: Nws,
    alerts: Cache<State, Known<Rendered>>,
    last_alerts: Last<State, Arc<Vec<Alert>>>,
    forecasts: Cache<Point, Known<Rendered>>,
    grids: Cache<Point, Known<Arc<Grid>>>,
    last_grids: Last<Point, Arc<Grid>>,
    periods: Cache<Arc<Grid>, Known<Arc<Vec<Period>>>>,
    last_periods: Last<Arc<Grid>, Arc<Vec<Period>>>,
    /// Many points lie in one cell.
    cells: Flights<Arc<Grid>, Known<Arc<Vec<Period>>>>,
}

impl Weather {
    /// Weather from `nws`, with nothing remembered yet.
    pub fn from_nws(nws: Nws, metrics: Arc<Metrics>) -> Weather {
        Weather {
            memory: Arc::new(Memory::of(nws)),
            metrics,
            alerts: Flights::default(),
            forecasts: Flights::default(),
            failures: Seldom::default(),
        }
    }

    /// The result of get_alerts.
    pub async fn alerts(&self, state: State) -> Rendered {
        if let Some(known) = self.memory.alerts.get(&state).await {
            return self.cached(Tool::GetAlerts, known);
        }
        let fetch = || Arc::clone(&self.memory).fetch_alerts(state);
        // Boxed, so that an answer out of the cache does not carry the room for a wait through every caller.
        let fetched = Box::pin(self.alerts.join(state, fetch)).await;
        self.fetched(Tool::GetAlerts, fetched)
            .unwrap_or_else(|error| self.explain(&format!("alerts for {}", state.code()), &error))
    }

    /// The result of get_forecast.
    pub async fn forecast(&self, point: Point) -> Rendered {
        if let Some(known) = self.memory.forecasts.get(&point).await {
            return self.cached(Tool::GetForecast, known);
        }
        let fetch = || Arc::clone(&self.memory).fetch_forecast(point);
        let fetched = Box::pin(self.forecasts.join(point, fetch)).await;
        self.fetched(Tool::GetForecast, fetched)
            .unwrap_or_else(|error| self.explain(&format!("the forecast for {point}"), &error))
    }

    fn cached(&self, tool: Tool, known: Known<Rendered>) -> Rendered {
        let lookup = if known.stale { Lookup::Stale } else { Lookup::Hit };
        self.metrics.looked_up(tool, lookup);
        known.value
    }

    fn fetched(&self, tool: Tool, fetched: Outcome<Known<Rendered>>) -> Outcome<Rendered> {
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
}

/// Each fetch looks into its cache first: another may have ended between its caller's look and its begin.
impl Memory {
    fn of(nws: Nws) -> Memory {
        let rendered = |rendered: &Rendered| rendered.members.len();
        let alerts = |alerts: &Arc<Vec<Alert>>| alerts.iter().map(Alert::weight).sum();
        let periods = |periods: &Arc<Vec<Period>>| periods.iter().map(Period::weight).sum();
        let grid = |_: &Arc<Grid>| size_of::<Grid>();
        Memory {
            nws,
            alerts: remember(RENDERED_BYTES, rendered),
            last_alerts: Last::kept_for(OLDEST_ALERTS, KNOWN_BYTES, alerts),
            forecasts: remember(RENDERED_BYTES, rendered),
            grids: remember(KNOWN_BYTES, grid),
            last_grids: Last::kept_for(OLDEST_GRID, KNOWN_BYTES, grid),
            periods: remember(KNOWN_BYTES, periods),
            last_periods: Last::kept_for(OLDEST_FORECAST, KNOWN_BYTES, periods),
            cells: Flights::default(),
        }
    }

    async fn fetch_alerts(self: Arc<Self>, state: State) -> Outcome<Known<Rendered>> {
        if let Some(known) = self.alerts.get(&state).await {
            return Ok(known);
        }
        let fetch = async {
            let path = format!("/alerts/active/area/{}", state.code());
            let fetched = self.nws.get(Question::Alerts, &path, ALERTS).await?;
            Ok(Known::fresh(Arc::new(read_alerts(&fetched.body)?), &fetched))
        };
        let alerts = self.last_alerts.refresh(&state, rand::random(), fetch).await?;
        let rendered = render::alerts(&alerts.value, alerts.age()).map_err(unwritable)?;
        let known = alerts.with(rendered);
        self.alerts.insert(state, known.clone()).await;
        Ok(known)
    }

    async fn fetch_forecast(self: Arc<Self>, point: Point) -> Outcome<Known<Rendered>> {
        if let Some(known) = self.forecasts.get(&point).await {
            return Ok(known);
        }
        let grid = self.grid(point).await?.value;
        let periods = if let Some(known) = self.periods.get(&grid).await {
            known
        } else {
            let fetch = || Arc::clone(&self).fetch_periods(Arc::clone(&grid));
            self.cells.join(Arc::clone(&grid), fetch).await?
        };
        let rendered = render::forecast(point, &periods.value, periods.age()).map_err(unwritable)?;
        let known = periods.with(rendered);
        self.forecasts.insert(point, known.clone()).await;
        Ok(known)
    }

    /// Part of the one fetch for its point.
    async fn grid(&self, point: Point) -> Outcome<Known<Arc<Grid>>> {
        if let Some(known) = self.grids.get(&point).await {
            return Ok(known);
        }
        let fetch = async {
            let path = format!("/points/{point}");
            let fetched = self.nws.get(Question::Points, &path, POINT).await?;
            Ok(Known::fresh(Arc::new(read_grid(&fetched.body)?), &fetched))
        };
        let known = self.last_grids.refresh(&point, rand::random(), fetch).await?;
        self.grids.insert(point, known.clone()).await;
        Ok(known)
    }

    async fn fetch_periods(self: Arc<Self>, grid: Arc<Grid>) -> Outcome<Known<Arc<Vec<Period>>>> {
        if let Some(known) = self.periods.get(&grid).await {
            return Ok(known);
        }
        let fetch = async {
            // The URL in the point's document is not followed: the parts of it that matter are in `grid`, checked.
            let path = format!("/gridpoints/{grid}/forecast");
            let fetched = self.nws.get(Question::Forecast, &path, FORECAST).await?;
            let mut periods = read_forecast(&fetched.body)?;
            periods.truncate(SHOWN_PERIODS);
            Ok(Known::fresh(Arc::new(periods), &fetched))
        };
        let known = self.last_periods.refresh(&grid, rand::random(), fetch).await?;
        self.periods.insert(grid, known.clone()).await;
        Ok(known)
    }
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
