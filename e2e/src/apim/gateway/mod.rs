//! The gateway: one call at a time through fixed steps.
//!
//! fault -> API and operation -> preflight -> subscription key -> inbound -> backend -> outbound -> answer and journal
//!
//! In: an HTTP request whose body streams. Out: an answer whose body streams, or a cut connection when a test asked
//! for that.

mod cors;
mod effective;
mod exchange;
mod failure;
mod forward;
mod key;
pub(crate) mod limit;
mod route;
mod run;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::ACCESS_CONTROL_REQUEST_METHOD;
use http::{HeaderMap, Method, Request, StatusCode};
use hyper::body::Incoming;

use super::answer::{self, Answer, Body, Cut};
use super::fault::{Action, Plane};
use super::journal::GatewayEntry;
use super::policy::xml::Element;
use super::query::Query;
use super::state::Shared;
use super::store::{Document, World};
use super::switches::Switches;
use effective::{Effective, Step};
use exchange::Exchange;
use failure::Failure;
use forward::Forwarder;
use run::{Flow, Side, run};

/// Answers 200 as long as the gateway is up (not in the Consumption tier).
const STATUS_PATH: &str = "/status-0123456789abcdef";

#[derive(Debug)]
pub(crate) struct Gateway {
    forwarder: Forwarder,
}

impl Gateway {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            forwarder: Forwarder::new()?,
        })
    }

    pub(crate) async fn handle(
        &self,
        shared: &Arc<Shared>,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> Result<Answer, Cut> {
        let mut entry = GatewayEntry {
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            ..GatewayEntry::default()
        };
        let result = match shared.fault(Plane::Gateway, &entry.method, &entry.path) {
            Some(Action::Answer { status, .. }) => Ok(answer::empty(
                StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY),
            )),
            Some(Action::Hang) => {
                tokio::time::sleep(Duration::from_hours(1)).await;
                Err(Cut)
            }
            Some(Action::CutBefore) => Err(Cut),
            Some(Action::CutAfter) => {
                self.call(shared, request, peer, &mut entry).await;
                Err(Cut)
            }
            Some(Action::Slow { millis }) => {
                tokio::time::sleep(Duration::from_millis(millis)).await;
                Ok(self.call(shared, request, peer, &mut entry).await)
            }
            Some(Action::FailOperation { .. }) | None => {
                Ok(self.call(shared, request, peer, &mut entry).await)
            }
        };
        entry.status = result.as_ref().ok().map(|answer| answer.status().as_u16());
        tracing::debug!(
            method = entry.method,
            path = entry.path,
            status = entry.status,
            "gateway"
        );
        shared.lock().journal.gateway(entry);
        result
    }

    async fn call(
        &self,
        shared: &Arc<Shared>,
        request: Request<Incoming>,
        peer: IpAddr,
        entry: &mut GatewayEntry,
    ) -> Answer {
        if request.uri().path() == STATUS_PATH {
            return answer::bytes(StatusCode::OK, "text/plain", "Service Operational");
        }
        let (world, switches) = {
            let state = shared.lock();
            (state.store.gateway(), state.switches.clone())
        };
        let (parts, body) = request.into_parts();
        let Some(route) = route::find_api(&world, parts.uri.path()) else {
            return Failure::new(404, "Resource not found").answer();
        };
        entry.api = Some(route.api.name().to_owned());
        let found = route::find_operation(&world, &route.api, &parts.method, &route.rest);
        if found.is_none() && cors::is_preflight(&parts.method, &parts.headers) {
            return preflight(shared, &switches, &world, &route, &parts.headers);
        }
        let mut exchange = Exchange::new(world, peer, parts, route);
        let admitted = admit(&mut exchange, found, &switches, entry);
        let effective = Effective::new(
            &shared.default_policy,
            &switches,
            &exchange.world,
            &exchange.api,
            exchange.operation.as_deref(),
            exchange.product.as_deref(),
        );
        let result = match admitted {
            Ok(()) => {
                self.pipeline(shared, &effective, &mut exchange, body, entry)
                    .await
            }
            Err(failure) => Err(failure),
        };
        result.unwrap_or_else(|failure| failed(shared, &effective, &mut exchange, &failure))
    }

    async fn pipeline(
        &self,
        shared: &Shared,
        effective: &Effective,
        exchange: &mut Exchange,
        body: Incoming,
        entry: &mut GatewayEntry,
    ) -> Result<Answer, Failure> {
        if let Flow::Return(answer) = run(shared, &effective.section("inbound"), exchange, Side::Request)? {
            return Ok(with_added(answer, exchange));
        }
        let mut body = Some(body);
        let mut answered: Option<Body> = None;
        let mut steps = effective.section("backend");
        steps.reverse();
        while let Some(step) = steps.pop() {
            match (step.policy.name.as_str(), body.take()) {
                ("forward-request", Some(incoming)) => {
                    let (answer, sent) = self.forwarder.send(step.policy, exchange, incoming).await?;
                    note(entry, exchange, sent);
                    answered = Some(answer);
                }
                ("choose", unused) => {
                    body = unused;
                    let chosen = run::choose(step.policy, exchange)?
                        .into_iter()
                        .flat_map(Element::children);
                    let inner: Vec<Step<'_>> = chosen.map(|policy| Step { policy, ..step }).collect();
                    steps.extend(inner.into_iter().rev());
                }
                (_, unused) => {
                    body = unused;
                    if let Flow::Return(answer) = run(shared, &[step], exchange, Side::Request)? {
                        return Ok(with_added(answer, exchange));
                    }
                }
            }
        }
        // Without forward-request the call ends with an empty 200.
        let answered = answered.unwrap_or_else(|| answer::empty(StatusCode::OK).into_body());
        if let Flow::Return(answer) = run(shared, &effective.section("outbound"), exchange, Side::Answer)? {
            return Ok(with_added(answer, exchange));
        }
        let mut answer = Answer::new(answered);
        *answer.status_mut() = exchange
            .status
            .and_then(|code| StatusCode::from_u16(code).ok())
            .unwrap_or(StatusCode::OK);
        *answer.headers_mut() = std::mem::take(&mut exchange.answer_headers);
        Ok(with_added(answer, exchange))
    }
}

/// Notes operation and caller in the exchange; refuses calls without the one or the other.
fn admit(
    exchange: &mut Exchange,
    found: Option<(Arc<Document>, route::Parameters)>,
    switches: &Switches,
    entry: &mut GatewayEntry,
) -> Result<(), Failure> {
    let key = key::sent(&exchange.api, &exchange.headers, &exchange.query);
    entry.key_received = key.is_some();
    let (operation, parameters) =
        found.ok_or_else(|| Failure::new(404, "Unable to match incoming request to an operation."))?;
    entry.operation = Some(operation.name().to_owned());
    (exchange.operation, exchange.parameters) = (Some(operation), parameters);
    let path = exchange.api.text("path").unwrap_or_default();
    let url = format!("https://{}/{path}", exchange.host);
    let caller = key::check(&exchange.world, &exchange.api, key.as_deref(), switches, &url)?;
    (exchange.subscription, exchange.product) = (caller.subscription, caller.product);
    Ok(())
}

/// Only `cors` runs for a preflight, before any key is checked.
fn preflight(
    shared: &Shared,
    switches: &Switches,
    world: &World,
    route: &route::Route,
    headers: &HeaderMap,
) -> Answer {
    let asked = headers
        .get(ACCESS_CONTROL_REQUEST_METHOD)
        .and_then(|value| Method::from_bytes(value.as_bytes()).ok());
    let operation: Option<Arc<Document>> = asked
        .and_then(|method| route::find_operation(world, &route.api, &method, &route.rest))
        .map(|(operation, _)| operation);
    let effective = Effective::new(
        &shared.default_policy,
        switches,
        world,
        &route.api,
        operation.as_deref(),
        None,
    );
    let inbound = effective.section("inbound");
    let policies: Vec<&Element> = inbound
        .iter()
        .map(|step| step.policy)
        .filter(|policy| policy.name == "cors")
        .collect();
    if policies.is_empty() {
        return Failure::new(404, "Unable to match incoming request to an operation.").answer();
    }
    cors::preflight(&policies, headers)
}

/// The answer of a failed call, after the policies of `on-error`.
fn failed(shared: &Shared, effective: &Effective, exchange: &mut Exchange, failure: &Failure) -> Answer {
    exchange.status = Some(failure.status);
    let mut answer = failure.answer();
    exchange.answer_headers = std::mem::take(answer.headers_mut());
    match run(shared, &effective.section("on-error"), exchange, Side::Answer) {
        Ok(Flow::Continue) => {}
        Ok(Flow::Return(answer)) => return with_added(answer, exchange),
        Err(second) => return second.answer(),
    }
    *answer.headers_mut() = std::mem::take(&mut exchange.answer_headers);
    if let Some(status) = exchange.status.and_then(|code| StatusCode::from_u16(code).ok()) {
        *answer.status_mut() = status;
    }
    with_added(answer, exchange)
}

fn with_added(mut answer: Answer, exchange: &Exchange) -> Answer {
    for (name, value) in &exchange.added {
        let name = http::HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, http::HeaderValue::from_str(value)) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}

fn note(entry: &mut GatewayEntry, exchange: &Exchange, sent: forward::Sent) {
    let (header, parameter) = key::names(&exchange.api);
    entry.key_forwarded = sent.headers.iter().any(|name| name.eq_ignore_ascii_case(&header))
        || Query::parse(sent.query.as_deref()).get(&parameter).is_some();
    entry.forwarded_to = Some(sent.url);
    entry.forwarded_headers = sent.headers;
}
