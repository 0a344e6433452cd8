//! One ARM call: URL, token, api-version, ETag, time limit, retry of what is safe, throttle, metrics, error class.
//! In: verb, resource, body; out: the answer inside 2xx, or an [`ArmError`].

use std::{fmt, sync::Arc, time::Duration};

use reqwest::header;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use url::Url;

use super::{
    auth::TokenSource,
    error::{ArmError, ErrorClass},
    inventory::Inventory,
    operation::Pace,
    request::{Failure, Found, Request, Response, Verb, exchange, judge, parse},
    target::{Resource, Target, is_loopback},
    throttle::{Patience, Throttle},
    wire::{Envelope, Page},
};

/// More pages than this are a loop in the service: the largest tier holds 75,000 subscriptions.
const MOST_PAGES: u32 = 1000;
const ATTEMPTS: u32 = 4;

/// Hears of every request that was sent, for metrics. `outcome` is `ok` or the reason of the error class.
pub trait Observer: Send + Sync + fmt::Debug {
    fn request(&self, verb: &'static str, resource: &'static str, outcome: &'static str, elapsed: Duration);

    /// A request waited for its turn, in vain if it then failed as throttled. `kind` is `read` or `write`.
    fn waited(&self, kind: &'static str, waited: Duration) {
        let _ = (kind, waited);
    }
}

/// Hears nothing.
#[derive(Debug)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn request(&self, _: &'static str, _: &'static str, _: &'static str, _: Duration) {}
}

/// Time limits of one call and of what is done around it.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub read: Duration,
    pub write: Duration,
    /// How long one call may wait for a pause that ARM asked for before it fails as throttled.
    pub pause: Duration,
    /// How long one call may wait for its turn behind others before it fails as throttled.
    pub turn: Duration,
    /// How long a pass follows a long operation before it returns it as pending.
    pub operation: Duration,
    /// How long the lists of a service of ordinary size hold; longer lists hold longer.
    pub inventory: Duration,
    /// The first pause before a write is sent again that met another operation; it doubles.
    pub again: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            read: Duration::from_secs(15),
            write: Duration::from_secs(30),
            pause: Duration::from_secs(10),
            turn: Duration::from_mins(1),
            operation: Duration::from_mins(1),
            inventory: Duration::from_secs(30),
            again: Duration::from_millis(500),
        }
    }
}

/// The client of one API Management service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ArmClient {
    http: reqwest::Client,
    target: Arc<Target>,
    tokens: Arc<dyn TokenSource>,
    throttle: Arc<Throttle>,
    observer: Arc<dyn Observer>,
    inventory: Arc<Inventory>,
    pace: Arc<Pace>,
    limits: Limits,
}

impl ArmClient {
    pub fn new(
        http: reqwest::Client,
        target: Target,
        tokens: Arc<dyn TokenSource>,
        throttle: Arc<Throttle>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self {
            http,
            target: Arc::new(target),
            tokens,
            throttle,
            observer,
            inventory: Arc::default(),
            pace: Arc::default(),
            limits: Limits::default(),
        }
    }

    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    pub fn limits(&self) -> Limits {
        self.limits
    }

    pub(crate) fn pace(&self) -> &Pace {
        &self.pace
    }

    pub(crate) fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    pub(crate) fn request(&self, verb: Verb, resource: &Resource) -> Request {
        let mut url = self.target.url(resource);
        let along = match (verb, resource) {
            (Verb::Delete, Resource::Api(_)) => Some("deleteRevisions"),
            (Verb::Delete, Resource::Product(_)) => Some("deleteSubscriptions"),
            _ => None,
        };
        if let Some(parameter) = along {
            url.query_pairs_mut().append_pair(parameter, "true");
        }
        Request {
            verb,
            url,
            kind: resource.kind(),
            title: resource.title(),
            if_match: None,
            body: None,
        }
    }

    /// Reads a resource; `None` when it is not there.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        resource: &Resource,
    ) -> Result<Option<Found<T>>, ArmError> {
        let request = self.request(Verb::Get, resource);
        match self.send(&request).await {
            Ok(answer) => {
                let Envelope { properties } = parse(&request, &answer)?;
                Ok(Some(Found {
                    properties,
                    etag: answer.etag(),
                }))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads all pages of a list; `None` when its parent is not there.
    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        resource: &Resource,
        filter: Option<&str>,
    ) -> Result<Option<Vec<T>>, ArmError> {
        let mut items = vec![];
        let mut next = Some(self.first_page(resource, filter));
        let mut read = 0;
        while let Some(request) = next {
            let (page, following) = match self.page(request, read).await {
                Ok(page) => page,
                Err(error) if error.is_not_found() => return Ok(None),
                Err(error) => return Err(error),
            };
            items.extend(page);
            next = following;
            read += 1;
        }
        Ok(Some(items))
    }

    /// The request for the first page of a list.
    pub(crate) fn first_page(&self, resource: &Resource, filter: Option<&str>) -> Request {
        let mut request = self.request(Verb::Get, resource);
        if let Some(filter) = filter {
            request.url.query_pairs_mut().append_pair("$filter", filter);
        }
        request
    }

    /// One page, and the request for the next one. `read` is the number of pages before it.
    pub(crate) async fn page<T: DeserializeOwned>(
        &self,
        request: Request,
        read: u32,
    ) -> Result<(Vec<T>, Option<Request>), ArmError> {
        if read == MOST_PAGES {
            return Err(request.failed(ErrorClass::Unexpected {
                message: format!("the list has over {MOST_PAGES} pages"),
            }));
        }
        let answer = self.send(&request).await?;
        let page: Page<T> = parse(&request, &answer)?;
        let next = match page.next_link.filter(|link| !link.is_empty()) {
            Some(link) => Some(Request {
                url: self.checked_poll_url(&link, Verb::Get, &request.title)?,
                ..request
            }),
            None => None,
        };
        Ok((page.value, next))
    }

    pub(crate) async fn poll(&self, url: &Url, resource: &str) -> Result<Response, ArmError> {
        self.send(&Request {
            verb: Verb::Get,
            url: url.clone(),
            kind: "operation status",
            title: resource.to_owned(),
            if_match: None,
            body: None,
        })
        .await
    }

    /// An address that the service gave us. It must stay on the ARM host: our token goes there.
    pub(crate) fn checked_poll_url(
        &self,
        address: &str,
        verb: Verb,
        resource: &str,
    ) -> Result<Url, ArmError> {
        let endpoint = self.target.endpoint();
        let url = endpoint.join(address).ok().filter(|url| {
            (url.scheme(), url.host_str(), url.port_or_known_default())
                == (
                    endpoint.scheme(),
                    endpoint.host_str(),
                    endpoint.port_or_known_default(),
                )
        });
        url.ok_or_else(|| ArmError {
            action: verb.action(),
            resource: resource.to_owned(),
            class: ErrorClass::Unexpected {
                message: "the answer points to an address on another host".to_owned(),
            },
            correlation_id: None,
        })
    }

    /// Sends a request, again where that is safe.
    pub(crate) async fn send(&self, request: &Request) -> Result<Response, ArmError> {
        let is_write = request.verb.is_write();
        let mut token_renewed = false;
        let mut attempt = 1;
        loop {
            let asked = Instant::now();
            let patience = Patience {
                pause: self.limits.pause,
                turn: self.limits.turn,
            };
            let turn = self.throttle.turn(is_write, patience).await;
            self.observer
                .waited(if is_write { "write" } else { "read" }, asked.elapsed());
            if let Err(left) = turn {
                return Err(request.failed(ErrorClass::Throttled {
                    retry_after: Some(left),
                }));
            }
            let error = match self.send_once(request).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let pause = match &error.error.class {
                ErrorClass::Throttled { retry_after } => {
                    let pause = retry_after.unwrap_or(Duration::from_secs(1 << attempt.min(4)));
                    self.throttle.refused(is_write, pause);
                    (pause <= self.limits.pause).then_some(Duration::ZERO)
                }
                // One expired or revoked token; a second refusal is about the identity.
                ErrorClass::Auth { .. } if error.answered && !token_renewed => {
                    token_renewed = true;
                    self.tokens.invalidate().await;
                    Some(Duration::ZERO)
                }
                ErrorClass::Connection { .. } | ErrorClass::Timeout | ErrorClass::Server { .. }
                    if request.verb.is_safe() || error.unsent =>
                {
                    Some(Duration::from_millis(100) * 3u32.pow(attempt))
                }
                _ => None,
            };
            match pause.filter(|_| attempt < ATTEMPTS) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(error.error),
            }
            attempt += 1;
        }
    }

    async fn send_once(&self, request: &Request) -> Result<Response, Failure> {
        let start = Instant::now();
        let limit = if request.verb.is_write() {
            self.limits.write
        } else {
            self.limits.read
        };
        let token = match self.tokens.token().await {
            Ok(token) => token,
            // Not counted as a request to ARM: none was made.
            Err(error) => return Err(Failure::unanswered(request.failed(error.into()), false)),
        };
        if self.target.endpoint().scheme() == "http" && !is_loopback(&request.url) {
            let message = "a token is never sent in plain text".to_owned();
            return Err(Failure::unanswered(
                request.failed(ErrorClass::Unexpected { message }),
                false,
            ));
        }
        let mut builder = self
            .http
            .request(request.verb.method(), request.url.clone())
            .bearer_auth(token.expose());
        if let Some(etag) = &request.if_match {
            builder = builder.header(header::IF_MATCH, etag);
        }
        builder = match &request.body {
            Some(body) => builder.json(body),
            // Without it hyper sends no Content-Length, which ARM's front end refuses with 411.
            None if request.verb == Verb::Post => builder.header(header::CONTENT_LENGTH, 0),
            None => builder,
        };
        let result = match tokio::time::timeout(limit, exchange(builder)).await {
            Ok(Ok(answer)) => judge(request, answer),
            Ok(Err(error)) => Err(request.broken(&error)),
            Err(_) => Err(Failure::unanswered(request.failed(ErrorClass::Timeout), false)),
        };
        let outcome = result
            .as_ref()
            .map_or_else(|failure| failure.error.reason(), |_| super::error::OK);
        self.observer
            .request(request.verb.label(), request.kind, outcome, start.elapsed());
        let correlation = match &result {
            Ok(answer) => answer.header("x-ms-correlation-request-id"),
            Err(failure) => failure.error.correlation_id.as_deref(),
        };
        tracing::debug!(
            verb = request.verb.label(),
            resource = request.title,
            outcome,
            elapsed_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
            correlation,
            "ARM request"
        );
        result
    }
}
