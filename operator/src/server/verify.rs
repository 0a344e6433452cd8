//! The proof lane, and what a pass asks of it: speaks MCP to the server, and through the gateway with the probe's key.
//! In: [`Valid`], [`Observed`] and [`Progress`]; out: a [`Course`]: what is known at once, or a [`Probe`] for the lane. In
//! the lane: a probe; out: a [`Sight`].

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use mcp_fleet_crds::{Tls, TokenSecret};
use url::Url;

use super::authority;
use super::error::VerifyError;
use super::memory::fingerprint;
use super::observe::Observed;
use super::register::{Progress, Registered};
use super::validate::{Identity, ProbeMode, Valid};
use crate::args::ServerAccess;
use crate::azure::apim::Transports;
use crate::mcp::{self, Limits, Paths, ProbeError, Report, Seen, Target, subscription_key, token};
use crate::runtime::context::Context;

/// Both ways together. A server that takes longer is told so, and holds its slot no longer.
const DEADLINE: Duration = Duration::from_mins(1);

/// What an MCP client saw.
#[derive(Clone, Debug)]
pub enum Verification {
    /// Not tried; the text says what is awaited.
    Waiting(&'static str),
    /// The lane is at it, and nothing is known yet.
    UnderWay,
    /// Seen not long ago, and nothing has changed since.
    Unchanged,
    Seen {
        report: Option<Report>,
        through: Through,
    },
    Failed(Arc<VerifyError>),
}

/// What a pass finds out about the proof without asking anybody.
#[derive(Debug)]
pub enum Course {
    Settled(Verification),
    Ask(Box<Probe>),
}

/// A server to be probed.
#[derive(Clone, Debug)]
pub struct Probe {
    identity: Identity,
    port: u16,
    transports: Transports,
    replicas: i32,
    /// What the server wants to see from its gateway, which the operator sends too.
    secret: Option<(HeaderName, HeaderValue)>,
    /// It serves TLS, and who signed its certificate.
    tls: Option<Tls>,
    /// Where the token is that the server demands.
    token: Option<TokenSecret>,
    /// Through the gateway, too.
    registered: Option<Registered>,
    /// It was verified before: one failure is no news.
    pub passed_before: bool,
    /// Of everything that was asked for.
    pub fingerprint: u64,
}

impl Probe {
    #[must_use]
    pub fn after(mut self, passed_before: bool) -> Self {
        self.passed_before = passed_before;
        self
    }

    #[must_use]
    pub fn with_secret(mut self, secret: Option<(HeaderName, HeaderValue)>) -> Self {
        self.secret = secret;
        self
    }
}

/// What a probe saw.
#[derive(Clone, Debug)]
pub struct Sight {
    pub report: Option<Report>,
    pub through: Through,
}

/// Which ways were tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Through {
    /// The gateway is not asked to: no registration.
    Server,
    /// `probe: None`: the operator cannot reach the gateway.
    ServerOnly,
    ServerAndGateway,
    /// The gateway lets in fewer calls than a probe makes; that it counts them shows that it takes the key.
    ServerAndLimit,
    /// The gateway, or the server behind it, demands a token.
    ServerAndChallenge,
}

/// What is to be verified. `stands`: what is registered, as far as that is known, also while the service that it is
/// registered in gives no answer: whether agents get through is then the more worth knowing.
pub fn course(
    valid: &Valid,
    observed: &Observed,
    progress: &Progress,
    stands: Option<&Registered>,
) -> Course {
    let waiting = |what| Course::Settled(Verification::Waiting(what));
    let registered = match (progress, stands) {
        (Progress::Registered(registered), _) => Some(&**registered),
        (Progress::Failed(_), Some(registered)) => Some(registered),
        (Progress::Unregistered, _) => None,
        _ => return waiting("the registration comes first"),
    };
    if !observed.serves_newest() {
        return waiting("pods of the newest version must serve first");
    }
    if registered.is_some_and(awaits_key) {
        return waiting("the McpGateway has no subscription for its probe yet: see its condition Registered");
    }
    let fingerprint = fingerprint(&(
        &observed.revision,
        &valid.transports,
        &valid.exposure.port,
        &valid.token,
        registered.map(|registered| {
            (
                registered.fingerprint,
                &registered.gateway.url,
                registered.gateway.probe,
            )
        }),
    ));
    Course::Ask(Box::new(Probe {
        identity: valid.identity.clone(),
        port: valid.exposure.port,
        transports: valid.transports.clone(),
        replicas: observed.replicas,
        secret: None,
        tls: valid.tls.clone(),
        token: valid.token.clone(),
        registered: registered.cloned(),
        passed_before: false,
        fingerprint,
    }))
}

/// The lane's work on one probe.
pub async fn look(context: &Context, probe: &Probe) -> Result<Sight, VerifyError> {
    let looked = tokio::time::timeout(DEADLINE, Box::pin(both_ways(context, probe))).await;
    looked.unwrap_or(Err(VerifyError::Deadline {
        seconds: DEADLINE.as_secs(),
    }))
}

const DIRECTLY: &str = "directly";
pub(super) const GATEWAY: &str = "through the gateway";

async fn both_ways(context: &Context, probe: &Probe) -> Result<Sight, VerifyError> {
    let paths = paths(&probe.transports);
    let limits = Limits::default();
    let sight = |report, through| Ok(Sight { report, through });
    let probed = |way| move |source| VerifyError::Probe { way, source };
    let client = authority::client(context, &probe.identity.namespace, probe.tls.as_ref()).await?;
    let target = server_target(context, client, probe)?;
    let token = match &probe.token {
        Some(reference) => {
            let (client, namespace) = (&context.writer.client, &probe.identity.namespace);
            let token = token::read(client, namespace, reference).await;
            Some(token.map_err(|source| VerifyError::Token { source })?)
        }
        None => None,
    };
    let seen = mcp::probe(&target.with_token(token.clone()), &paths, &limits)
        .await
        .map_err(probed(DIRECTLY))?;
    let report = match seen {
        Seen::Server(report) => Some(report),
        Seen::Challenge { .. } => None,
    };
    let Some(registered) = &probe.registered else {
        return sight(report, Through::Server);
    };
    let Some(target) = gateway_target(registered).map_err(|source| VerifyError::Url { source })? else {
        return sight(report, Through::ServerOnly);
    };
    let target = target.with_replicas(probe.replicas).with_token(token);
    let seen = mcp::probe(&target, &paths, &limits).await;
    if let Err(ProbeError::RateLimited { .. }) = seen {
        return sight(report, Through::ServerAndLimit);
    }
    match seen.map_err(|source| refused(registered, source))? {
        Seen::Server(through) => sight(report.or(Some(through)), Through::ServerAndGateway),
        Seen::Challenge { .. } => sight(report, Through::ServerAndChallenge),
    }
}

/// Whether the key that all servers share is not known to the service yet.
fn awaits_key(registered: &Registered) -> bool {
    registered.probe_key.is_some() && registered.gateway.probe == ProbeMode::AllApis { ready: false }
}

/// A key that all servers share is not for one of them to write again.
fn refused(registered: &Registered, source: ProbeError) -> VerifyError {
    let shared = matches!(registered.gateway.probe, ProbeMode::AllApis { .. });
    match source {
        ProbeError::Unauthorized { .. } if shared && registered.probe_key.is_some() => {
            VerifyError::KeyRefused {
                gateway: registered.gateway.name.clone(),
                source,
            }
        }
        _ => VerifyError::Probe { way: GATEWAY, source },
    }
}

/// The Service, at the address that it has in the cluster.
fn server_target(context: &Context, client: reqwest::Client, probe: &Probe) -> Result<Target, VerifyError> {
    let (namespace, name) = (&probe.identity.namespace, &probe.identity.name);
    let port = i32::from(probe.port);
    let target = match context.settings.server_access {
        ServerAccess::ApiServer => {
            Target::through_api_server(context.writer.client.clone(), namespace, name, port)
        }
        ServerAccess::Auto | ServerAccess::Direct => Target::server(client, namespace, name, port),
    };
    let target = target.map_err(|source| VerifyError::Url { source })?;
    let service = context.caches.services.get(Some(namespace), name);
    let spec = service.as_ref().and_then(|service| service.spec.as_ref());
    // Its name leads wherever the one who changed it wants, until the next pass has changed it back.
    if spec.is_some_and(|spec| spec.type_.as_deref() == Some("ExternalName")) {
        return Err(VerifyError::Probe {
            way: DIRECTLY,
            source: ProbeError::elsewhere(&target, "its Service is of type ExternalName"),
        });
    }
    let address = spec.and_then(|spec| spec.cluster_ip.as_ref()?.parse().ok());
    let target = target
        .at(address)
        .with_replicas(probe.replicas)
        .with_secret(probe.secret.clone());
    Ok(if probe.tls.is_some() {
        target.over_tls()
    } else {
        target
    })
}

/// None when the probe does not go through the gateway.
fn gateway_target(registered: &Registered) -> Result<Option<Target>, url::ParseError> {
    let (ProbeMode::PerServer | ProbeMode::AllApis { .. }, Some(url)) =
        (registered.gateway.probe, &registered.gateway.url)
    else {
        return Ok(None);
    };
    let base = Url::parse(&format!("{}/{}", url.trim_end_matches('/'), registered.path))?;
    let key = registered
        .probe_key
        .as_ref()
        .and_then(|key| subscription_key(key.expose()));
    let target = Target::gateway(registered.clients.probe.clone(), base, key);
    // The schema lets only names of headers in.
    Ok(Some(match registered.key_header.parse() {
        Ok(name) => target.with_key_header(name),
        Err(_) => target,
    }))
}

fn paths(transports: &Transports) -> Paths {
    Paths {
        streamable_http: transports.streamable_http.clone(),
        sse: transports.sse.as_ref().map(|sse| sse.path.clone()),
    }
}
