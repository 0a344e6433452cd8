//! What is said of each condition. In: what the pass found, and the conditions of before; out: judgements, with `Ready`
//! and its companions.
//!
//! A part that this pass did not reach keeps its judgement with the generation for which it was made, and `Ready` is
//! True only when every part was judged for the present spec: nobody who waits for it is told of an earlier one.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use mcp_fleet_crds::ManagementPolicy;

use crate::condition::{Judgement, Of, Outlook, Status, conclude, find, is_true, reasons, summarize, types};
use crate::mcp;
use crate::runtime::backoff::Retry;
use crate::server::deregister::Deletion;
use crate::server::error::{InvalidServer, PassError, RegisterError};
use crate::server::observe::{Observed, Rollout};
use crate::server::register::Progress;
use crate::server::validate::Plan;
use crate::server::verify::{Through, Verification};
use crate::server::{Knowledge, Report};
use crate::steady::steady;

/// The gateway needs seconds to take a change over, and a Service to know a new pod.
const GRACE: Duration = Duration::from_mins(1);

/// All conditions after a pass.
pub fn judgements(
    report: &Report,
    previous: &[Condition],
    generation: i64,
    last_write: Option<Timestamp>,
    now: Timestamp,
) -> Vec<Judgement> {
    let parts = vec![
        accepted(report, previous),
        available(report, previous),
        registered(report, previous),
        verified(report, previous, last_write, now),
    ];
    let ready = ready(&parts, report, previous, generation);
    conclude(parts, ready)
}

/// All conditions of an object that is being deleted.
pub fn deleting(
    result: Result<&Deletion, &RegisterError>,
    previous: &[Condition],
    generation: i64,
) -> Vec<Judgement> {
    let registered = match result {
        Ok(Deletion::Done) => Judgement::no(types::REGISTERED, reasons::DELETING, "the registration is gone"),
        Ok(Deletion::Pending { what }) => {
            let message = format!("deletion waits for API Management to remove {what}");
            Judgement::no(types::REGISTERED, reasons::DELETING, message)
        }
        Err(error) => {
            let message = format!("deletion waits: {}", steady(&error.to_string()));
            Judgement::no(types::REGISTERED, error.reason(), message).that(error.retry().outlook())
        }
    };
    // Alone, so that Ready tells of the deletion and not of what became of the pods meanwhile.
    let ready = summarize(std::slice::from_ref(&registered), generation);
    let kept = |type_| Judgement::kept(type_, previous);
    let parts = vec![
        kept(types::ACCEPTED),
        kept(types::AVAILABLE),
        registered,
        kept(types::VERIFIED),
    ];
    conclude(parts, ready)
}

fn accepted(report: &Report, previous: &[Condition]) -> Judgement {
    match &report.error {
        Some(PassError::Invalid(error)) => {
            Judgement::no(types::ACCEPTED, error.reason(), steady(&error.to_string())).that(Outlook::Stalls)
        }
        _ => match report.refusals()[..] {
            [first, ..] => refused(types::ACCEPTED, first, &report.refusals()),
            [] if report.valid.is_some() => {
                Judgement::yes(types::ACCEPTED, reasons::ACCEPTED, "the spec is valid")
            }
            [] => Judgement::kept(types::ACCEPTED, previous),
        },
    }
}

/// What a person has to change; a gateway that nobody has looked at yet is nobody's fault.
fn refused(type_: &'static str, first: &InvalidServer, all: &[&InvalidServer]) -> Judgement {
    let texts: Vec<String> = all.iter().map(ToString::to_string).collect();
    let (status, outlook) = match first {
        InvalidServer::GatewayNotReady { judged: false, .. } if all.len() == 1 => {
            (Status::Unknown, Outlook::Passes)
        }
        _ => (Status::False, Outlook::Stalls),
    };
    let message = steady(&texts.join("; and: "));
    Judgement::new(type_, status, first.reason(), message).that(outlook)
}

fn available(report: &Report, previous: &[Condition]) -> Judgement {
    match (&report.observed, &report.error) {
        (Some(observed), _) => observed.available.clone(),
        // Pods that serve go on serving when a child cannot be written; Ready tells of that.
        (None, Some(PassError::Apply(error))) if !is_true(previous, types::AVAILABLE) => {
            Judgement::no(types::AVAILABLE, error.reason(), steady(&error.to_string()))
                .that(error.retry().outlook())
        }
        _ => Judgement::kept(types::AVAILABLE, previous),
    }
}

fn registered(report: &Report, previous: &[Condition]) -> Judgement {
    let was = is_true(previous, types::REGISTERED);
    match (&report.progress, &report.error) {
        (Some(Progress::Unregistered), _) => {
            let plan = report.valid.as_ref().map(|valid| &valid.registration);
            let left = matches!(
                plan,
                Some(Ok(Plan::Unregistered {
                    policy: ManagementPolicy::Orphan
                }))
            );
            let message = if left {
                "gateway.enabled is false: nothing is registered any more; with managementPolicy Orphan, what was stays in \
                 the gateway as it is and still forwards to the address of that time"
            } else {
                "gateway.enabled is false: nothing is registered"
            };
            Judgement::yes(types::REGISTERED, reasons::GATEWAY_DISABLED, message)
        }
        (Some(Progress::Withdrawn(refusal)), _) => {
            let message = format!("not registered, and what was is taken back: {refusal}");
            Judgement::no(types::REGISTERED, refusal.reason(), steady(&message)).that(Outlook::Stalls)
        }
        (Some(Progress::Refused(refusal)), _)
            if find(previous, types::REGISTERED).is_none_or(|one| one.status != "True") =>
        {
            refused(types::REGISTERED, refusal, &[refusal])
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
        (Some(Progress::UnderWay), _) if !was => {
            let message = "the registration is under way, or waits for its turn";
            Judgement::unknown(types::REGISTERED, reasons::PENDING, message)
        }
        (Some(Progress::Pending { what }), _) => {
            let message = format!("API Management is at work on {what}");
            Judgement::unknown(types::REGISTERED, reasons::PENDING, message)
        }
        (Some(Progress::Failed(error)), _) if error.is_no_answer() && was => {
            unanswered(error, report.registration, previous)
        }
        (Some(Progress::Failed(error)), _) => {
            Judgement::no(types::REGISTERED, error.reason(), steady(&error.to_string()))
                .that(error.retry().outlook())
        }
        _ => Judgement::kept(types::REGISTERED, previous),
    }
}

/// No answer is no news about what is registered, whatever the reason: the gateway's own condition tells of that.
fn unanswered(error: &RegisterError, knowledge: Knowledge, previous: &[Condition]) -> Judgement {
    match knowledge {
        // Before anything was compared, nothing can be said of the present spec.
        Knowledge::Same if !matches!(error, RegisterError::Registration { .. }) => {
            Judgement::kept(types::REGISTERED, previous)
        }
        Knowledge::Same => Judgement::again(types::REGISTERED, previous),
        Knowledge::Inherited => Judgement::kept(types::REGISTERED, previous),
        Knowledge::Changing => {
            let message = format!("a change is under way: {}", steady(&error.to_string()));
            Judgement::unknown(types::REGISTERED, error.reason(), message)
        }
    }
}

fn verified(
    report: &Report,
    previous: &[Condition],
    last_write: Option<Timestamp>,
    now: Timestamp,
) -> Judgement {
    match (&report.verification, &report.error) {
        (Some(Verification::Seen { report, through }), _) => seen(report.as_ref(), *through),
        (Some(Verification::Unchanged), _) => Judgement::again(types::VERIFIED, previous),
        (Some(Verification::UnderWay), _) if !is_true(previous, types::VERIFIED) => {
            let message = "the probe is under way, or waits for its turn";
            Judgement::unknown(types::VERIFIED, reasons::PENDING, message)
        }
        (Some(Verification::Waiting(what)), _) if !is_true(previous, types::VERIFIED) => {
            Judgement::unknown(types::VERIFIED, reasons::PENDING, *what)
        }
        (Some(Verification::Failed(error)), _) => {
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
            let message = steady(&error.to_string());
            Judgement::new(types::VERIFIED, status, error.reason(), message).that(error.retry().outlook())
        }
        _ => Judgement::kept(types::VERIFIED, previous),
    }
}

fn seen(report: Option<&mcp::Report>, through: Through) -> Judgement {
    let tools = match report.map(|report| (report.tool_count, report.tools.len())) {
        None => {
            "the server demands a token, so its tools were not seen (probe.tokenSecretRef would show them);"
                .to_owned()
        }
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
            "directly; through the gateway a token is demanded, which is as much as was seen",
        ),
    };
    let reason = if report.is_none() { "ChallengeSeen" } else { reason };
    Judgement::yes(types::VERIFIED, reason, format!("{tools} {way}"))
}

/// `Ready` at a generation: that generation has taken over, is registered and was verified.
fn ready(parts: &[Judgement], report: &Report, previous: &[Condition], generation: i64) -> Judgement {
    if let (None, Some(error @ (PassError::Load(_) | PassError::Timeout { .. }))) =
        (&report.observed, &report.error)
    {
        return unjudged(error, previous, generation);
    }
    let parts: Vec<Judgement> = parts.iter().cloned().chain(version(report)).collect();
    let mut ready = summarize(&parts, generation);
    if ready.status == Status::Unknown {
        ready.reason = reasons::PROGRESSING.into();
        let trouble = trouble(report).map(|text| steady(&text));
        if let Some(trouble) = trouble.filter(|trouble| !ready.message.contains(trouble.as_str())) {
            ready.message = format!("{} ({trouble})", ready.message);
        }
    }
    ready
}

/// What went wrong first, in the order of the line.
fn trouble(report: &Report) -> Option<String> {
    match (&report.error, &report.progress, &report.verification) {
        (Some(error), ..) => Some(error.to_string()),
        (None, Some(Progress::Failed(error)), _) => Some(error.to_string()),
        (None, _, Some(Verification::Failed(error))) => Some(error.to_string()),
        _ => None,
    }
}

/// The pass saw nothing of the workload, so it has no word on it. But a new spec must not go by what an old one was.
fn unjudged(error: &PassError, previous: &[Condition], generation: i64) -> Judgement {
    let kept = Judgement::kept(types::READY, previous);
    if kept.of != Of::Present && kept.is_about(generation) {
        return kept;
    }
    let message = format!(
        "the present spec was not judged yet: {}",
        steady(&error.to_string())
    );
    Judgement::unknown(types::READY, error.reason(), message)
}

/// What Available does not say, since pods of a former version may serve: whether the newest does.
fn version(report: &Report) -> Option<Judgement> {
    match (&report.observed, &report.error) {
        (None, Some(PassError::Apply(error))) => Some(
            Judgement::no(types::READY, error.reason(), steady(&error.to_string()))
                .that(error.retry().outlook()),
        ),
        (Some(Observed { rollout, .. }), _) => match rollout {
            Rollout::Done => None,
            Rollout::Progressing => Some(Judgement::unknown(
                types::READY,
                reasons::PROGRESSING,
                "pods of the newest version are awaited",
            )),
            Rollout::Failed(failure) => {
                let message = format!("the newest version does not start: {}", failure.message);
                Some(failure.judgement(types::READY, message))
            }
        },
        _ => None,
    }
}
