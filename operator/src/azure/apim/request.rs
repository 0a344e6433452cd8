//! One HTTP exchange with ARM: the request, the answer within bounds, the class of a failure.
//! In: a prepared request; out: the answer inside 2xx, or what is known about the failure.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use url::Url;

use super::{
    auth::chain,
    error::{ArmError, ErrorClass, classify},
};

/// The largest answer read: a page of APIs is some 100 kB.
const LARGEST_BODY: usize = 8 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verb {
    Get,
    Head,
    Put,
    Patch,
    Delete,
    Post,
}

impl Verb {
    /// The label for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Post => "POST",
        }
    }

    pub(crate) fn action(self) -> &'static str {
        match self {
            Self::Get | Self::Head | Self::Post => "read",
            Self::Put => "write",
            Self::Patch => "change",
            Self::Delete => "delete",
        }
    }

    /// What ARM counts as a write: POST too, even where it only reads keys.
    pub fn is_write(self) -> bool {
        !matches!(self, Self::Get | Self::Head)
    }

    /// Safe to send again when nobody knows whether it arrived. Our PUTs and DELETEs would be as well, but a lost
    /// answer is better cleared by reading. Of our two POSTs listSecrets changes nothing, and a key that nobody uses
    /// may be made anew twice.
    pub(crate) fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Post)
    }

    pub(crate) fn method(self) -> reqwest::Method {
        match self {
            Self::Get => reqwest::Method::GET,
            Self::Head => reqwest::Method::HEAD,
            Self::Put => reqwest::Method::PUT,
            Self::Patch => reqwest::Method::PATCH,
            Self::Delete => reqwest::Method::DELETE,
            Self::Post => reqwest::Method::POST,
        }
    }
}

/// An answer inside 2xx.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: header::HeaderMap,
    pub(crate) body: Bytes,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn etag(&self) -> Option<String> {
        self.header("etag").map(str::to_owned)
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        retry_after(&self.headers)
    }
}

/// ARM's budgets refill within an hour at most; an absurd number must not overflow a clock.
const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(1);

/// `Retry-After` in seconds; ARM sends no dates.
fn retry_after(headers: &header::HeaderMap) -> Option<Duration> {
    headers
        .get(header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
        .map(|seconds| Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER))
}

/// A resource as read, with its ETag.
#[derive(Clone, Debug)]
pub(crate) struct Found<T> {
    pub(crate) properties: T,
    pub(crate) etag: Option<String>,
}

/// One request; [`Request::new`] and the methods after it build it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) verb: Verb,
    pub(crate) url: Url,
    pub(crate) kind: &'static str,
    pub(crate) title: String,
    pub(crate) if_match: Option<String>,
    pub(crate) body: Option<Value>,
}

/// A failed attempt, and what is known about whether the service saw it.
pub(crate) struct Failure {
    pub(crate) error: ArmError,
    /// The service never got it.
    pub(crate) unsent: bool,
    pub(crate) answered: bool,
}

impl Failure {
    pub(crate) fn unanswered(error: ArmError, unsent: bool) -> Self {
        Self {
            error,
            unsent,
            answered: false,
        }
    }
}

impl Request {
    pub(crate) fn failed(&self, class: ErrorClass) -> ArmError {
        ArmError {
            action: self.verb.action(),
            resource: self.title.clone(),
            class,
            correlation_id: None,
        }
    }

    pub(crate) fn broken(&self, error: &Broken) -> Failure {
        match error {
            Broken::TooLarge => Failure::unanswered(
                self.failed(ErrorClass::Unexpected {
                    message: format!("the answer is over {LARGEST_BODY} bytes"),
                }),
                false,
            ),
            Broken::Http(error) => {
                let message =
                    chain(error).replace(self.url.as_str(), self.url.host_str().unwrap_or_default());
                Failure::unanswered(
                    self.failed(ErrorClass::Connection { message }),
                    error.is_connect(),
                )
            }
        }
    }
}

pub(crate) enum Broken {
    Http(reqwest::Error),
    TooLarge,
}

pub(crate) async fn exchange(builder: reqwest::RequestBuilder) -> Result<Response, Broken> {
    let mut answer = builder.send().await.map_err(Broken::Http)?;
    let status = answer.status().as_u16();
    let headers = std::mem::take(answer.headers_mut());
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(Broken::Http)? {
        if body.len() + chunk.len() > LARGEST_BODY {
            return Err(Broken::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Response {
        status,
        headers,
        body: body.freeze(),
    })
}

pub(crate) fn judge(request: &Request, answer: Response) -> Result<Response, Failure> {
    if (200..300).contains(&answer.status) {
        return Ok(answer);
    }
    let correlation_id = answer.header("x-ms-correlation-request-id").map(str::to_owned);
    let class = classify(answer.status, answer.retry_after(), &answer.body);
    let error = ArmError {
        correlation_id,
        ..request.failed(class)
    };
    Err(Failure {
        error,
        unsent: false,
        answered: true,
    })
}

pub(crate) fn parse<T: DeserializeOwned>(request: &Request, answer: &Response) -> Result<T, ArmError> {
    serde_json::from_slice(&answer.body).map_err(|error| {
        request.failed(ErrorClass::Unexpected {
            message: format!("status {}: {error}", answer.status),
        })
    })
}
