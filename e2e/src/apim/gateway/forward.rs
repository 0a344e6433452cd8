//! Sends a call to its backend, streaming in both directions.
//! In: the call, its body and the attributes of `forward-request`. Out: status, headers and a body that arrives as
//! the backend sends it; or all at once when the policy buffers.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use http::header::{HOST, HeaderName};
use http::{HeaderMap, HeaderValue};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;

use super::exchange::Exchange;
use super::failure::Failure;
use crate::apim::answer::{Body, BoxError};
use crate::apim::policy::expression::{evaluate_flag, evaluate_text};
use crate::apim::policy::xml::Element;

/// Of one connection, not of the message (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

#[derive(Debug)]
pub(super) struct Forwarder {
    strict: reqwest::Client,
    /// For backends whose certificate is not to be checked.
    trusting: reqwest::Client,
}

impl Forwarder {
    pub(super) fn new() -> anyhow::Result<Self> {
        let builder = || {
            reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .http1_only()
                .tcp_nodelay(true)
                .connect_timeout(Duration::from_secs(30))
        };
        // Backends over plain HTTP need no trusted certificates, so their absence must not stop the gateway.
        let strict = builder().build().or_else(|error| {
            tracing::warn!(%error, "no trusted certificates: backends over TLS will fail");
            builder().tls_certs_only([]).build()
        })?;
        Ok(Self {
            strict,
            trusting: builder().tls_danger_accept_invalid_certs(true).build()?,
        })
    }

    pub(super) async fn send(
        &self,
        policy: &Element,
        exchange: &mut Exchange,
        body: Incoming,
    ) -> Result<(Body, Sent), Failure> {
        for name in ["continue-timeout", "fail-on-error-status-code"] {
            if policy.attribute(name).is_some_and(|value| value != "false") {
                return Err(Failure::not_run(&format!("'{name}' of 'forward-request'")));
            }
        }
        let url = destination(exchange)?;
        let timeout = timeout(policy, exchange)?;
        let headers = request_headers(exchange);
        let sent = Sent {
            url: format!("{}{}", url.origin().ascii_serialization(), url.path()),
            headers: headers.keys().map(|name| name.as_str().to_owned()).collect(),
            query: url.query().map(str::to_owned),
        };
        let mut request = self
            .client(exchange)
            .request(exchange.method.clone(), url)
            .headers(headers);
        let buffer_request = attribute_flag(policy, "buffer-request-body", false, exchange)?;
        if buffer_request {
            let whole = body
                .collect()
                .await
                .map_err(|_| Failure::new(400, "Client connection failure"))?;
            request = request.body(whole.to_bytes());
        } else if !body.is_end_stream() {
            request = request.body(reqwest::Body::wrap_stream(body.into_data_stream()));
        }
        let response = match tokio::time::timeout(timeout, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                tracing::warn!(api = exchange.api.name(), error = %error.without_url(), "backend connection failure");
                return Err(Failure::new(500, "Internal server error"));
            }
            Err(_) => {
                tracing::warn!(api = exchange.api.name(), "backend timeout");
                return Err(Failure::new(500, "Internal server error"));
            }
        };
        exchange.status = Some(response.status().as_u16());
        exchange.answer_headers = end_to_end(response.headers());
        let body = if attribute_flag(policy, "buffer-response", true, exchange)? {
            let whole = response
                .bytes()
                .await
                .map_err(|_| Failure::new(500, "Internal server error"))?;
            Full::new(whole).map_err(|never| match never {}).boxed_unsync()
        } else {
            let stream = response
                .bytes_stream()
                .map_ok(Frame::<Bytes>::data)
                .map_err(BoxError::from);
            StreamBody::new(stream).boxed_unsync()
        };
        Ok((body, sent))
    }

    fn client(&self, exchange: &Exchange) -> &reqwest::Client {
        let backend = exchange
            .destination
            .as_ref()
            .and_then(|destination| destination.backend.as_ref());
        let unchecked = backend
            .and_then(|backend| backend.properties.get("tls"))
            .is_some_and(|tls| {
                tls["validateCertificateChain"] == false || tls["validateCertificateName"] == false
            });
        if unchecked { &self.trusting } else { &self.strict }
    }
}

/// What was forwarded, for the journal.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) url: String,
    pub(super) headers: Vec<String>,
    pub(super) query: Option<String>,
}

fn attribute_flag(policy: &Element, name: &str, default: bool, exchange: &Exchange) -> Result<bool, Failure> {
    match policy.attribute(name) {
        None => Ok(default),
        Some(value) => Ok(evaluate_flag(value, exchange)?),
    }
}

fn timeout(policy: &Element, exchange: &Exchange) -> Result<Duration, Failure> {
    let read = |name: &str| -> Result<Option<u64>, Failure> {
        let Some(value) = policy.attribute(name) else {
            return Ok(None);
        };
        let text = evaluate_text(value, exchange)?;
        text.parse()
            .map(Some)
            .map_err(|_| Failure::not_run(&format!("the value '{text}' of '{name}'")))
    };
    Ok(match (read("timeout")?, read("timeout-ms")?) {
        (_, Some(millis)) => Duration::from_millis(millis),
        (seconds, None) => Duration::from_secs(seconds.unwrap_or(300)),
    })
}

/// The backend's URL, else the API's own; without either the call fails, as it does at the service.
fn destination(exchange: &Exchange) -> Result<url::Url, Failure> {
    let base = match &exchange.destination {
        Some(destination) => Some(destination.base.clone()),
        None => exchange
            .api
            .text("serviceUrl")
            .filter(|url| !url.is_empty())
            .map(str::to_owned),
    };
    let Some(base) = base else {
        tracing::error!(
            api = exchange.api.name(),
            "no serviceUrl and no set-backend-service: nowhere to forward to"
        );
        return Err(Failure::new(500, "Internal server error"));
    };
    let target = format!("{}{}", base.trim_end_matches('/'), exchange.rest);
    let mut url = url::Url::parse(&target).map_err(|_| Failure::new(500, "Internal server error"))?;
    url.set_query(exchange.raw_query.as_deref());
    let credentials = exchange
        .destination
        .as_ref()
        .and_then(|to| to.backend.as_ref()?.properties.get("credentials"));
    for (name, values) in credentials
        .and_then(|all| all["query"].as_object())
        .into_iter()
        .flatten()
    {
        for value in values
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|value| value.as_str())
        {
            url.query_pairs_mut().append_pair(name, value);
        }
    }
    Ok(url)
}

/// Headers without those of the connection.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let listed: Vec<String> = headers
        .get_all("connection")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(|name| name.trim().to_lowercase())
        .collect();
    let mut out = HeaderMap::new();
    for (name, value) in headers {
        if !HOP_BY_HOP.contains(&name.as_str()) && !listed.iter().any(|other| other == name.as_str()) {
            out.append(name.clone(), value.clone());
        }
    }
    out
}

fn request_headers(exchange: &Exchange) -> HeaderMap {
    let mut headers = end_to_end(&exchange.headers);
    // The client sets the backend's own host, unless a policy has set another one.
    let came = exchange.host.as_bytes();
    if headers.get(HOST).is_some_and(|host| host.as_bytes() == came) {
        headers.remove(HOST);
    }
    headers.remove("expect");
    let peer = exchange.peer.to_string();
    let chain = match exchange.header("x-forwarded-for") {
        Some(before) => format!("{before}, {peer}"),
        None => peer,
    };
    if let Ok(value) = HeaderValue::from_str(&chain) {
        headers.insert(HeaderName::from_static("x-forwarded-for"), value);
    }
    let credentials = exchange
        .destination
        .as_ref()
        .and_then(|to| to.backend.as_ref()?.properties.get("credentials"));
    for (name, values) in credentials
        .and_then(|all| all["header"].as_object())
        .into_iter()
        .flatten()
    {
        for value in values
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|value| value.as_str())
        {
            if let (Ok(name), Ok(value)) = (
                HeaderName::from_bytes(name.as_bytes()),
                HeaderValue::from_str(value),
            ) {
                headers.insert(name, value);
            }
        }
    }
    headers
}
