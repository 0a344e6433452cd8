//! Answers of the stand-in: small constructors for HTTP responses in the forms that API Management uses.
//! In: a status and a JSON value or bytes. Out: a response whose body may stream.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use serde_json::Value;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;
pub(crate) type Answer = Response<Body>;

/// Returned instead of an answer: the connection ends without one.
#[derive(Debug, thiserror::Error)]
#[error("connection cut on purpose")]
pub(crate) struct Cut;

pub(crate) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *answer.status_mut() = status;
    answer
}

pub(crate) fn bytes(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let full = Full::new(body.into()).map_err(|never| match never {});
    let mut answer = Response::new(full.boxed_unsync());
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// Compact JSON, as the service itself, secrets and errors answer.
pub(crate) fn json(status: StatusCode, body: &Value) -> Answer {
    bytes(status, "application/json; charset=utf-8", body.to_string())
}

/// JSON indented by two spaces with CRLF, as sub-resources answer.
pub(crate) fn indented(status: StatusCode, body: &Value) -> Answer {
    let text = serde_json::to_string_pretty(body)
        .unwrap_or_default()
        .replace('\n', "\r\n");
    bytes(status, "application/json; charset=utf-8", text)
}

/// Sets a header; a value that is not a header value is left out.
pub(crate) fn set(answer: &mut Answer, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(HeaderName::from_static(name), value);
    }
}
