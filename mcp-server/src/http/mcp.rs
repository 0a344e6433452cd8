//! The gate of /mcp, and the stateless endpoint behind it. A request goes in; what is refused never reaches an endpoint.
//!
//! The weather server's endpoint keeps nothing between requests and has POST alone. The conformance server puts one with
//! sessions behind the same gate.

use super::body::{expect_json, read_body};
use super::refusal::{Refusal, empty_response, json_response};
use super::{listen, media};
use crate::app::App;
use crate::protocol::answer::{self, Code, RenderedId};
use crate::protocol::dispatch::Step;
use crate::protocol::envelope::{self, EnvelopeError, Id, Message};
use crate::protocol::json::{self, Object};
use crate::protocol::modern;
use crate::protocol::revision::Era;
use crate::traces::Incoming;
use axum::body::Body;
use axum::extract::{Request, State};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};
use std::sync::Arc;

/// What stands behind the gate. The type is known where the router is built, so that no call pays for the choice.
pub trait Endpoint: Clone + Send + Sync + 'static {
    /// The methods of /mcp, as in `Allow`.
    const METHODS: &'static str;

    /// Answer a POST that was let in.
    fn post(&self, app: &App, admitted: Admitted<'_>) -> impl Future<Output = Response<Body>> + Send;

    /// Answer another one of [`Endpoint::METHODS`]; Host and Origin have been checked.
    fn other(&self, app: &App, request: Request) -> impl Future<Output = Response<Body>> + Send;

    /// The server is asked to stop: end what would not end by itself.
    fn begin_draining(&self) {}
}

/// A POST that was let in: one message in one revision, whose headers and body agree.
#[derive(Debug)]
pub struct Admitted<'b> {
    /// The request without its body.
    pub parts: &'b Parts,
    /// The body, byte by byte as it came.
    pub body: &'b Bytes,
    /// The rules that the message was held to.
    pub era: Era,
    /// The body, read.
    pub message: Message<'b>,
}

/// What the handler of /mcp shares.
#[derive(Debug, Clone)]
pub struct Gate<E> {
    /// The server.
    pub app: Arc<App>,
    /// Behind the gate.
    pub endpoint: E,
}

/// The handler.
pub async fn mcp<E: Endpoint>(State(gate): State<Gate<E>>, request: Request) -> Response<Body> {
    match answer(&gate, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(&gate.app.metrics),
    }
}

async fn answer<E: Endpoint>(gate: &Gate<E>, request: Request) -> Result<Response<Body>, Refusal> {
    let app = &gate.app;
    app.guard.check(&request)?;
    if request.method() != Method::POST {
        let mut methods = E::METHODS.split(", ");
        if methods.any(|method| method == request.method()) {
            return Ok(gate.endpoint.other(app, request).await);
        }
        return Err(Refusal::Method(E::METHODS));
    }
    let (parts, body) = request.into_parts();
    expect_json(&parts.headers)?;
    expect_both_types(&parts.headers)?;
    let body = read_body(&parts.headers, body, &app.limits).await?;
    let message = match json::parse(&body)
        .map_err(EnvelopeError::from)
        .and_then(envelope::open)
    {
        Ok(message) => message,
        Err(error) => {
            app.metrics.refused("envelope");
            let body = answer::error(None, (&error).into(), &error.to_string(), None);
            return Ok(json_response(StatusCode::BAD_REQUEST, body));
        }
    };
    match judge(&parts.headers, &message) {
        Ok(era) => {
            let admitted = Admitted {
                parts: &parts,
                body: &body,
                era,
                message,
            };
            Ok(gate.endpoint.post(app, admitted).await)
        }
        Err(refusal) => {
            app.metrics.refused("envelope");
            let id = match &message {
                Message::Request { id, .. } => Some(RenderedId::from_id(id)),
                Message::Notification { .. } | Message::Response => None,
            };
            let body = answer::error(id.as_ref(), refusal.code, &refusal.message, refusal.data.as_ref());
            Ok(json_response(StatusCode::BAD_REQUEST, body))
        }
    }
}

fn judge(headers: &HeaderMap, message: &Message<'_>) -> Result<Era, modern::Refusal> {
    match message {
        Message::Request { method, params, .. } => modern::judge_request(headers, method, params),
        Message::Notification { method, params } => modern::judge_notification(headers, method, params),
        Message::Response => modern::judge_response(headers),
    }
}

/// The weather server's endpoint: requests are answered from the dispatch, as one JSON body each; a subscription is a stream.
#[derive(Debug, Clone, Copy)]
pub struct Stateless;

impl Endpoint for Stateless {
    const METHODS: &'static str = "POST";

    async fn post(&self, app: &App, admitted: Admitted<'_>) -> Response<Body> {
        match admitted.message {
            Message::Request { id, method, params } => {
                answer_request(app, &admitted.parts.headers, admitted.era, &id, &method, &params).await
            }
            // We never ask anything, so there is nothing to do with an answer either.
            Message::Notification { .. } | Message::Response => empty_response(StatusCode::ACCEPTED),
        }
    }

    async fn other(&self, app: &App, _: Request) -> Response<Body> {
        Refusal::Method(Self::METHODS).into_response(&app.metrics)
    }
}

async fn answer_request(
    app: &App,
    headers: &HeaderMap,
    era: Era,
    id: &Id<'_>,
    method: &str,
    params: &Object<'_>,
) -> Response<Body> {
    if era == Era::Modern && method == listen::METHOD {
        return listen::open(app, id, params);
    }
    let mut span = app.traces.begin(&Incoming {
        headers: Some(headers),
        session: None,
        era,
        id,
        method,
        params,
    });
    let reply = match app.dispatch.request(era, id, method, params) {
        Step::Answer(reply) => reply,
        Step::Call(call) => {
            let origin = app.origin(headers, None);
            if let Err(too_many) = app.admit(&call, origin) {
                span.limited();
                return too_many.into_response();
            }
            app.run(call, origin, &mut span).await
        }
    };
    span.end(&reply);
    // In the modern era an unknown method is also told in the status; other errors are the method's own business.
    let status = match (era, reply.error) {
        (Era::Modern, Some(Code::MethodNotFound)) => StatusCode::NOT_FOUND,
        _ => StatusCode::OK,
    };
    match app.streams.count_answer(reply.body) {
        Some(body) => json_response(status, body),
        None => Refusal::AnswersUnread.into_response_to(Some(&RenderedId::from_id(id)), &app.metrics),
    }
}

/// A client must take both forms of an answer (streamable-http, Sending Messages).
fn expect_both_types(headers: &HeaderMap) -> Result<(), Refusal> {
    if media::lists(headers, "application/json") && media::lists(headers, "text/event-stream") {
        Ok(())
    } else {
        Err(Refusal::NotAcceptable(
            "Accept must list application/json and text/event-stream",
        ))
    }
}
