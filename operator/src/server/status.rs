//! Step `status`, pure: what to tell. In: the status of before, what the pass found, and the time; out: the status to
//! write. `judge` makes the conditions of it, `news` says whether it is worth a write.

mod judge;
mod news;

use jiff::Timestamp;
use mcp_fleet_crds::{Endpoints, McpServerStatus, Protocol, RegisteredGateway};

use super::Report;
use super::build::selector;
use super::deregister::Deletion;
use super::error::{PassError, RegisterError};
use super::observe::Observed;
use super::register::{Progress, Registered};
use super::validate::{Access, Valid};
use super::verify::Verification;
use crate::condition::merge;
use crate::mcp;

pub use news::{News, news};

/// The status after a pass.
pub fn status(
    previous: &McpServerStatus,
    generation: i64,
    report: &Report,
    now: Timestamp,
) -> McpServerStatus {
    let Report {
        valid,
        observed,
        progress,
        verification,
        error,
        written: _,
        registration: _,
        sight: _,
    } = report;
    let mut next = previous.clone();
    // Only of a spec on which something was done or said; tools that wait go by it (kstatus).
    if observed.is_some() || matches!(error, Some(PassError::Invalid(_) | PassError::Apply(_))) {
        next.observed_generation = Some(generation);
    }
    if let Some(observed) = observed {
        next.replicas = Some(observed.replicas);
        next.ready_replicas = Some(observed.ready_replicas);
        next.pods = Some(format!("{}/{}", observed.ready_replicas, observed.wanted));
    }
    if let Some(valid) = valid {
        next.selector = Some(selector_text(&valid.identity.name));
    }
    match progress {
        Some(Progress::Registered(registered)) => {
            next.gateway = Some(registered_gateway(registered, previous));
        }
        Some(Progress::Unregistered | Progress::Withdrawn(_)) => next.gateway = None,
        Some(
            Progress::Refused(_)
            | Progress::Waiting(_)
            | Progress::UnderWay
            | Progress::Pending { .. }
            | Progress::Failed(_),
        )
        | None => {}
    }
    if let (Some(valid), Some(observed)) = (valid, observed) {
        next.endpoints = Some(endpoints(valid, observed, progress.as_ref(), previous));
    }
    if let Some(Verification::Seen { report, through: _ }) = verification {
        describe(&mut next, report.clone().unwrap_or_default());
    }
    let last_write = next
        .gateway
        .as_ref()
        .and_then(|gateway| gateway.last_write.as_ref())
        .map(|write| write.time.0);
    let judgements = judge::judgements(report, &previous.conditions, generation, last_write, now);
    next.conditions = merge(&previous.conditions, &judgements, generation, now);
    next
}

/// The status of an object that is being deleted; only Registered and Ready have news.
pub fn deleting(
    previous: &McpServerStatus,
    generation: i64,
    result: Result<&Deletion, &RegisterError>,
    now: Timestamp,
) -> McpServerStatus {
    let judgements = judge::deleting(result, &previous.conditions, generation);
    McpServerStatus {
        conditions: merge(&previous.conditions, &judgements, generation, now),
        observed_generation: Some(generation),
        ..previous.clone()
    }
}

fn registered_gateway(registered: &Registered, previous: &McpServerStatus) -> RegisteredGateway {
    let before = previous
        .gateway
        .as_ref()
        .and_then(|gateway| gateway.last_write.clone());
    RegisteredGateway {
        name: registered.gateway.name.clone(),
        api_id: Some(registered.claim.api.clone()),
        backend_id: Some(registered.claim.backend.clone()),
        path: Some(registered.path.clone()),
        last_write: registered.untold.clone().or(before),
    }
}

/// Addresses of the MCP endpoint; of a server that speaks only SSE, of its event stream.
fn endpoints(
    valid: &Valid,
    observed: &Observed,
    progress: Option<&Progress>,
    previous: &McpServerStatus,
) -> Endpoints {
    let transports = &valid.transports;
    let path = transports
        .streamable_http
        .as_deref()
        .or(transports.sse.as_ref().map(|sse| sse.path.as_str()))
        .unwrap_or_default();
    let port = match valid.exposure.port {
        80 => String::new(),
        port => format!(":{port}"),
    };
    let (namespace, name) = (&valid.identity.namespace, &valid.identity.name);
    let before = previous
        .endpoints
        .as_ref()
        .and_then(|endpoints| endpoints.gateway.clone());
    Endpoints {
        // Without the cluster's domain: not every cluster's is cluster.local, and the search path of pods ends in it.
        cluster: Some(format!("http://{name}.{namespace}.svc{port}{path}")),
        load_balancer: match valid.exposure.access {
            Access::LoadBalancer { .. } => observed
                .address
                .as_ref()
                .map(|address| format!("http://{address}{port}{path}")),
            Access::ClusterOnly => None,
        },
        gateway: match progress {
            Some(Progress::Registered(registered)) => registered
                .gateway
                .url
                .as_ref()
                .map(|url| format!("{}/{}{path}", url.trim_end_matches('/'), registered.path)),
            Some(Progress::Unregistered | Progress::Withdrawn(_)) => None,
            Some(
                Progress::Refused(_)
                | Progress::Waiting(_)
                | Progress::UnderWay
                | Progress::Pending { .. }
                | Progress::Failed(_),
            )
            | None => before,
        },
    }
}

fn describe(status: &mut McpServerStatus, report: mcp::Report) {
    let mcp::Report {
        versions,
        server_name,
        server_version,
        tools,
        tool_count,
    } = report;
    status.protocol = Some(Protocol {
        versions,
        server_name,
        server_version,
    });
    status.tool_count = Some(i32::try_from(tool_count).unwrap_or(i32::MAX));
    status.tools = tools;
}

fn selector_text(name: &str) -> String {
    selector(name)
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(",")
}
