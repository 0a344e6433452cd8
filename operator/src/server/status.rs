//! Step `status`, pure: what to tell. In: the status of before, what the pass found, and the time; out: the status to
//! write, and whether it says anything new.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use mcp_fleet_crds::{Endpoints, McpServerStatus, Protocol, RegisteredGateway};

use super::Report;
use super::build::selector;
use super::deregister::Deletion;
use super::error::{InvalidServer, PassError, RegisterError};
use super::observe::Observed;
use super::register::{Progress, Registered};
use super::validate::{Access, Valid};
use super::verify::{Through, Verification};
use crate::condition::{self, Judgement, Status, find, is_true, merge, reasons, summarize, types};
use crate::mcp;
use crate::runtime::backoff::Retry;
use crate::steady::steady;

/// The gateway needs seconds to take a change over, and a Service to know a new pod.
const GRACE: Duration = Duration::from_mins(1);

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
        knows_registration: _,
    } = report;
    let mut next = previous.clone();
    next.observed_generation = Some(generation);
    if let Some(observed) = observed {
        next.replicas = Some(observed.replicas);
        next.ready_replicas = Some(observed.ready_replicas);
    }
    if let Some(valid) = valid {
        next.selector = Some(selector_text(&valid.identity.name));
    }
    match progress {
        Some(Progress::Registered(registered)) => {
            next.gateway = Some(registered_gateway(registered, previous));
        }
        Some(Progress::Unregistered | Progress::Withdrawn(_)) => next.gateway = None,
        Some(Progress::Refused(_) | Progress::Waiting(_) | Progress::Pending { .. }) | None => {}
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
    let parts = vec![
        accepted(report, &previous.conditions),
        available(report, &previous.conditions),
        registered(report, previous, generation),
        verified(
            verification.as_ref(),
            error.as_ref(),
            &previous.conditions,
            last_write,
            now,
        ),
    ];
    next.conditions = conclude(&previous.conditions, parts, generation, now);
    next
}

/// The status of an object that is being deleted; only Registered and Ready have news.
pub fn deleting(
    previous: &McpServerStatus,
    generation: i64,
    result: &Result<Deletion, RegisterError>,
    now: Timestamp,
) -> McpServerStatus {
    let judgement = match result {
        Ok(Deletion::Done) => Judgement::no(types::REGISTERED, reasons::DELETING, "the registration is gone"),
        Ok(Deletion::Pending { what }) => {
            let message = format!("deletion waits for API Management to remove {what}");
            Judgement::no(types::REGISTERED, reasons::DELETING, message)
        }
        Err(error) => {
            let message = format!("deletion waits: {}", steady(&error.to_string()));
            Judgement::no(types::REGISTERED, error.reason(), message)
        }
    };
    let kept = |type_| Judgement::kept(type_, &previous.conditions);
    // In front, so that Ready tells of the deletion and not of what became of the pods meanwhile.
    let ready = summarize(std::slice::from_ref(&judgement));
    let parts = [
        kept(types::ACCEPTED),
        kept(types::AVAILABLE),
        judgement,
        kept(types::VERIFIED),
        ready,
    ];
    McpServerStatus {
        conditions: merge(&previous.conditions, &parts, generation, now),
        observed_generation: Some(generation),
        ..previous.clone()
    }
}

/// Whether two statuses say the same, ignoring times. While pods come and go their mere numbers are no news, and while
/// a workload starts neither is its address: both are told with what comes next.
pub fn same(previous: &McpServerStatus, next: &McpServerStatus, settled: bool) -> bool {
    let starting = find(&next.conditions, types::AVAILABLE)
        .is_some_and(|available| available.status == Status::Unknown.as_str());
    let comparable = |status: &McpServerStatus| McpServerStatus {
        conditions: vec![],
        replicas: status.replicas.filter(|_| settled),
        ready_replicas: status.ready_replicas.filter(|_| settled),
        endpoints: status.endpoints.clone().filter(|_| !starting),
        ..status.clone()
    };
    condition::same(&previous.conditions, &next.conditions) && comparable(previous) == comparable(next)
}

fn conclude(
    previous: &[Condition],
    mut parts: Vec<Judgement>,
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    let ready = summarize(&parts);
    parts.push(ready);
    merge(previous, &parts, generation, now)
}

fn accepted(report: &Report, previous: &[Condition]) -> Judgement {
    match &report.error {
        Some(PassError::Invalid(error)) => {
            Judgement::no(types::ACCEPTED, error.reason(), steady(&error.to_string()))
        }
        _ => match report.refusals()[..] {
            [first, ..] => refused(first, &report.refusals()),
            [] if report.valid.is_some() => {
                Judgement::yes(types::ACCEPTED, reasons::ACCEPTED, "the spec is valid")
            }
            [] => Judgement::kept(types::ACCEPTED, previous),
        },
    }
}

/// What a person has to change; a gateway that nobody has looked at yet is nobody's fault.
fn refused(first: &InvalidServer, all: &[&InvalidServer]) -> Judgement {
    let texts: Vec<String> = all.iter().map(|refusal| refusal.to_string()).collect();
    let status = match first {
        InvalidServer::GatewayNotReady { judged: false, .. } if all.len() == 1 => Status::Unknown,
        _ => Status::False,
    };
    Judgement::new(
        types::ACCEPTED,
        status,
        first.reason(),
        steady(&texts.join("; and: ")),
    )
}

fn available(report: &Report, previous: &[Condition]) -> Judgement {
    match (&report.observed, &report.error) {
        (Some(observed), _) => observed.available.clone(),
        (None, Some(PassError::Apply(error))) => {
            Judgement::no(types::AVAILABLE, error.reason(), steady(&error.to_string()))
        }
        _ => Judgement::kept(types::AVAILABLE, previous),
    }
}

fn registered(report: &Report, previous: &McpServerStatus, generation: i64) -> Judgement {
    let conditions = &previous.conditions;
    let was = is_true(conditions, types::REGISTERED);
    match (&report.progress, &report.error) {
        (Some(Progress::Unregistered), _) => {
            let message = "gateway.enabled is false: nothing is registered";
            Judgement::yes(types::REGISTERED, reasons::GATEWAY_DISABLED, message)
        }
        (Some(Progress::Withdrawn(refusal)), _) => {
            let message = format!("not registered, and what was is taken back: {refusal}");
            Judgement::no(types::REGISTERED, refusal.reason(), steady(&message))
        }
        (Some(Progress::Refused(refusal)), _) if previous.gateway.is_none() => {
            let judgement = refused(refusal, &[refusal]);
            Judgement {
                type_: types::REGISTERED,
                ..judgement
            }
        }
        (Some(Progress::Registered(registered)), _) => {
            let message = format!(
                "registered in McpGateway {} at {}",
                registered.gateway.name, registered.path
            );
            Judgement::yes(types::REGISTERED, reasons::REGISTERED, message)
        }
        (Some(Progress::Waiting(what)), _) if !was => {
            Judgement::unknown(types::REGISTERED, reasons::PENDING, *what)
        }
        (Some(Progress::Pending { what }), _) => {
            let message = format!("API Management is at work on {what}");
            Judgement::unknown(types::REGISTERED, reasons::PENDING, message)
        }
        (None, Some(PassError::Register(error))) => {
            // No answer is no news about what is registered, unless something was to be changed.
            let judged =
                find(conditions, types::REGISTERED).and_then(|condition| condition.observed_generation);
            let unchanged = report.knows_registration && judged == Some(generation);
            if error.is_transient() && was && unchanged {
                return Judgement::kept(types::REGISTERED, conditions);
            }
            Judgement::no(types::REGISTERED, error.reason(), steady(&error.to_string()))
        }
        _ => Judgement::kept(types::REGISTERED, conditions),
    }
}

fn verified(
    verification: Option<&Verification>,
    error: Option<&PassError>,
    previous: &[Condition],
    last_write: Option<Timestamp>,
    now: Timestamp,
) -> Judgement {
    match (verification, error) {
        (Some(Verification::Seen { report, through }), _) => seen(report.as_ref(), *through),
        (Some(Verification::Waiting(what)), _) if !is_true(previous, types::VERIFIED) => {
            Judgement::unknown(types::VERIFIED, reasons::PENDING, *what)
        }
        (None, Some(PassError::Verify(error))) => {
            let available = find(previous, types::AVAILABLE)
                .filter(|condition| condition.status == Status::True.as_str())
                .map_or(now, |condition| condition.last_transition_time.0);
            let since = last_write.map_or(available, |write| write.max(available));
            let young = now.duration_since(since).unsigned_abs() < GRACE;
            let status = if young && error.retry() != Retry::Slow {
                Status::Unknown
            } else {
                Status::False
            };
            Judgement::new(
                types::VERIFIED,
                status,
                error.reason(),
                steady(&error.to_string()),
            )
        }
        _ => Judgement::kept(types::VERIFIED, previous),
    }
}

fn seen(report: Option<&mcp::Report>, through: Through) -> Judgement {
    let tools = match report.map(|report| (report.tool_count, report.tools.len())) {
        None => "the server demands a token, so its tools were not seen".to_owned(),
        Some((1, _)) => "1 tool seen".to_owned(),
        Some((count, listed)) if listed < count => {
            format!(
                "{count} tools seen, of which status lists the first {listed} and leaves out {} more,",
                count - listed
            )
        }
        Some((count, _)) => format!("{count} tools seen"),
    };
    let (reason, way) = match through {
        Through::Server => (reasons::VERIFIED, "directly"),
        Through::ServerOnly => (
            reasons::VERIFIED,
            "directly; the gateway's probe is None, so nobody called through it",
        ),
        Through::ServerAndLimit => (
            "RateLimited",
            "directly; the gateway takes the probe's key, but its rate limit ended the probe",
        ),
        Through::ServerAndGateway => (reasons::VERIFIED, "directly and through the gateway"),
        Through::ServerAndChallenge => (
            "ChallengeSeen",
            "directly; the gateway demands a token and says where to get one, which is as much as was seen",
        ),
    };
    let reason = if report.is_none() { "ChallengeSeen" } else { reason };
    Judgement::yes(types::VERIFIED, reason, format!("{tools} {way}"))
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
        cluster: Some(format!("http://{name}.{namespace}.svc.cluster.local{port}{path}")),
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
            Some(Progress::Refused(_) | Progress::Waiting(_) | Progress::Pending { .. }) | None => before,
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
