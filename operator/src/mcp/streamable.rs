//! Streamable HTTP. In: an exchange and the endpoint's path; out: a report. A server of 2026-07-28 answers
//! `server/discover` and every request by itself; an older one wants a handshake, and may issue a session.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use super::answer;
use super::conversation::{self, Conversation};
use super::error::{Call, ProbeError};
use super::exchange::{Exchange, Reply, Request, SESSION, shown};
use super::message::{self, Greeting, LEGACY, MODERN, Response};
use super::{Report, Role};

const ACCEPT: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const DISCOVER: &str = "server/discover";

pub(super) async fn probe(exchange: Exchange<'_>, path: &str) -> Result<Report, ProbeError> {
    let mut modern = Modern {
        exchange,
        path,
        next_id: 1,
    };
    match discover(&mut modern).await? {
        Some((greeting, versions)) => {
            let tools = conversation::list_tools(&mut modern, &greeting, exchange.limits).await?;
            Ok(Report::of(greeting, versions, &tools))
        }
        None => legacy(exchange, path).await,
    }
}

/// `None` where the server is older. Whatever an older server answers to a method that it does not know (another
/// status, an error, a page) sends the probe to the handshake; who is refused or not heard is told so at once.
async fn discover(modern: &mut Modern<'_>) -> Result<Option<(Greeting, Vec<String>)>, ProbeError> {
    match modern.respond(DISCOVER, json!({})).await {
        Ok(Response::Result(answer)) => {
            let mut greeting = message::greeting(answer.get());
            let versions = greeting.versions.take().filter(|_| greeting.modern);
            Ok(versions.map(|versions| (greeting, versions)))
        }
        Ok(Response::Error { .. }) | Err(ProbeError::NotMcp { .. } | ProbeError::ServerError { .. }) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

async fn legacy(exchange: Exchange<'_>, path: &str) -> Result<Report, ProbeError> {
    let mut legacy = Legacy {
        exchange,
        path,
        version: HeaderValue::from_static(LEGACY),
        session: None,
        greeted: false,
        next_id: 1,
    };
    let report = converse(&mut legacy).await;
    legacy.end().await;
    report
}

async fn converse(legacy: &mut Legacy<'_>) -> Result<Report, ProbeError> {
    const INITIALIZE: &str = "initialize";
    let answer = conversation::result(legacy, INITIALIZE, message::initialize()).await?;
    let mut greeting = message::greeting(answer.get());
    drop(answer);
    let version = greeting.version.take().and_then(|version| {
        let header = HeaderValue::from_str(&version).ok()?;
        Some((version, header))
    });
    let Some((version, header)) = version else {
        let found = "a result without protocolVersion".to_owned();
        return Err(ProbeError::NotMcp {
            call: legacy.call(INITIALIZE),
            found,
        });
    };
    legacy.version = header;
    legacy.greeted = true;
    legacy.notify("notifications/initialized").await?;
    let tools = conversation::list_tools(legacy, &greeting, legacy.exchange.limits).await?;
    if legacy.session.is_some() && legacy.many_replicas() && legacy.exchange.target.role == Role::Server {
        conversation::keep_asking(legacy, legacy.exchange.limits.session_tries).await?;
    }
    Ok(Report::of(greeting, vec![version], &tools))
}

fn call(exchange: Exchange<'_>, path: &str, step: &'static str) -> Call {
    Call {
        verb: "POST",
        address: shown(&exchange.url(path)),
        step,
    }
}

/// Requests of 2026-07-28: each stands alone (basic/transports/streamable-http, "Request Headers").
struct Modern<'a> {
    exchange: Exchange<'a>,
    path: &'a str,
    next_id: u64,
}

impl Conversation for Modern<'_> {
    async fn respond(&mut self, method: &'static str, params: Value) -> Result<Response, ProbeError> {
        let id = self.next_id;
        self.next_id += 1;
        let headers = HeaderMap::from_iter([
            (header::ACCEPT, ACCEPT),
            (PROTOCOL_VERSION, HeaderValue::from_static(MODERN)),
            (METHOD, HeaderValue::from_static(method)),
        ]);
        let body = Some(message::request(id, method, &message::modern(params)));
        let url = self.exchange.url(self.path);
        let request = Request {
            step: method,
            method: Method::POST,
            url,
            headers,
            body,
        };
        let reply = self.exchange.send(request).await?;
        answer::read(reply, self.exchange.target, id).await
    }

    fn call(&self, method: &'static str) -> Call {
        call(self.exchange, self.path, method)
    }
}

/// Requests up to 2025-11-25: after a handshake, and within the session that the server may have issued.
struct Legacy<'a> {
    exchange: Exchange<'a>,
    path: &'a str,
    version: HeaderValue,
    session: Option<HeaderValue>,
    greeted: bool,
    next_id: u64,
}

impl Conversation for Legacy<'_> {
    async fn respond(&mut self, method: &'static str, params: Value) -> Result<Response, ProbeError> {
        let id = self.next_id;
        self.next_id += 1;
        let reply = self.post(method, message::request(id, method, &params)).await?;
        if self.session.is_none() && !self.greeted {
            self.session = reply.headers.get(SESSION).cloned();
        }
        answer::read(reply, self.exchange.target, id).await
    }

    fn call(&self, method: &'static str) -> Call {
        call(self.exchange, self.path, method)
    }
}

impl Legacy<'_> {
    fn many_replicas(&self) -> bool {
        self.exchange.target.replicas > 1
    }

    async fn notify(&self, method: &'static str) -> Result<(), ProbeError> {
        let reply = self.post(method, message::notification(method)).await?;
        answer::accepted(reply, self.exchange.target).await
    }

    /// Sends, and recognises the refusal of a session that another replica issued: 404 by the specification, 400 by
    /// what servers do.
    async fn post(&self, step: &'static str, body: Value) -> Result<Reply, ProbeError> {
        let reply = self.send(step, Method::POST, Some(body)).await?;
        let refused = matches!(reply.status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND);
        if refused && self.session.is_some() && self.many_replicas() {
            return Err(ProbeError::SessionsNotShared {
                call: reply.call,
                status: reply.status.as_u16(),
                replicas: self.exchange.target.replicas,
            });
        }
        Ok(reply)
    }

    async fn send(
        &self,
        step: &'static str,
        method: Method,
        body: Option<Value>,
    ) -> Result<Reply, ProbeError> {
        let mut headers = HeaderMap::from_iter([(header::ACCEPT, ACCEPT)]);
        if self.greeted {
            headers.insert(PROTOCOL_VERSION, self.version.clone());
        }
        if let Some(session) = &self.session {
            headers.insert(SESSION, session.clone());
        }
        self.exchange
            .send(Request {
                step,
                method,
                url: self.exchange.url(self.path),
                headers,
                body,
            })
            .await
    }

    /// Servers keep sessions for a long time; a probe that came every few minutes would fill them. That a server does
    /// not let clients end sessions (405) is its right.
    async fn end(&self) {
        if self.session.is_some() {
            let _ = self.send("end of session", Method::DELETE, None).await;
        }
    }
}
