//! POST /messages/{session_id}: a message for a stream goes in, 202 comes out, and the answer comes on the stream,
//! wherever among the replicas that is.

use super::framing;
use crate::app::App;
use crate::audit::Origin;
use crate::http::body::{expect_json, read_body};
use crate::http::refusal::{Refusal, TooManyCalls, empty_response, json_response};
use crate::metrics::Metrics;
use crate::protocol::answer::{self, Code, RenderedId};
use crate::protocol::dispatch::Step;
use crate::protocol::envelope::{self, EnvelopeError, Message};
use crate::protocol::json;
use crate::protocol::revision::{Era, Transport};
use crate::replica::Place;
use crate::replica::forward::ForwardError;
use crate::replica::session_id::Fingerprint;
use crate::traces::Incoming;
use axum::body::Body;
use axum::extract::{Request, State};
use bytes::Bytes;
use futures::FutureExt as _;
use http::header::RETRY_AFTER;
use http::{HeaderMap, Method, Response, StatusCode};
use std::sync::Arc;

/// What became of a message.
#[derive(Debug)]
pub enum Delivery {
    /// The answer, if there is one, comes on the stream.
    Accepted,
    /// No such stream is open.
    Unknown,
    /// Too many calls of this stream are running; the id of the one that is not.
    Busy(RenderedId),
    /// Too many calls of one tool were made.
    Limited(TooManyCalls),
    /// It is no message.
    Unreadable(EnvelopeError),
}

/// What whoever sent a message is told.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// A JSON-RPC error, or nothing.
    pub body: Bytes,
    /// Seconds after which trying again makes sense.
    pub retry_after: Option<u64>,
}

impl Answer {
    fn into_response(self) -> Response<Body> {
        let mut response = if self.body.is_empty() {
            empty_response(self.status)
        } else {
            json_response(self.status, self.body)
        };
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl Delivery {
    /// For whoever sent the message; counted, if it is a refusal.
    pub fn answer(self, metrics: &Metrics) -> Answer {
        let (refused, retry_after) = match &self {
            Delivery::Busy(_) => (Some("busy_session"), Some(1)),
            Delivery::Unknown => (Some("unknown_session"), None),
            Delivery::Unreadable(_) => (Some("envelope"), None),
            // Counted as a call.
            Delivery::Limited(too_many) => (None, Some(too_many.retry_after)),
            Delivery::Accepted => (None, None),
        };
        if let Some(reason) = refused {
            metrics.refused(reason);
        }
        let (status, body) = self.status();
        Answer {
            status,
            body,
            retry_after,
        }
    }

    fn status(self) -> (StatusCode, Bytes) {
        match self {
            Delivery::Accepted => (StatusCode::ACCEPTED, Bytes::new()),
            Delivery::Limited(too_many) => (StatusCode::TOO_MANY_REQUESTS, too_many.body),
            Delivery::Unknown => {
                let text = "no such session: open a new stream with GET /sse";
                (
                    StatusCode::NOT_FOUND,
                    answer::error(None, Code::InvalidRequest, text, None),
                )
            }
            Delivery::Busy(id) => {
                let text = "too many calls of this session are running";
                (
                    StatusCode::SERVICE_UNAVAILABLE,
                    answer::error(Some(&id), Code::Internal, text, None),
                )
            }
            Delivery::Unreadable(error) => (
                StatusCode::BAD_REQUEST,
                answer::error(None, (&error).into(), &error.to_string(), None),
            ),
        }
    }
}

/// The handler.
pub async fn message(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    match receive(&app, request).await {
        Ok(answer) => answer.into_response(),
        Err(refusal) => refusal.into_response(&app.metrics),
    }
}

async fn receive(app: &Arc<App>, request: Request) -> Result<Answer, Refusal> {
    app.guard.check(&request)?;
    if request.method() != Method::POST {
        return Err(Refusal::Method("POST"));
    }
    let (parts, body) = request.into_parts();
    let id = session_of(parts.uri.path(), parts.uri.query()).ok_or(Refusal::Session)?;
    expect_json(&parts.headers)?;
    tracing::debug!(session = %Fingerprint(id), "message");
    let place = app.replica.locate(id);
    // Whether a body is worth reading is known before it is read.
    if matches!(place, Place::Nowhere) {
        return Ok(Delivery::Unknown.answer(&app.metrics));
    }
    let body = read_body(&parts.headers, body, &app.limits).await?;
    let origin = app.origin(&parts.headers, Some(id));
    match (place, &app.replica.forwarder) {
        (Place::Here(token), _) => {
            let delivery = deliver(app, token, origin, Some(&parts.headers), &body).await;
            Ok(delivery.answer(&app.metrics))
        }
        (Place::Elsewhere(owner), Some(forwarder)) => {
            let caller = origin.caller.as_ref();
            let sent = forwarder
                .forward(&app.replica.keys, owner, id, caller, body)
                .await;
            app.metrics
                .forwarded(sent.as_ref().map_or_else(ForwardError::reason, |_| "answered"));
            match sent {
                Ok(answer) => Ok(answer),
                Err(ForwardError::Gone) => Ok(Delivery::Unknown.answer(&app.metrics)),
                Err(ForwardError::Full) => Err(Refusal::OwnerFull),
                Err(ForwardError::Silent) => Err(Refusal::OwnerSilent),
                Err(ForwardError::Sign(error)) => {
                    tracing::error!(%error, "failed to forward a message");
                    Err(Refusal::Internal)
                }
            }
        }
        _ => Ok(Delivery::Unknown.answer(&app.metrics)),
    }
}

/// The session named by the path; the query, which some clients read it from, must not name another.
fn session_of<'u>(path: &'u str, query: Option<&str>) -> Option<&'u str> {
    let id = path
        .strip_prefix("/messages/")
        .filter(|id| !id.is_empty() && !id.contains('/'))?;
    let mut named = query
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.strip_prefix("session_id="));
    named.all(|other| other == id).then_some(id)
}

/// Give a message to the stream `token` of this replica; `headers` are those it came with, if it came here directly.
pub async fn deliver(
    app: &Arc<App>,
    token: u128,
    origin: Origin,
    headers: Option<&HeaderMap>,
    body: &[u8],
) -> Delivery {
    let Some(stream) = app.streams.find(token) else {
        return Delivery::Unknown;
    };
    let message = match json::parse(body)
        .map_err(EnvelopeError::from)
        .and_then(envelope::open)
    {
        Ok(message) => message,
        Err(error) => return Delivery::Unreadable(error),
    };
    let Message::Request { id, method, params } = message else {
        return Delivery::Accepted;
    };
    let era = Era::Handshake(Transport::Sse);
    let mut span = app.traces.begin(&Incoming {
        headers,
        session: origin.session,
        era,
        id: &id,
        method: &method,
        params: &params,
    });
    match app.dispatch.request(era, &id, &method, &params) {
        Step::Answer(reply) => {
            span.end(&reply);
            app.streams.send(&stream, framing::event("message", &reply.body));
        }
        Step::Call(call) => {
            let Some(running) = stream.begin_call() else {
                app.audit
                    .limited(origin, call.era, &call.work, "calls_of_a_session");
                span.limited();
                return Delivery::Busy(call.id);
            };
            if let Err(too_many) = app.admit(&call, origin) {
                span.limited();
                return Delivery::Limited(too_many);
            }
            let task = Arc::clone(app);
            let mut run = async move {
                let reply = task.run(call, origin, &mut span).await;
                span.end(&reply);
                task.streams
                    .send(&running.0, framing::event("message", &reply.body));
            }
            .boxed();
            // A cached answer is there at once; only a call that has to wait costs a task.
            if futures::poll!(&mut run).is_pending() {
                tokio::spawn(run);
            }
        }
    }
    Delivery::Accepted
}

impl ForwardError {
    fn reason(&self) -> &'static str {
        match self {
            ForwardError::Gone => "owner_gone",
            ForwardError::Full => "owner_full",
            ForwardError::Silent => "owner_silent",
            ForwardError::Sign(_) => "failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_query_name_one_session() {
        assert_eq!(session_of("/messages/abc", None), Some("abc"));
        assert_eq!(session_of("/messages/abc", Some("session_id=abc")), Some("abc"));
        assert_eq!(
            session_of("/messages/abc", Some("x=1&session_id=abc")),
            Some("abc")
        );
        assert_eq!(session_of("/messages/abc", Some("session_id=abd")), None);
        assert_eq!(
            session_of("/messages/abc", Some("session_id=abc&session_id=x")),
            None
        );
        assert_eq!(session_of("/messages/", Some("session_id=abc")), None);
        assert_eq!(session_of("/messages", Some("session_id=abc")), None);
        assert_eq!(session_of("/messages/a/b", None), None);
    }
}
