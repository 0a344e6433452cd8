//! A replay of the US National Weather Service API (api.weather.gov) from fixtures, with its headers, its errors and
//! its peculiarities.
//! In: GET requests. Out: points, forecasts and alerts whose times are relative to now, or problem+json.
//!
//! Always failing, for tests: alerts of `GU` (500), the point 40.5,-100.5 (500), and the forecast of the point
//! 40.5,-101.5 (503, its grid is expired). Outside the United States is 404, as at the service.

pub mod command;
mod document;
mod place;
mod problem;
mod service;
mod template;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use service::Service;

#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub listen: SocketAddr,
    /// Added to every answer.
    pub delay: Duration,
    /// Share of requests that fail with 500 for no reason, from 0 to 1.
    pub error_rate: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            delay: Duration::ZERO,
            error_rate: 0.0,
        }
    }
}

/// A running replay. It stops when this is dropped.
#[derive(Debug)]
pub struct Replay {
    pub url: String,
    seen: Arc<Mutex<Vec<String>>>,
    stop: CancellationToken,
}

impl Replay {
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(options.listen)
            .await
            .with_context(|| format!("failed to listen on {}", options.listen))?;
        let url = format!("http://{}", listener.local_addr()?);
        let seen = Arc::default();
        let router = Service::new(options, Arc::clone(&seen))?.router();
        let stop = CancellationToken::new();
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        tokio::spawn(async move { served.await });
        Ok(Self { url, seen, stop })
    }

    /// Path and query of every request so far.
    pub fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
