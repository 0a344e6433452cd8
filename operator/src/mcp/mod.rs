//! The probe: speaks MCP to a server, directly or through its gateway. In: a target and the transports to try; out:
//! what the server says about itself and its tools, or a [`ProbeError`] that says what to change.
//!
//! Over streamable HTTP it opens with `server/discover` (2026-07-28) and falls back to `initialize` (2025-11-25); over
//! SSE it follows the `endpoint` event. It trusts nothing that it reads: answers are bounded in time, size and number
//! of tools and never become a tree, so that a probe holds some hundred KiB whatever it is answered; redirects are not
//! followed, and an endpoint must stay at the origin and inside the API's path.
//!
//! RBAC: `get` and `create` on `services/proxy`, `delete` too for sessions, and only where the operator reaches servers
//! through the API server (`SERVER_ACCESS`).

mod answer;
mod canonical;
mod conversation;
mod error;
mod event_stream;
mod exchange;
mod framing;
mod json;
mod message;
mod streamable;
#[cfg(test)]
mod tests;
pub mod token;
mod tools;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use mcp_fleet_crds::Tool;
use url::Url;

use crate::constants::PROBE_USER_AGENT;

pub use error::{Call, ProbeError};
use exchange::Exchange;
use message::Greeting;
use tools::Found;

/// Whose answers are expected at a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The server itself.
    Server,
    /// A gateway in front of it, which has answers of its own.
    Gateway,
}

/// How requests travel.
#[derive(Clone)]
pub enum Transport {
    /// Straight to the target's address.
    Direct(reqwest::Client),
    /// Through the Kubernetes API server, for an operator outside the cluster. `proxy` is the path of the service proxy.
    ApiServer { client: kube::Client, proxy: String },
}

impl fmt::Debug for Transport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(_) => formatter.write_str("Direct"),
            Self::ApiServer { client: _, proxy } => {
                formatter.debug_struct("ApiServer").field("proxy", proxy).finish()
            }
        }
    }
}

pub(crate) const KEY_HEADER: HeaderName = HeaderName::from_static("ocp-apim-subscription-key");

/// What is probed.
#[derive(Clone, Debug)]
pub struct Target {
    pub transport: Transport,
    /// Origin, and the path below which the server's own paths lie.
    pub base: Url,
    /// Where `base` leads, when that is known: nobody's DNS answer is asked then. The name is still the `Host`.
    pub address: Option<IpAddr>,
    pub role: Role,
    /// Where the key goes.
    pub key_header: HeaderName,
    /// Made by [`subscription_key`], which masks it in `Debug`.
    pub key: Option<HeaderValue>,
    /// What only the gateway sends to a server, for a direct call to one that demands it.
    pub secret: Option<(HeaderName, HeaderValue)>,
    /// Sent as `Authorization`, for a server that demands it; made by [`token::read`].
    pub token: Option<HeaderValue>,
    /// Pods behind the target: with more than one, sessions must be shared.
    pub replicas: i32,
    /// Whether a Bearer challenge is as much as can be expected; not where a token was given.
    pub challenge_counts: bool,
}

impl Target {
    /// A Service of this cluster, by its name.
    pub fn server(
        client: reqwest::Client,
        namespace: &str,
        name: &str,
        port: i32,
    ) -> Result<Self, url::ParseError> {
        Ok(Self {
            transport: Transport::Direct(client),
            base: Url::parse(&format!("http://{name}.{namespace}.svc:{port}"))?,
            address: None,
            role: Role::Server,
            key_header: KEY_HEADER,
            key: None,
            secret: None,
            token: None,
            replicas: 1,
            challenge_counts: true,
        })
    }

    /// The same Service through the API server's proxy. The address in messages stays that of the Service.
    pub fn through_api_server(
        client: kube::Client,
        namespace: &str,
        name: &str,
        port: i32,
    ) -> Result<Self, url::ParseError> {
        let proxy = format!("/api/v1/namespaces/{namespace}/services/http:{name}:{port}/proxy");
        Ok(Self {
            transport: Transport::ApiServer { client, proxy },
            base: Url::parse(&format!("http://{name}.{namespace}.svc:{port}"))?,
            address: None,
            role: Role::Server,
            key_header: KEY_HEADER,
            key: None,
            secret: None,
            token: None,
            replicas: 1,
            challenge_counts: true,
        })
    }

    /// With the key in another header.
    #[must_use]
    pub fn with_key_header(self, key_header: HeaderName) -> Self {
        Self { key_header, ..self }
    }

    /// The server's API in a gateway: `base` is the gateway's URL with the API's path.
    pub fn gateway(client: reqwest::Client, base: Url, key: Option<HeaderValue>) -> Self {
        Self {
            transport: Transport::Direct(client),
            base,
            address: None,
            role: Role::Gateway,
            key_header: KEY_HEADER,
            key,
            secret: None,
            token: None,
            replicas: 1,
            challenge_counts: true,
        }
    }

    /// With the token that the server demands. Not through the API server, which would take it for its own: there a
    /// challenge stays as much as can be seen.
    #[must_use]
    pub fn with_token(mut self, token: Option<HeaderValue>) -> Self {
        self.token = token.filter(|_| matches!(self.transport, Transport::Direct(_)));
        self
    }

    /// The same over TLS.
    #[must_use]
    pub fn over_tls(mut self) -> Self {
        if let Transport::ApiServer { proxy, .. } = &mut self.transport {
            *proxy = proxy.replacen("/services/http:", "/services/https:", 1);
        }
        // From http to https, which is always possible.
        let _ = self.base.set_scheme("https");
        self
    }

    #[must_use]
    pub fn with_secret(mut self, secret: Option<(HeaderName, HeaderValue)>) -> Self {
        self.secret = secret;
        self
    }

    #[must_use]
    pub fn at(mut self, address: Option<IpAddr>) -> Self {
        self.address = address;
        self
    }

    #[must_use]
    pub fn with_replicas(mut self, replicas: i32) -> Self {
        self.replicas = replicas;
        self
    }
}

/// The transports to try, with the server's own paths; each that is given must work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paths {
    pub streamable_http: Option<String>,
    pub sse: Option<String>,
}

/// Bounds of one probe.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// One exchange, or one wait for an answer on an event stream.
    pub call: Duration,
    /// Everything together.
    pub total: Duration,
    /// One answer, with the events before it.
    pub bytes: usize,
    /// All answers of one probe.
    pub total_bytes: usize,
    /// Pages of tools/list.
    pub pages: usize,
    /// Tools; a status lists a part of so many.
    pub tools: usize,
    /// Requests on fresh connections that a session must survive.
    pub session_tries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            call: Duration::from_secs(10),
            total: Duration::from_secs(45),
            bytes: 512 * 1024,
            total_bytes: 2 * 1024 * 1024,
            pages: 50,
            tools: 1_000,
            session_tries: 6,
        }
    }
}

/// What a server says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Protocol revisions, newest first.
    pub versions: Vec<String>,
    pub server_name: Option<String>,
    pub server_version: Option<String>,
    /// Sorted by name; the first, when there are too many for a status.
    pub tools: Vec<Tool>,
    /// How many there are.
    pub tool_count: usize,
}

impl Report {
    fn of(greeting: Greeting, versions: Vec<String>, found: &Found) -> Self {
        let (tools, tool_count) = tools::listed(found);
        Self {
            versions,
            server_name: greeting.server_name,
            server_version: greeting.server_version,
            tools,
            tool_count,
        }
    }
}

/// What a probe saw when nothing is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A client got through.
    Server(Report),
    /// The target demands a token, and perhaps says where to get one.
    Challenge { resource_metadata: Option<String> },
}

/// Probes every given transport and reports what the first one said.
pub async fn probe(target: &Target, paths: &Paths, limits: &Limits) -> Result<Seen, ProbeError> {
    let left = Arc::new(AtomicUsize::new(limits.total_bytes));
    let exchange = Exchange {
        target,
        limits,
        left: &left,
    };
    let probed = tokio::time::timeout(limits.total, probe_each(exchange, paths)).await;
    let outcome = probed.unwrap_or_else(|_| {
        let call = Call {
            verb: "probe of",
            address: exchange::shown(&target.base),
            step: "as a whole",
        };
        Err(ProbeError::Timeout {
            call,
            after: limits.total,
        })
    });
    match outcome {
        Ok(report) => Ok(Seen::Server(report)),
        Err(ProbeError::Challenge {
            call: _,
            resource_metadata,
        }) if target.challenge_counts => Ok(Seen::Challenge { resource_metadata }),
        Err(error) => Err(error),
    }
}

async fn probe_each(exchange: Exchange<'_>, paths: &Paths) -> Result<Report, ProbeError> {
    let mut first = None;
    if let Some(path) = &paths.streamable_http {
        first = Some(streamable::probe(exchange, path).await?);
    }
    if let Some(path) = &paths.sse {
        let report = event_stream::probe(exchange, path).await?;
        first.get_or_insert(report);
    }
    Ok(first.unwrap_or_default())
}

/// A subscription key as a header that `Debug` masks; `None` when it has characters that no header may have.
pub fn subscription_key(key: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(key).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The client for direct probes: a connection of its own for each request, no redirects. `roots` are trusted beside the
/// public ones. A Service's name is no business of a proxy, a gateway's may be.
pub fn http_client(roots: Vec<reqwest::Certificate>, role: Role) -> Result<reqwest::Client, reqwest::Error> {
    let mut builder = reqwest::Client::builder()
        .user_agent(PROBE_USER_AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5))
        .pool_max_idle_per_host(0)
        // HTTP/2 lets a peer fill windows of megabytes.
        .http1_only()
        // What is compressed grows when it is read, and no feature of another crate may bring that about.
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate();
    if !roots.is_empty() {
        builder = builder.tls_certs_merge(roots);
    }
    if role == Role::Server {
        builder = builder.no_proxy();
    }
    builder.build()
}
