//! One GET on the NWS API: a path goes in, a body and its freshness come out. Redirects, retries and sizes are bounded here.

use super::error::NwsError;
use super::freshness::{AsOf, Bounds, age, freshness};
use super::lane::Lane;
use super::reach::{Contact, SharedContact};
use crate::limit::Bucket;
use crate::metrics::Metrics;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::{ACCEPT, LOCATION, RETRY_AFTER};
use reqwest::{Response, Url, redirect::Policy};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Attempts at one request, the first included.
const ATTEMPTS: u32 = 3;
/// Time until the answer to one request begins, and between two pieces of it: a connection that hangs must leave time for another.
const ATTEMPT: Duration = Duration::from_secs(3);
/// Requests for alerts at once. There are some sixty areas, and the alerts of a large state are 2 MB.
const ALERTS_AT_ONCE: usize = 8;
/// Requests for forecasts at once, of up to some 100 KB each.
const FORECASTS_AT_ONCE: usize = 24;
/// Wait before the second attempt at most; it doubles with each further one.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
/// A longer Retry-After than this is not waited for within a call.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// A service that is throttling us is left alone for this long when it does not say for how long ("typically within 5 seconds").
const THROTTLED: Duration = Duration::from_secs(5);
/// And at most for this long, whatever it says.
const LONGEST_THROTTLED: Duration = Duration::from_mins(1);
/// Redirects that are followed; the only documented one adjusts a point's precision.
const MAX_REDIRECTS: u32 = 2;
/// All alerts of a large state are about 2 MB.
const MAX_BODY: usize = 8 << 20;

/// The API at one base URL, behind one pool of connections.
#[derive(Debug, Clone)]
pub struct Nws {
    http: reqwest::Client,
    base: Url,
    /// What this replica may ask.
    budget: Arc<Bucket>,
    alerts: Arc<Lane>,
    forecasts: Arc<Lane>,
    metrics: Arc<Metrics>,
    contact: SharedContact,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// The alerts of an area.
    Alerts,
    /// The grid cell of a point.
    Points,
    /// The forecast of a grid cell.
    Forecast,
}

impl Question {
    /// In metrics.
    fn label(self) -> &'static str {
        match self {
            Question::Alerts => "alerts",
            Question::Points => "points",
            Question::Forecast => "forecast",
        }
    }
}

/// A body and for how long it may be kept.
#[derive(Debug)]
pub struct Fetched {
    /// As sent.
    pub body: Bytes,
    /// When the service made it.
    pub as_of: AsOf,
    /// By the response's own headers, within the bounds asked for.
    pub fresh: Duration,
}

/// The API could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// NWS_BASE_URL
    #[error(
        "failed to use NWS_BASE_URL {0:?}: it must be an http or https URL without query, fragment or user name"
    )]
    BaseUrl(String),
    /// Roots or TLS.
    #[error("failed to set up the HTTP client for the National Weather Service")]
    Client(#[source] reqwest::Error),
}

/// The URL as it was given, but for a user name and password.
fn without_user(base: &str) -> String {
    match base
        .split_once("://")
        .map(|(scheme, rest)| (scheme, rest.rsplit_once('@')))
    {
        Some((scheme, Some((_, host)))) => format!("{scheme}://***@{host}"),
        _ => base.to_owned(),
    }
}

impl Nws {
    /// A client for the API at `base`, which is sent at most so many requests a minute (0 is no limit).
    pub fn connect(
        base: &str,
        user_agent: &str,
        per_minute: u32,
        metrics: Arc<Metrics>,
    ) -> Result<Nws, SetupError> {
        let refused = || SetupError::BaseUrl(without_user(base));
        let base = Url::parse(base).map_err(|_| refused())?;
        let plain = base.query().is_none() && base.fragment().is_none() && base.username().is_empty();
        if !matches!(base.scheme(), "http" | "https")
            || !plain
            || base.password().is_some()
            || !base.has_host()
        {
            return Err(refused());
        }
        let mut http = reqwest::Client::builder();
        if base.scheme() == "http" {
            // Redirects stay on this origin, so no certificate will ever be looked at; reading the roots takes time and memory.
            http = http.tls_certs_only([]);
        }
        let http = http
            .user_agent(user_agent)
            .redirect(Policy::none())
            .connect_timeout(Duration::from_secs(3))
            .pool_idle_timeout(Duration::from_secs(30))
            .tcp_nodelay(true)
            .build()
            .map_err(SetupError::Client)?;
        let now = Instant::now();
        let bucket = |uses| Bucket::per_minute(uses, now);
        // One without a limit still has to be left alone when it says so.
        let budget = bucket(per_minute)
            .or_else(|| bucket(u32::MAX))
            .ok_or_else(refused)?;
        let budget = Arc::new(budget);
        // A quarter is for alerts: anybody can ask for any number of places that nobody has asked for before.
        let share = (per_minute > 0)
            .then(|| (per_minute - per_minute / 4).max(1))
            .and_then(bucket);
        Ok(Nws {
            http,
            base,
            alerts: Arc::new(Lane::open(ALERTS_AT_ONCE, None, Arc::clone(&budget))),
            forecasts: Arc::new(Lane::open(FORECASTS_AT_ONCE, share, Arc::clone(&budget))),
            budget,
            metrics,
            contact: SharedContact::default(),
        })
    }

    /// When the service last answered.
    pub fn contact(&self) -> &Contact {
        &self.contact
    }

    /// Ask for the base URL, only to learn whether anything answers within `time`.
    pub async fn knock(&self, time: Duration) {
        let attempt = self.metrics.upstream_asked("probe");
        let response = self.http.get(self.base.clone()).timeout(time).send().await;
        let label = match &response {
            Ok(response) => {
                self.contact.heard(response.status());
                "ok"
            }
            Err(_) => "unreachable",
        };
        attempt.end(label);
    }

    /// GET `path` (beginning with a slash) below the base URL.
    pub async fn get(&self, question: Question, path: &str, bounds: Bounds) -> Result<Fetched, NwsError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let asked = self.metrics.upstream_asked(question.label());
            let outcome = self.attempt(self.lane(question), path, bounds).await;
            asked.end(outcome.as_ref().map_or_else(NwsError::reason, |_| "ok"));
            let error = match outcome {
                Ok(fetched) => return Ok(fetched),
                Err(error) => error,
            };
            self.mind(&error);
            let wait = error.wait().unwrap_or_else(|| backoff(attempt, rand::random()));
            if attempt == ATTEMPTS || !error.is_transient() || wait > LONGEST_WAIT {
                return Err(error);
            }
            tokio::time::sleep(wait).await;
        }
    }

    fn lane(&self, question: Question) -> &Lane {
        match question {
            Question::Alerts => &self.alerts,
            Question::Points | Question::Forecast => &self.forecasts,
        }
    }

    async fn attempt(&self, lane: &Lane, path: &str, bounds: Bounds) -> Result<Fetched, NwsError> {
        let mut url = Url::parse(&format!("{}{path}", self.base.as_str().trim_end_matches('/')))
            .map_err(|_| NwsError::Malformed("a path"))?;
        for _ in 0..=MAX_REDIRECTS {
            let entered = lane.enter().await?;
            let asked = self.ask(&url, bounds).await;
            entered.end(!asked.as_ref().is_err_and(NwsError::is_silence));
            match asked? {
                Asked::Answer(fetched) => return Ok(fetched),
                Asked::Elsewhere(target) => url = target,
            }
        }
        Err(NwsError::Redirect)
    }

    async fn ask(&self, url: &Url, bounds: Bounds) -> Result<Asked, NwsError> {
        let request = self.http.get(url.clone()).header(ACCEPT, "application/geo+json");
        let response = in_time(request.send()).await?;
        self.contact.heard(response.status());
        if response.status().is_redirection() {
            return self.follow(url, &response).map(Asked::Elsewhere);
        }
        read(response, bounds).await.map(Asked::Answer)
    }

    /// A service that says "too many" is left alone, whatever is asked for.
    fn mind(&self, error: &NwsError) {
        if let NwsError::Problem { status: 429, .. } = error {
            let wait = error.wait().unwrap_or(THROTTLED).min(LONGEST_THROTTLED);
            self.budget.close_for(Instant::now(), wait);
        }
    }

    /// Where a redirect leads, if that is the same origin: the service must not aim us at anything else.
    fn follow(&self, from: &Url, response: &Response) -> Result<Url, NwsError> {
        let location = response
            .headers()
            .get(LOCATION)
            .and_then(|value| value.to_str().ok());
        let target = location
            .and_then(|location| from.join(location).ok())
            .ok_or(NwsError::Redirect)?;
        let stays = target.origin() == self.base.origin()
            && target.username().is_empty()
            && target.password().is_none();
        if stays {
            Ok(target)
        } else {
            Err(NwsError::Redirect)
        }
    }
}

/// What a request came to.
enum Asked {
    Answer(Fetched),
    Elsewhere(Url),
}

async fn in_time<T>(step: impl Future<Output = reqwest::Result<T>>) -> Result<T, NwsError> {
    match tokio::time::timeout(ATTEMPT, step).await {
        Ok(done) => done.map_err(NwsError::unreachable),
        Err(_) => Err(NwsError::TimedOut),
    }
}

async fn read(response: Response, bounds: Bounds) -> Result<Fetched, NwsError> {
    let status = response.status();
    let headers = response.headers();
    let (fresh, as_of) = (freshness(headers, bounds), AsOf::ago(age(headers)));
    let retry_after = headers
        .get(RETRY_AFTER)
        .and_then(|seconds| seconds.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    let body = read_body(response).await?;
    if status == StatusCode::OK {
        return Ok(Fetched { body, as_of, fresh });
    }
    Err(NwsError::Problem {
        status: status.as_u16(),
        problem: serde_json::from_slice(&body).unwrap_or_default(),
        retry_after,
    })
}

async fn read_body(mut response: Response) -> Result<Bytes, NwsError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = in_time(response.chunk()).await? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(NwsError::Malformed("more than 8 MB"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// Half of the doubling wait, plus a random part of the other half; `luck` is in 0..1.
fn backoff(attempt: u32, luck: f64) -> Duration {
    let most = FIRST_BACKOFF * 2_u32.saturating_pow(attempt.saturating_sub(1));
    most.mul_f64(0.5 + luck / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_longer_each_time_and_never_in_step() {
        assert_eq!(backoff(1, 0.0), Duration::from_millis(125));
        assert_eq!(backoff(1, 1.0), Duration::from_millis(250));
        assert_eq!(backoff(2, 0.5), Duration::from_millis(375));
    }

    #[test]
    fn refuses_base_urls_that_would_be_misread() {
        for base in [
            "",
            "api.weather.gov",
            "ftp://x",
            "http://user@x",
            "http://user:s3cret@x",
            "http://x/?q",
            "http://x/#f",
        ] {
            let refused = Nws::connect(base, "test", 0, Arc::default());
            assert!(matches!(refused, Err(SetupError::BaseUrl(_))), "{base}");
            assert!(
                !refused.is_err_and(|error| error.to_string().contains("s3cret")),
                "{base}"
            );
        }
    }
}
