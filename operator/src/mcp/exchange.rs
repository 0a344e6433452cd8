//! HTTP exchanges with a target, directly or through the API server's service proxy. In: a request; out: the reply with
//! a body that is read piece by piece, under limits of time and size. Every request has a connection of its own, so
//! that a balancer chooses anew each time. Redirects are not followed: they would carry the key to another host.

use std::error::Error as _;
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

/// API Management's header for subscription keys.
const KEY_HEADER: HeaderName = HeaderName::from_static("ocp-apim-subscription-key");

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
    limit: usize,
    deadline: Instant,
    after: Duration,
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
        let limit = self.limits.bytes;
        let body = Body {
            call: call.clone(),
            stream,
            left: limit,
            limit,
            deadline,
            after,
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
            headers.insert(KEY_HEADER, key.clone());
        }
        let body = body.map(|body| body.to_string());
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
                let (status, headers) = (response.status(), response.headers().clone());
                let stream = response
                    .bytes_stream()
                    .map(|chunk| chunk.map_err(|error| chain(&error)));
                Ok((status, headers, stream.boxed()))
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

    /// What a message says was found: status and content type.
    pub(super) fn found(&self) -> String {
        let content_type = self.content_type();
        let kind = if content_type.is_empty() {
            "no content type"
        } else {
            &content_type
        };
        let location = self
            .headers
            .get(header::LOCATION)
            .and_then(|value| value.to_str().ok());
        match location.filter(|_| self.status.is_redirection()) {
            Some(location) => {
                format!(
                    "{} to {} (redirects are not followed)",
                    self.status.as_u16(),
                    cut(without_query(location))
                )
            }
            None => format!("{} and {kind}", self.status.as_u16()),
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
        match next.map_err(|_| ProbeError::Timeout {
            call: self.call.clone(),
            after: self.after,
        })? {
            None => Ok(None),
            Some(Err(cause)) => Err(ProbeError::Unreachable {
                call: self.call.clone(),
                cause: format!("the answer broke off: {}", cut(&cause)),
            }),
            Some(Ok(bytes)) if bytes.len() > self.left => Err(ProbeError::TooLarge {
                call: self.call.clone(),
                limit: format!("{} KiB", self.limit / 1024),
            }),
            Some(Ok(bytes)) => {
                self.left -= bytes.len();
                Ok(Some(bytes))
            }
        }
    }

    pub(super) async fn text(&mut self) -> Result<String, ProbeError> {
        let mut all = Vec::new();
        while let Some(bytes) = self.chunk().await? {
            all.extend_from_slice(&bytes);
        }
        Ok(String::from_utf8_lossy(&all).into_owned())
    }

    /// A stream stays open over several calls; each gets its time anew.
    pub(super) fn restart_clock(&mut self, call: &Call) {
        self.call = call.clone();
        self.deadline = Instant::now() + self.after;
    }
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
