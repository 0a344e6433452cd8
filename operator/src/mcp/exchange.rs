//! HTTP exchanges with a target, directly or through the API server's service proxy. In: a request; out: the reply with
//! a body that is read piece by piece, under limits of time and size. Every request has a connection of its own, so
//! that a balancer chooses anew each time. Redirects are not followed: they would carry the key to another host.
//! Of a reply's headers a few are kept, as copies: views would keep all of what the server sent.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::time::Instant;
use url::Url;

use super::error::{Call, ProbeError, cut, mask};
use super::{Limits, Target, Transport};

/// Id of a session (2025-11-25, basic/transports).
pub(super) const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");

/// Headers that a probe looks at, and the length up to which it does.
const KEPT: [HeaderName; 6] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::RETRY_AFTER,
    header::LOCATION,
    header::WWW_AUTHENTICATE,
    SESSION,
];
const KEPT_BYTES: usize = 4 * 1024;
/// All headers together, and how a message names that.
const HEADER_BYTES: usize = 64 * 1024;
const HEADER_LIMIT: &str = "64 KiB of headers";

#[derive(Debug)]
pub(super) struct Request {
    pub step: &'static str,
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Option<Value>,
}

/// A target, and how long and how much it may answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange<'a> {
    pub target: &'a Target,
    pub limits: &'a Limits,
    /// Bytes that are left for all answers of the probe.
    pub left: &'a Arc<AtomicUsize>,
}

/// A reply whose body has not been read yet.
pub(super) struct Reply {
    pub call: Call,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Body,
}

/// A body, read until the limits end it.
pub(super) struct Body {
    call: Call,
    stream: BoxStream<'static, Result<Bytes, String>>,
    left: usize,
    left_in_all: Arc<AtomicUsize>,
    limits: Limits,
    deadline: Instant,
    /// What the server says the length is.
    length: usize,
}

impl Exchange<'_> {
    /// The target's URL for one of the server's paths.
    pub(super) fn url(&self, path: &str) -> Url {
        let mut url = self.target.base.clone();
        url.set_path(&format!(
            "{}{path}",
            self.target.base.path().trim_end_matches('/')
        ));
        url
    }

    pub(super) async fn send(&self, request: Request) -> Result<Reply, ProbeError> {
        let call = Call {
            verb: if request.method == Method::GET {
                "GET"
            } else if request.method == Method::DELETE {
                "DELETE"
            } else {
                "POST"
            },
            address: shown(&request.url),
            step: request.step,
        };
        let after = self.limits.call;
        let deadline = Instant::now() + after;
        let sent = tokio::time::timeout_at(deadline, self.transmit(request, &call)).await;
        let (status, headers, stream) = sent.map_err(|_| ProbeError::Timeout {
            call: call.clone(),
            after,
        })??;
        let length = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok());
        let Some(headers) = kept(&headers) else {
            let limit = HEADER_LIMIT.to_owned();
            return Err(ProbeError::TooLarge { call, limit });
        };
        let body = Body {
            call: call.clone(),
            stream,
            left: self.limits.bytes,
            left_in_all: Arc::clone(self.left),
            limits: *self.limits,
            deadline,
            length: length.unwrap_or(0),
        };
        Ok(Reply {
            call,
            status,
            headers,
            body,
        })
    }

    async fn transmit(&self, request: Request, call: &Call) -> Result<Received, ProbeError> {
        let Request {
            step: _,
            method,
            url,
            mut headers,
            body,
        } = request;
        if let Some(key) = &self.target.key {
            headers.insert(self.target.key_header.clone(), key.clone());
        }
        if let Some((header, secret)) = &self.target.secret {
            headers.insert(header.clone(), secret.clone());
        }
        if let Some(token) = &self.target.token {
            headers.insert(header::AUTHORIZATION, token.clone());
        }
        let body = body.map(|body| body.to_string());
        let mut url = url;
        // TLS proves by itself whom a name led to, and needs the name for that.
        if let Some(address) = self.target.address.filter(|_| url.scheme() == "http")
            && let Ok(host) = HeaderValue::from_str(url.authority())
            && url.set_ip_host(address).is_ok()
        {
            headers.insert(header::HOST, host);
        }
        if body.is_some() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        match &self.target.transport {
            Transport::Direct(client) => {
                let mut request = client.request(method, url).headers(headers);
                if let Some(body) = body {
                    request = request.body(body);
                }
                let response = request.send().await.map_err(|error| direct_error(call, &error))?;
                let (parts, body) = http::Response::<reqwest::Body>::from(response).into_parts();
                let stream = body
                    .into_data_stream()
                    .map(|chunk| chunk.map_err(|error| chain(&error)));
                Ok((parts.status, parts.headers, stream.boxed()))
            }
            Transport::ApiServer { client, proxy } => {
                let mut path = format!("{proxy}{}", url.path());
                if let Some(query) = url.query() {
                    path = format!("{path}?{query}");
                }
                let unreachable = |cause: String| ProbeError::Unreachable {
                    call: call.clone(),
                    cause,
                };
                let body = body.map_or_else(kube::client::Body::empty, |body| body.into_bytes().into());
                let mut request = http::Request::builder()
                    .method(method)
                    .uri(path)
                    .body(body)
                    .map_err(|error| unreachable(error.to_string()))?;
                *request.headers_mut() = headers;
                let response = client
                    .send(request)
                    .await
                    .map_err(|error| unreachable(cut(&error.to_string())))?;
                let (parts, body) = response.into_parts();
                let stream = body
                    .into_data_stream()
                    .map(|chunk| chunk.map_err(|error| error.to_string()));
                Ok((parts.status, parts.headers, stream.boxed()))
            }
        }
    }
}

/// Copies of the headers that matter; `None` when all of them take too much.
fn kept(headers: &HeaderMap) -> Option<HeaderMap> {
    let bytes: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if bytes > HEADER_BYTES {
        return None;
    }
    let mut kept = HeaderMap::new();
    for name in KEPT {
        for value in headers.get_all(&name) {
            if value.len() <= KEPT_BYTES
                && let Ok(value) = HeaderValue::from_bytes(value.as_bytes())
            {
                kept.append(&name, value);
            }
        }
    }
    Some(kept)
}

type Received = (StatusCode, HeaderMap, BoxStream<'static, Result<Bytes, String>>);

impl Reply {
    /// Without parameters, in lower case; empty when absent.
    pub(super) fn content_type(&self) -> String {
        let value = self
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        value
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase()
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        let seconds = self
            .headers
            .get(header::RETRY_AFTER)?
            .to_str()
            .ok()?
            .trim()
            .parse()
            .ok()?;
        Some(Duration::from_secs(seconds))
    }

    /// What a message says was found: status, content type, and why it could not be read.
    pub(super) fn found(&self) -> String {
        let status = self.status.as_u16();
        let text = |name| self.headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(location) = text(header::LOCATION).filter(|_| self.status.is_redirection()) {
            let location = cut(without_query(location));
            return format!("{status} to {location} (redirects are not followed)");
        }
        let content_type = cut(&self.content_type());
        let kind = if content_type.is_empty() {
            "no content type"
        } else {
            &content_type
        };
        match text(header::CONTENT_ENCODING) {
            Some(encoding) if !encoding.eq_ignore_ascii_case("identity") => {
                format!(
                    "{status}, {kind} and content encoding {}, which was not asked for",
                    cut(encoding)
                )
            }
            _ => format!("{status} and {kind}"),
        }
    }
}

fn without_query(location: &str) -> &str {
    location.split(['?', '#']).next().unwrap_or_default()
}

impl Body {
    /// The next piece, or `None` at the end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, ProbeError> {
        let next = tokio::time::timeout_at(self.deadline, self.stream.next()).await;
        let call = self.call.clone();
        match next.map_err(|_| ProbeError::Timeout {
            call: call.clone(),
            after: self.limits.call,
        })? {
            None => Ok(None),
            Some(Err(cause)) => Err(ProbeError::Unreachable {
                call,
                cause: format!("the answer broke off: {}", cut(&cause)),
            }),
            Some(Ok(bytes)) => match self.spend(bytes.len()) {
                Ok(()) => Ok(Some(bytes)),
                Err(limit) => Err(ProbeError::TooLarge { call, limit }),
            },
        }
    }

    /// Takes bytes from what is left; the limit that they are beyond, if they are.
    fn spend(&mut self, bytes: usize) -> Result<(), String> {
        let limit = |bytes: usize, what: &str| format!("{} KiB{what}", bytes / 1024);
        self.left = self
            .left
            .checked_sub(bytes)
            .ok_or_else(|| limit(self.limits.bytes, ""))?;
        self.left_in_all
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(bytes)
            })
            .map(drop)
            .map_err(|_| limit(self.limits.total_bytes, " in all its answers"))
    }

    /// Bytes that may come.
    pub(super) fn most(&self) -> usize {
        self.left
    }

    /// All of it, without a second copy. What is no UTF-8 is no JSON either, and gives an empty text.
    pub(super) async fn text(&mut self) -> Result<String, ProbeError> {
        let most = self.left;
        let mut all = Vec::with_capacity(self.length.min(most));
        while let Some(bytes) = self.chunk().await? {
            append(&mut all, &bytes, most);
        }
        Ok(String::from_utf8(all).unwrap_or_default())
    }

    /// A stream stays open over several calls; each gets its time and its bytes anew, but for those that are `held`.
    pub(super) fn restart(&mut self, call: &Call, held: usize) {
        self.call = call.clone();
        self.deadline = Instant::now() + self.limits.call;
        self.left = self.limits.bytes.saturating_sub(held);
    }
}

/// Appends to what will be `most` long at most. What is not short gets all its room at once: growing holds the old and
/// the new, and pages that are never touched cost nothing.
pub(super) fn append(all: &mut Vec<u8>, bytes: &[u8], most: usize) {
    const SHORT: usize = 64 * 1024;
    let wanted = all.len() + bytes.len();
    if wanted > all.capacity() {
        let room = if wanted > SHORT {
            most
        } else {
            SHORT.min(2 * wanted)
        };
        all.reserve_exact(room.max(wanted) - all.len());
    }
    all.extend_from_slice(bytes);
}

/// Origin and path, for messages: no query, no ids of sessions.
pub(super) fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), mask(url.path()))
}

fn direct_error(call: &Call, error: &reqwest::Error) -> ProbeError {
    let call = call.clone();
    if let Some(cause) = tls_cause(error) {
        return ProbeError::Tls {
            call,
            cause: cut(&cause),
        };
    }
    let mut source = error.source();
    let mut deepest = None;
    while let Some(inner) = source {
        deepest = Some(inner.to_string());
        source = inner.source();
    }
    let cause = deepest.unwrap_or_else(|| "the connection failed".to_owned());
    // Of hyper, which has no public type for it here.
    if cause.contains("head is too large") {
        let limit = HEADER_LIMIT.to_owned();
        return ProbeError::TooLarge { call, limit };
    }
    ProbeError::Unreachable {
        call,
        cause: cut(&cause),
    }
}

/// rustls hides inside `io::Error`, at times in two of them, and their `source()` skips what they wrap.
fn tls_cause(error: &reqwest::Error) -> Option<String> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = error.source();
    while let Some(inner) = source {
        if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
            return Some(tls.to_string());
        }
        source = match inner
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
        {
            Some(wrapped) => Some(wrapped),
            None => inner.source(),
        };
    }
    None
}

fn chain(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut source = error.source();
    while let Some(inner) = source {
        text = inner.to_string();
        source = inner.source();
    }
    if text.is_empty() {
        "the connection was closed".to_owned()
    } else {
        text
    }
}
