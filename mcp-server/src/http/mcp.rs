//! POST /mcp: both eras of streamable HTTP, without sessions. A request goes in, its answer comes out as one JSON body.

use super::body::{expect_json, read_body};
use super::refusal::{Refusal, empty_response, json_response};
use crate::app::App;
use crate::protocol::answer::{self, Code, RenderedId};
use crate::protocol::dispatch::Step;
use crate::protocol::envelope::{self, EnvelopeError, Message};
use crate::protocol::json;
use crate::protocol::modern;
use crate::protocol::revision::Era;
use axum::body::Body;
use axum::extract::{Request, State};
use http::header::ACCEPT;
use http::{HeaderMap, Method, Response, StatusCode};
use std::sync::Arc;

/// The handler.
pub async fn mcp(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    match answer(&app, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(&app.metrics),
    }
}

async fn answer(app: &App, request: Request) -> Result<Response<Body>, Refusal> {
    app.guard.check(&request)?;
    if request.method() != Method::POST {
        return Err(Refusal::Method("POST"));
    }
    let (parts, body) = request.into_parts();
    expect_json(&parts.headers)?;
    expect_both_types(&parts.headers)?;
    let body = read_body(&parts.headers, body, app.limits.body_bytes).await?;
    match json::parse(&body)
        .map_err(EnvelopeError::from)
        .and_then(envelope::open)
    {
        Ok(message) => Ok(answer_message(app, &parts.headers, message).await),
        Err(error) => {
            app.metrics.refused("envelope");
            let body = answer::error(None, (&error).into(), &error.to_string(), None);
            Ok(json_response(StatusCode::BAD_REQUEST, body))
        }
    }
}

async fn answer_message(app: &App, headers: &HeaderMap, message: Message<'_>) -> Response<Body> {
    let (id, method, params) = match message {
        Message::Request { id, method, params } => (id, method, params),
        Message::Notification { .. } => {
            return modern::judge_other(headers).map_or_else(
                |refusal| refuse(app, None, &refusal),
                |_| empty_response(StatusCode::ACCEPTED),
            );
        }
        Message::Response => return take_response(app, headers),
    };
    let era = match modern::judge_request(headers, &method, &params) {
        Ok(era) => era,
        Err(refusal) => return refuse(app, Some(&RenderedId::from_id(&id)), &refusal),
    };
    let reply = match app.dispatch.request(era, &id, &method, &params) {
        Step::Answer(reply) => reply,
        Step::Call(call) => app.run(call).await,
    };
    // In the modern era an unknown method is also told in the status; other errors are the method's own business.
    let status = match (era, reply.error) {
        (Era::Modern, Some(Code::MethodNotFound)) => StatusCode::NOT_FOUND,
        _ => StatusCode::OK,
    };
    json_response(status, reply.body)
}

fn take_response(app: &App, headers: &HeaderMap) -> Response<Body> {
    match modern::judge_other(headers) {
        // We never ask anything, so there is nothing to do with an answer.
        Ok(Era::Handshake(_)) => empty_response(StatusCode::ACCEPTED),
        Ok(Era::Modern) => {
            app.metrics.refused("envelope");
            let text = "a client does not send responses in this revision";
            json_response(
                StatusCode::BAD_REQUEST,
                answer::error(None, Code::InvalidRequest, text, None),
            )
        }
        Err(refusal) => refuse(app, None, &refusal),
    }
}

fn refuse(app: &App, id: Option<&RenderedId>, refusal: &modern::Refusal) -> Response<Body> {
    app.metrics.refused("envelope");
    let body = answer::error(id, refusal.code, &refusal.message, refusal.data.as_ref());
    json_response(StatusCode::BAD_REQUEST, body)
}

/// A client must take both forms of an answer (streamable-http, Sending Messages).
fn expect_both_types(headers: &HeaderMap) -> Result<(), Refusal> {
    let (mut takes_json, mut takes_events) = (false, false);
    for range in headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
    {
        let range = range.split(';').next().unwrap_or_default().trim();
        let is = |wanted: &str| range.eq_ignore_ascii_case(wanted);
        takes_json |= is("application/json") || is("application/*") || is("*/*");
        takes_events |= is("text/event-stream") || is("text/*") || is("*/*");
    }
    if takes_json && takes_events {
        Ok(())
    } else {
        Err(Refusal::NotAcceptable(
            "Accept must list application/json and text/event-stream",
        ))
    }
}
