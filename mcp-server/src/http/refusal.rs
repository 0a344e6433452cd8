//! Everything that is refused before there is a message to answer, and responses as such. One table for all endpoints.

use crate::endless;
use crate::limit::whole_seconds;
use crate::metrics::Metrics;
use crate::protocol::answer::{self, Code, RenderedId};
use crate::tools::Tool;
use axum::body::Body;
use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde_json::json;
use std::time::Duration;

/// Why a request is not looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not a name that we answer to (DNS rebinding).
    Host,
    /// A page that we do not know is behind it.
    Origin,
    /// It did not come through the gateway.
    GatewaySecret,
    /// Another method than the one that the path has.
    Method(&'static str),
    /// The answer would be of no use to the client.
    NotAcceptable(&'static str),
    /// The body is not declared as JSON.
    ContentType,
    /// The body is too long.
    BodyTooLarge,
    /// The headers did not come in time.
    HeaderTimeout,
    /// The body did not come in time.
    BodyTimeout,
    /// The bodies of all requests take as much memory as they may.
    BodiesFull,
    /// The body broke off.
    BodyBroken,
    /// POST /messages without a session, or with two.
    Session,
    /// As many streams are open as this replica holds.
    TooManyStreams,
    /// This replica is about to end, and with it each stream.
    Draining,
    /// Long answers wait for clients that do not read, as many as there is memory for.
    AnswersUnread,
    /// The replica that holds the stream did not answer.
    OwnerSilent,
    /// The replica that holds the stream has no memory for the body.
    OwnerFull,
    /// Our fault.
    Internal,
}

impl Refusal {
    /// Status, label in metrics, and what a person should know.
    fn facts(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Refusal::Host => (
                S::FORBIDDEN,
                "host",
                "this Host is not served here: send one Host header, with a name in ALLOWED_HOSTS or an IP address",
            ),
            Refusal::Origin => (
                S::FORBIDDEN,
                "origin",
                "this Origin is not allowed here: add it to ALLOWED_ORIGINS",
            ),
            Refusal::GatewaySecret => (
                S::UNAUTHORIZED,
                "gateway_secret",
                "only the gateway may call this server: use its URL",
            ),
            Refusal::Method(_) => (S::METHOD_NOT_ALLOWED, "method", "method not allowed"),
            Refusal::NotAcceptable(text) => (S::NOT_ACCEPTABLE, "accept", text),
            Refusal::ContentType => (
                S::UNSUPPORTED_MEDIA_TYPE,
                "content_type",
                "Content-Type must be application/json",
            ),
            Refusal::BodyTooLarge => (
                S::PAYLOAD_TOO_LARGE,
                "body_size",
                "the body is longer than MAX_BODY_BYTES",
            ),
            Refusal::HeaderTimeout => (
                S::REQUEST_TIMEOUT,
                "header_timeout",
                "the headers did not come within HEADER_SECONDS",
            ),
            Refusal::BodyTimeout => (
                S::REQUEST_TIMEOUT,
                "body_timeout",
                "the body did not come within BODY_SECONDS",
            ),
            Refusal::BodiesFull => (
                S::SERVICE_UNAVAILABLE,
                "bodies_full",
                "too many long bodies are being taken: try again",
            ),
            Refusal::BodyBroken => (S::BAD_REQUEST, "body_broken", "the body broke off"),
            Refusal::Session => (
                S::BAD_REQUEST,
                "session",
                "the path must name one session, and a session_id in the query the same one",
            ),
            Refusal::TooManyStreams => (
                S::SERVICE_UNAVAILABLE,
                "too_many_streams",
                "as many streams are open as MAX_STREAMS allows: try again later",
            ),
            Refusal::Draining => (
                S::SERVICE_UNAVAILABLE,
                "draining",
                "this server is about to end: open the stream again, on a new connection",
            ),
            Refusal::AnswersUnread => (
                S::SERVICE_UNAVAILABLE,
                "answers_unread",
                "too many long answers are not read by their clients: try again",
            ),
            Refusal::OwnerFull => (
                S::SERVICE_UNAVAILABLE,
                "owner_full",
                "the replica that holds this session is short of memory: try again",
            ),
            Refusal::OwnerSilent => (
                S::BAD_GATEWAY,
                "owner_silent",
                "the replica that holds this session did not answer",
            ),
            Refusal::Internal => (S::INTERNAL_SERVER_ERROR, "internal", "internal error"),
        }
    }

    /// The response, counted.
    pub fn into_response(self, metrics: &Metrics) -> Response<Body> {
        self.into_response_to(None, metrics)
    }

    /// For a connection that ends before there is a request to respond to: as it goes over the wire, counted.
    pub fn written_out(self, metrics: &Metrics) -> Vec<u8> {
        let (status, label, text) = self.facts();
        metrics.refused(label);
        let body = answer::error(None, Code::InvalidRequest, text, None);
        let length = body.len();
        let mut out = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{}connection: close\r\n\r\n",
            endless::date()
        )
        .into_bytes();
        out.extend_from_slice(&body);
        out
    }

    /// The response to a request whose id has been read, counted.
    pub fn into_response_to(self, id: Option<&RenderedId>, metrics: &Metrics) -> Response<Body> {
        let (status, label, text) = self.facts();
        metrics.refused(label);
        let code = if status.is_server_error() {
            Code::Internal
        } else {
            Code::InvalidRequest
        };
        let mut response = json_response(status, answer::error(id, code, text, None));
        let headers = response.headers_mut();
        match self {
            Refusal::Method(allowed) => {
                headers.insert(ALLOW, HeaderValue::from_static(allowed));
            }
            Refusal::GatewaySecret => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Gateway-Secret"));
            }
            Refusal::TooManyStreams => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
            }
            Refusal::AnswersUnread | Refusal::OwnerFull => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            // Another connection may lead to another replica, and what is left of a body is not worth reading.
            Refusal::Draining | Refusal::BodiesFull => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            // What is left of the body is not worth reading.
            Refusal::BodyTooLarge | Refusal::BodyTimeout => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}

/// One tool was called as often as it may be.
#[derive(Debug)]
pub struct TooManyCalls {
    /// The JSON-RPC error.
    pub body: Bytes,
    /// Seconds until it may be called again.
    pub retry_after: u64,
}

impl TooManyCalls {
    /// What the caller of `tool` is told. It is nothing that is wrong with the request, hence the code.
    pub fn of(tool: Tool, id: &RenderedId, wait: Duration) -> TooManyCalls {
        let retry_after = whole_seconds(wait);
        let message = format!(
            "too many calls of {} at this server: try again in {retry_after} seconds",
            tool.name()
        );
        let data = json!({"retryAfterSeconds": retry_after});
        TooManyCalls {
            body: answer::error(Some(id), Code::Internal, &message, Some(&data)),
            retry_after,
        }
    }

    /// For an endpoint whose answers are responses.
    pub fn into_response(self) -> Response<Body> {
        let mut response = json_response(StatusCode::TOO_MANY_REQUESTS, self.body);
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(self.retry_after));
        response
    }
}

/// A JSON body.
pub fn json_response(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// No body.
pub fn empty_response(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
