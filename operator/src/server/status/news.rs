//! Whether a status says anything worth a write. In: the one that was written last, and the next; out: [`News`].
//!
//! A server that starts goes through half a dozen states within seconds, and pods come and go all the time. Each would
//! be a write that is overtaken by the next. So what only progresses is told when it ends, fails, or lasts.

use mcp_fleet_crds::McpServerStatus;

use crate::condition::{self, find, reasons, types};
use crate::server::observe::ADDRESS_PENDING;

/// Reasons of what is still to come; every other is somebody's trouble.
const QUIET: [&str; 3] = [reasons::PENDING, reasons::PROGRESSING, ADDRESS_PENDING];

/// How much there is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Nothing but times.
    Nothing,
    /// Something that will soon be different again: worth a write only if it lasts.
    Passing,
    /// To be told at once.
    Lasting,
}

/// Compares. `settled`: all pods are there, so their numbers are final.
pub fn news(previous: &McpServerStatus, next: &McpServerStatus, settled: bool) -> News {
    let stripped = |status: &McpServerStatus| McpServerStatus {
        conditions: vec![],
        ..status.clone()
    };
    if condition::same(&previous.conditions, &next.conditions) && stripped(previous) == stripped(next) {
        return News::Nothing;
    }
    let progresses = previous.observed_generation == next.observed_generation
        && said(previous, types::ACCEPTED) == said(next, types::ACCEPTED)
        && failures(previous) == failures(next)
        && next.conditions.iter().all(|condition| {
            let before = find(&previous.conditions, &condition.type_);
            condition.status == "True"
                || QUIET.contains(&condition.reason.as_str())
                || before.is_some_and(|before| before.reason == condition.reason)
        });
    let passing = match (status_of(previous, types::READY), status_of(next, types::READY)) {
        ("Unknown", "Unknown") => true,
        // A pod that is replaced is no outage while another one serves, and what was verified was verified.
        ("True", "Unknown") => status_of(next, types::AVAILABLE) == "True" && is_verified(next),
        ("True", "True") => !settled && without_pods(previous) == without_pods(next),
        _ => false,
    };
    if progresses && passing {
        News::Passing
    } else {
        News::Lasting
    }
}

fn status_of<'a>(status: &'a McpServerStatus, type_: &str) -> &'a str {
    find(&status.conditions, type_).map_or("", |condition| condition.status.as_str())
}

fn said<'a>(status: &'a McpServerStatus, type_: &str) -> Option<(&'a str, &'a str, Option<i64>)> {
    find(&status.conditions, type_).map(|condition| {
        (
            condition.status.as_str(),
            condition.reason.as_str(),
            condition.observed_generation,
        )
    })
}

/// What is wrong, and how it is put.
fn failures(status: &McpServerStatus) -> Vec<(&str, &str, &str)> {
    let wrong = |condition: &&k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
        condition.status == "False" || condition.type_ == types::STALLED
    };
    let conditions = status.conditions.iter().filter(wrong);
    conditions
        .map(|condition| {
            (
                condition.type_.as_str(),
                condition.reason.as_str(),
                condition.message.as_str(),
            )
        })
        .collect()
}

/// Registered and verified for the generation that was observed.
fn is_verified(status: &McpServerStatus) -> bool {
    [types::REGISTERED, types::VERIFIED].iter().all(|type_| {
        find(&status.conditions, type_).is_some_and(|condition| {
            condition.status == "True" && condition.observed_generation == status.observed_generation
        })
    })
}

/// All but what tells of pods.
fn without_pods(status: &McpServerStatus) -> McpServerStatus {
    let mut status = McpServerStatus {
        replicas: None,
        ready_replicas: None,
        pods: None,
        ..status.clone()
    };
    for condition in &mut status.conditions {
        condition.last_transition_time.0 = jiff::Timestamp::UNIX_EPOCH;
        if condition.type_ == types::AVAILABLE {
            condition.message.clear();
        }
    }
    status
}
