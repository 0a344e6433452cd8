//! The endpoints of the replay and the headers of its answers.
//! In: requests. Out: responses; a list of what was asked.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, EXPIRES, HeaderName, LAST_MODIFIED, USER_AGENT, VARY};
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::Options;
use super::document::Fixtures;
use super::place::{self, Reading};
use super::problem::Problem;

/// State and territory codes, then marine areas (openapi.yaml 1.9.0).
const AREAS: &str = "AL AK AS AR AZ CA CO CT DE DC FL GA GU HI ID IL IN IA KS KY LA ME MD MA MI MN MS MO MT NE NV NH \
    NJ NM NY NC ND OH OK OR PA PR RI SC SD TN TX UT VT VI VA WA WV WI WY \
    AM AN GM LC LE LH LM LO LS PH PK PM PS PZ SL";

#[derive(Debug)]
pub(super) struct Service {
    options: Options,
    fixtures: Fixtures,
    seen: Arc<Mutex<Vec<String>>>,
}

type Shared = State<Arc<Service>>;

impl Service {
    pub(super) fn new(options: Options, seen: Arc<Mutex<Vec<String>>>) -> anyhow::Result<Self> {
        Ok(Self {
            options,
            fixtures: Fixtures::load()?,
            seen,
        })
    }

    pub(super) fn router(self) -> Router {
        let service = Arc::new(self);
        Router::new()
            .route("/", get(async || fresh(&json!({"status": "OK"}), 10)))
            .route("/points/{point}", get(point))
            .route("/gridpoints/{office}/{cell}/forecast", get(forecast))
            .route("/alerts/active/area/{area}", get(alerts))
            .fallback(async |uri: Uri| Problem::not_found(uri.path()))
            .layer(middleware::from_fn_with_state(Arc::clone(&service), admit))
            .with_state(service)
    }
}

/// What every request meets first: a User-Agent, no query, the delay and the errors that were asked for.
async fn admit(State(service): Shared, request: Request, next: Next) -> Response {
    let asked = request
        .uri()
        .path_and_query()
        .map_or_else(String::new, ToString::to_string);
    service
        .seen
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(asked);
    if service.options.delay > Duration::ZERO {
        tokio::time::sleep(service.options.delay).await;
    }
    let agent = request
        .headers()
        .get(USER_AGENT)
        .is_some_and(|agent| !agent.is_empty());
    if !agent {
        let page = "<HTML><HEAD>\n<TITLE>Access Denied</TITLE>\n</HEAD><BODY>\n<H1>Access Denied</H1>\n</BODY>\n</HTML>\n";
        return (StatusCode::FORBIDDEN, [(CONTENT_TYPE, "text/html")], page).into_response();
    }
    let query = request.uri().query().unwrap_or_default();
    if let Some((name, _)) = url::form_urlencoded::parse(query.as_bytes()).next() {
        return Problem::unknown_parameter(&name).into_response();
    }
    if rand::random::<f64>() < service.options.error_rate {
        return Problem::unexpected().into_response();
    }
    let mut response = next.run(request).await;
    let id = uuid::Uuid::new_v4().to_string();
    for name in ["x-correlation-id", "x-request-id"] {
        if let Ok(value) = HeaderValue::from_str(&id) {
            response
                .headers_mut()
                .insert(HeaderName::from_static(name), value);
        }
    }
    let vary = HeaderValue::from_static("Accept,Feature-Flags,Accept-Language");
    response.headers_mut().insert(VARY, vary);
    response
}

/// 200 with the caching headers of the service.
fn fresh(body: &Value, max_age: i64) -> Response {
    let now = Timestamp::now();
    let date =
        |time: Timestamp| HeaderValue::from_str(&time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
    let mut response = (StatusCode::OK, body.to_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/geo+json"));
    if let Ok(value) = HeaderValue::from_str(&format!("public, max-age={max_age}, s-maxage=3600")) {
        headers.insert(CACHE_CONTROL, value);
    }
    if let Ok(value) = date(now + SignedDuration::from_secs(max_age)) {
        headers.insert(EXPIRES, value);
    }
    if let Ok(value) = date(now - SignedDuration::from_secs(300)) {
        headers.insert(LAST_MODIFIED, value);
    }
    response
}

async fn point(State(service): Shared, Path(text): Path<String>) -> Response {
    match place::read(&text) {
        Reading::NotACoordinate => {
            Problem::invalid("point", &text, "does not appear to be a valid coordinate").into_response()
        }
        Reading::Spelled(spelled) => Problem::precision(&spelled).into_response(),
        Reading::Uncovered => Problem::no_data(&text).into_response(),
        Reading::Place(_) if text == "40.5,-100.5" => Problem::unexpected().into_response(),
        Reading::Place(found) => fresh(&service.fixtures.point(&text, &found, Timestamp::now()), 20_000),
    }
}

async fn forecast(State(service): Shared, Path((office, cell)): Path<(String, String)>) -> Response {
    if !place::is_office(&office) {
        return Problem::invalid("wfo", &office, "does not exist in the enumeration").into_response();
    }
    let numbers = cell
        .split_once(',')
        .map(|(x, y)| (x.parse::<u32>(), y.parse::<u32>()));
    let Some((Ok(x), Ok(y))) = numbers else {
        return Problem::invalid("gridpoint", &cell, "does not appear to be a grid cell").into_response();
    };
    if let Reading::Place(expired) = place::read("40.5,-101.5")
        && (expired.office, expired.x, expired.y) == (office.as_str(), x, y)
    {
        let issued = Timestamp::now() - SignedDuration::from_hours(48);
        return Problem::expired(&issued.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string()).into_response();
    }
    // Seen at the service: between 98 and 282 seconds.
    let max_age = 98 + i64::from((x + y) % 185);
    fresh(&service.fixtures.forecast(&office, Timestamp::now()), max_age)
}

async fn alerts(State(service): Shared, Path(area): Path<String>) -> Response {
    if !AREAS.split_whitespace().any(|known| known == area) {
        return Problem::invalid("area", &area, "does not exist in the enumeration").into_response();
    }
    if area == "GU" {
        return Problem::unexpected().into_response();
    }
    fresh(&service.fixtures.alerts(&area, Timestamp::now()), 30)
}
