//! Step `verify`: speaks MCP to the server, and through the gateway with the probe's key. In: [`Valid`],
//! [`Observed`], [`Progress`] and what is remembered; out: [`Verification`].

use std::time::{Duration, Instant};

use url::Url;

use super::authority;
use super::door;
use super::error::VerifyError;
use super::memory::{Checked, Memory, fingerprint};
use super::observe::Observed;
use super::register::{Progress, Registered};
use super::validate::{ProbeMode, Valid};
use crate::args::ServerAccess;
use crate::azure::apim::Transports;
use crate::mcp::{self, Limits, Paths, ProbeError, Report, Seen, Target, subscription_key, token};
use crate::runtime::context::Context;

/// What an MCP client saw.
#[derive(Clone, Debug)]
pub enum Verification {
    /// Not tried; the text says what is awaited.
    Waiting(&'static str),
    /// Seen not long ago, and nothing has changed since.
    Unchanged,
    Seen {
        report: Option<Report>,
        through: Through,
    },
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

/// Verifies, unless the same was verified not long ago.
pub async fn verify(
    context: &Context,
    valid: &Valid,
    observed: &Observed,
    progress: &Progress,
    memory: &mut Memory,
    drift: Duration,
) -> Result<Verification, VerifyError> {
    let registered = match progress {
        Progress::Registered(registered) => Some(registered),
        Progress::Unregistered => None,
        Progress::Withdrawn(_) | Progress::Refused(_) | Progress::Waiting(_) | Progress::Pending { .. } => {
            return Ok(Verification::Waiting("the registration comes first"));
        }
    };
    if !observed.serves_newest() {
        return Ok(Verification::Waiting(
            "pods of the newest version must serve first",
        ));
    }
    if registered.is_some_and(|registered| awaits_key(registered)) {
        return Ok(Verification::Waiting(
            "the McpGateway has no subscription for its probe yet: see its condition Registered",
        ));
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
    if memory
        .verified
        .is_some_and(|verified| verified.holds(fingerprint, Instant::now(), drift))
    {
        return Ok(Verification::Unchanged);
    }
    let (report, through) = look(context, valid, observed, registered.map(AsRef::as_ref))
        .await
        .inspect_err(|error| {
            memory.verified = None;
            if let VerifyError::Probe {
                way: GATEWAY,
                source: ProbeError::Unauthorized { .. },
            } = error
            {
                // A key that was written a moment ago may not have arrived: writing it again would not speed that up.
                let written = memory
                    .registered
                    .is_some_and(|checked| checked.at.elapsed() < KEY_ARRIVES);
                memory.repair = !written;
            }
        })?;
    memory.verified = Some(Checked::new(fingerprint, Instant::now()));
    Ok(Verification::Seen { report, through })
}

/// How long the gateway may take to know a key.
const KEY_ARRIVES: Duration = Duration::from_mins(1);

const DIRECTLY: &str = "directly";
const GATEWAY: &str = "through the gateway";

async fn look(
    context: &Context,
    valid: &Valid,
    observed: &Observed,
    registered: Option<&Registered>,
) -> Result<(Option<Report>, Through), VerifyError> {
    let paths = paths(&valid.transports);
    let limits = Limits::default();
    let probed = |way| move |source| VerifyError::Probe { way, source };
    let client = authority::client(context, valid).await?;
    let target = server_target(context, client, valid, observed)?;
    let token = match &valid.token {
        Some(reference) => {
            let (client, namespace) = (&context.writer.client, &valid.identity.namespace);
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
    let Some(registered) = registered else {
        return Ok((report, Through::Server));
    };
    let Some(target) = gateway_target(registered).map_err(|source| VerifyError::Url { source })? else {
        return Ok((report, Through::ServerOnly));
    };
    let target = target.with_replicas(observed.replicas).with_token(token);
    let seen = mcp::probe(&target, &paths, &limits).await;
    if let Err(ProbeError::RateLimited { .. }) = seen {
        return Ok((report, Through::ServerAndLimit));
    }
    match seen.map_err(|source| refused(registered, source))? {
        Seen::Server(through) => Ok((report.or(Some(through)), Through::ServerAndGateway)),
        Seen::Challenge { .. } => Ok((report, Through::ServerAndChallenge)),
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
fn server_target(
    context: &Context,
    client: reqwest::Client,
    valid: &Valid,
    observed: &Observed,
) -> Result<Target, VerifyError> {
    let (namespace, name) = (&valid.identity.namespace, &valid.identity.name);
    let port = i32::from(valid.exposure.port);
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
    let secret = door::key(valid, &context.probe_keys);
    let target = target
        .at(address)
        .with_replicas(observed.replicas)
        .with_secret(secret);
    Ok(if valid.https() { target.over_tls() } else { target })
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
