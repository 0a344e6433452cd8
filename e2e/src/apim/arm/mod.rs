//! The ARM plane: one request at a time through fixed steps.
//!
//! fault -> token -> path -> api-version -> throttle -> the entity -> answer and journal
//!
//! In: an HTTP request. Out: an answer, or a cut connection when a test asked for that.

mod api;
mod association;
mod call;
mod contract;
mod entity;
mod error;
mod import;
pub(crate) mod limits;
mod list;
pub(crate) mod operation;
mod policy;
mod polling;
pub(crate) mod product;
pub(crate) mod schema;
mod service;
mod simple;
mod subscription;
pub(crate) mod throttle;

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AUTHORIZATION, IF_MATCH};
use http::{Method, Request, StatusCode};
use percent::decode;

use super::answer::{self, Answer, Cut};
use super::fault::{Action, Plane};
use super::kind::{Target, parse};
use super::query::Query;
use super::state::Shared;
use super::token;
use call::Call;
pub(crate) use error::Refusal;
use throttle::Taken;

mod percent {
    /// Percent-decoding of one path segment; what is not valid stays as it is.
    pub(super) fn decode(segment: &str) -> String {
        let plus_is_plus = segment.replace('+', "%2B");
        url::form_urlencoded::parse(format!("x={plus_is_plus}").as_bytes())
            .next()
            .map_or_else(|| segment.to_owned(), |(_, value)| value.into_owned())
    }
}

const VERSIONS: [&str; 14] = [
    "2021-08-01",
    "2022-04-01-preview",
    "2022-08-01",
    "2022-09-01-preview",
    "2023-03-01-preview",
    "2023-05-01-preview",
    "2023-09-01-preview",
    "2024-05-01",
    "2024-06-01-preview",
    "2024-10-01-preview",
    "2025-03-01-preview",
    "2025-09-01-preview",
    "2021-12-01-preview",
    "2022-12-01-preview",
];

/// Handles one request, journals it, and does to it what a fault says.
pub(crate) async fn handle(shared: &Shared, request: Request<Bytes>) -> Result<Answer, Cut> {
    let method = request.method().clone();
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str())
        .to_owned();
    let journal = |status: Option<u16>| shared.lock().journal.arm(method.as_str(), &path, status);
    let mut fail = None;
    match shared.fault(Plane::Arm, method.as_str(), &path) {
        None => {}
        Some(Action::Answer {
            status,
            headers,
            body,
        }) => {
            journal(Some(status));
            return Ok(injected(status, &headers, body.as_ref()));
        }
        Some(Action::Hang) => {
            journal(None);
            tokio::time::sleep(Duration::from_hours(1)).await;
            return Err(Cut);
        }
        Some(Action::CutBefore) => {
            journal(None);
            return Err(Cut);
        }
        Some(Action::CutAfter) => {
            answer(shared, &request, None);
            journal(None);
            return Err(Cut);
        }
        Some(Action::Slow { millis }) => tokio::time::sleep(Duration::from_millis(millis)).await,
        Some(Action::FailOperation { code, message }) => fail = Some((code, message)),
    }
    let answer = answer(shared, &request, fail);
    tracing::debug!(%method, path, status = answer.status().as_u16(), "arm");
    journal(Some(answer.status().as_u16()));
    Ok(answer)
}

fn injected(
    status: u16,
    headers: &std::collections::BTreeMap<String, String>,
    body: Option<&serde_json::Value>,
) -> Answer {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = body.map_or_else(|| answer::empty(status), |body| answer::json(status, body));
    for (name, value) in headers {
        let name = http::HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, http::HeaderValue::from_str(value)) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}

fn answer(shared: &Shared, request: &Request<Bytes>, fail: Option<(String, String)>) -> Answer {
    let mut headers: Vec<(&'static str, String)> = Vec::new();
    let mut answer = dispatch(shared, request, fail, &mut headers).unwrap_or_else(Refusal::into_answer);
    let id = uuid::Uuid::new_v4().to_string();
    answer::set(&mut answer, "x-ms-request-id", &id);
    answer::set(&mut answer, "x-ms-correlation-request-id", &id);
    answer::set(&mut answer, "cache-control", "no-cache");
    for (name, value) in headers {
        answer::set(&mut answer, name, &value);
    }
    if request.method() == Method::HEAD {
        *answer.body_mut() = answer::empty(StatusCode::OK).into_body();
    }
    answer
}

fn dispatch(
    shared: &Shared,
    request: &Request<Bytes>,
    fail: Option<(String, String)>,
    headers: &mut Vec<(&'static str, String)>,
) -> Result<Answer, Refusal> {
    let mut state = shared.lock();
    let now = Instant::now();
    let bearer = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    token::check_bearer(&shared.config, &state.token_secret, bearer)?;
    let path = request.uri().path();
    if !state.switches.authorized {
        return Err(forbidden(shared, path));
    }
    if state.switches.throttle {
        match state.throttle.take(request.method(), now) {
            Taken::Remaining(left) => headers.extend(left),
            Taken::Wait(seconds) => return Err(throttled(&shared.config.subscription, seconds)),
        }
    }
    let segments: Vec<String> = path
        .split('/')
        .filter(|part| !part.is_empty())
        .map(decode)
        .collect();
    let below = below_service(shared, &segments)?;
    let query = Query::parse(request.uri().query());
    api_version(&query)?;
    let below = without_first_revision(below)?;
    let target = parse(&below).ok_or_else(|| {
        Refusal::arm(
            StatusCode::NOT_FOUND,
            "InvalidResourceType",
            format!("The stand-in does not know the resource type of '{path}'."),
        )
    })?;
    let if_match = request
        .headers()
        .get(IF_MATCH)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let mut call = Call {
        shared,
        state: &mut state,
        now,
        query,
        if_match,
        body: request.body(),
        fail,
    };
    route(&mut call, request.method(), &target)
}

fn route(call: &mut Call<'_>, method: &Method, target: &Target) -> Result<Answer, Refusal> {
    match (target, method) {
        (Target::Service, &Method::GET) => {
            let mut answer = answer::json(
                StatusCode::OK,
                &service::show(&call.shared.config, call.state.switches.without_addresses),
            );
            answer::set(&mut answer, "etag", &format!("\"{}\"", service::ETAG));
            Ok(answer)
        }
        (Target::Collection { kind, id }, &Method::GET) => list::list(call, *kind, id),
        (Target::OperationResult { id }, &Method::GET) => polling::result(call, id),
        (Target::Verb { kind, id, verb }, &Method::POST) => entity::verb(call, *kind, id, verb),
        (Target::Entity { kind, id }, method) => {
            if !kind.allows(method) {
                let body = serde_json::json!({"Message": format!("The requested resource does not support http method '{method}'.")});
                let mut answer = answer::json(StatusCode::METHOD_NOT_ALLOWED, &body);
                answer::set(&mut answer, "allow", &kind.verbs());
                return Ok(answer);
            }
            match *method {
                Method::PUT => entity::put(call, *kind, id),
                Method::PATCH => entity::patch(call, *kind, id),
                Method::DELETE => entity::delete(call, *kind, id),
                _ => entity::get(call, *kind, id, method == Method::HEAD),
            }
        }
        _ => {
            let body = serde_json::json!({"Message": format!("The requested resource does not support http method '{method}'.")});
            Ok(answer::json(StatusCode::METHOD_NOT_ALLOWED, &body))
        }
    }
}

fn forbidden(shared: &Shared, path: &str) -> Refusal {
    let client = &shared.config.client_id;
    Refusal::arm(
        StatusCode::FORBIDDEN,
        "AuthorizationFailed",
        format!(
            "The client '{client}' with object id '{client}' does not have authorization to perform action \
             'Microsoft.ApiManagement/service/read' over scope '{path}' or the scope is invalid. If access was \
             recently granted, please refresh your credentials."
        ),
    )
}

fn throttled(subscription: &str, seconds: u64) -> Refusal {
    Refusal::arm(
        StatusCode::TOO_MANY_REQUESTS,
        "SubscriptionRequestsThrottled",
        format!(
            "Number of requests for subscription '{subscription}' exceeded the limit. Please try again after \
             '{seconds}' seconds."
        ),
    )
    .with("retry-after", seconds.to_string())
}

/// The segments after the service's name, or what ARM says when subscription, group or service do not exist.
fn below_service<'a>(shared: &Shared, segments: &'a [String]) -> Result<&'a [String], Refusal> {
    let config = &shared.config;
    let is = |at: usize, wanted: &str| {
        segments
            .get(at)
            .is_some_and(|segment| segment.eq_ignore_ascii_case(wanted))
    };
    let invalid = || {
        Refusal::arm(
            StatusCode::NOT_FOUND,
            "InvalidResource",
            "The path is not one of API Management.",
        )
    };
    if !is(0, "subscriptions") {
        return Err(invalid());
    }
    if !is(1, &config.subscription) {
        let id = segments.get(1).map_or("", String::as_str);
        let message = format!("The subscription '{id}' could not be found.");
        return Err(Refusal::arm(
            StatusCode::NOT_FOUND,
            "SubscriptionNotFound",
            message,
        ));
    }
    if !is(2, "resourceGroups")
        || !is(4, "providers")
        || !is(5, "Microsoft.ApiManagement")
        || !is(6, "service")
    {
        return Err(invalid());
    }
    let group = &segments[3];
    if !group.eq_ignore_ascii_case(&config.resource_group) {
        let message = format!("Resource group '{group}' could not be found.");
        return Err(Refusal::arm(
            StatusCode::NOT_FOUND,
            "ResourceGroupNotFound",
            message,
        ));
    }
    let name = segments.get(7).map_or("", String::as_str);
    if !name.eq_ignore_ascii_case(&config.service) {
        let message = format!(
            "The Resource 'Microsoft.ApiManagement/service/{name}' under resource group '{group}' was not found. \
             For more details please go to https://aka.ms/ARMResourceNotFoundFix"
        );
        return Err(Refusal::arm(StatusCode::NOT_FOUND, "ResourceNotFound", message));
    }
    Ok(&segments[8..])
}

fn api_version(query: &Query) -> Result<(), Refusal> {
    match query.get("api-version") {
        None => Err(Refusal::arm(
            StatusCode::BAD_REQUEST,
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.",
        )),
        Some(version) if VERSIONS.iter().any(|known| known.eq_ignore_ascii_case(version)) => Ok(()),
        Some(version) => Err(Refusal::arm(
            StatusCode::BAD_REQUEST,
            "InvalidResourceType",
            format!(
                "No registered resource provider found for API version '{version}'. The supported api-versions are '{}'.",
                VERSIONS.join(", ")
            ),
        )),
    }
}

/// `apis/x;rev=1` is `apis/x`; there are no other revisions here.
fn without_first_revision(segments: &[String]) -> Result<Vec<String>, Refusal> {
    let strip = |segment: &String| match segment.split_once(";rev=") {
        None => Ok(segment.clone()),
        Some((name, "1")) => Ok(name.to_owned()),
        Some(_) => Err(Refusal::not_found(super::kind::Kind::Api)),
    };
    segments.iter().map(strip).collect()
}
