//! Conditions: what is known about an object, in the form of metav1.Condition.
//!
//! In: the judgements of one pass, the conditions of the last one, and the time. Out: the conditions to write. Pure.
//! The transition time moves only when a status flips; observedGeneration is always that of the judged spec.

use std::borrow::Cow;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Condition types, in the order in which they are shown.
pub mod types {
    /// The spec and what it refers to are valid.
    pub const ACCEPTED: &str = "Accepted";
    /// The workload runs and has an address.
    pub const AVAILABLE: &str = "Available";
    /// The gateway has what was asked for.
    pub const REGISTERED: &str = "Registered";
    /// An MCP client got through.
    pub const VERIFIED: &str = "Verified";
    /// Summary of the others.
    pub const READY: &str = "Ready";
}

/// Reasons that more than one kind uses; those of one step stand with its errors.
pub mod reasons {
    pub const ACCEPTED: &str = "Accepted";
    pub const AVAILABLE: &str = "Available";
    pub const REGISTERED: &str = "Registered";
    pub const VERIFIED: &str = "Verified";
    pub const READY: &str = "Ready";
    pub const PENDING: &str = "Pending";
    pub const DELETING: &str = "Deleting";
    pub const INVALID: &str = "Invalid";
    pub const CONFLICT: &str = "Conflict";
    pub const GATEWAY_NOT_FOUND: &str = "GatewayNotFound";
    pub const GATEWAY_NOT_ALLOWED: &str = "GatewayNotAllowed";
    pub const GATEWAY_NOT_READY: &str = "GatewayNotReady";
    pub const GATEWAY_UNREACHABLE: &str = "GatewayUnreachable";
    pub const GATEWAY_DISABLED: &str = "GatewayDisabled";
    pub const PROBE_KEY_REFUSED: &str = "ProbeKeyRefused";
    pub const CHILD_NOT_OWNED: &str = "ChildNotOwned";
    pub const NAMESPACE_TERMINATING: &str = "NamespaceTerminating";
    pub const KUBERNETES_ERROR: &str = "KubernetesError";
    pub const TIMEOUT: &str = "Timeout";
}

/// Status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    True,
    False,
    Unknown,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "True" => Self::True,
            "False" => Self::False,
            _ => Self::Unknown,
        }
    }
}

/// What one pass found out about one condition type. Messages are stable: no times, no counters, sorted lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub type_: &'static str,
    pub status: Status,
    pub reason: Cow<'static, str>,
    pub message: String,
}

impl Judgement {
    pub fn new(
        type_: &'static str,
        status: Status,
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            type_,
            status,
            reason: reason.into(),
            message: message.into(),
        }
    }

    pub fn yes(type_: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(type_, Status::True, reason, message)
    }

    pub fn no(type_: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(type_, Status::False, reason, message)
    }

    pub fn unknown(type_: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(type_, Status::Unknown, reason, message)
    }

    /// The judgement of an earlier pass, for a step that this pass did not reach; Unknown when there was none.
    pub fn kept(type_: &'static str, previous: &[Condition]) -> Self {
        match find(previous, type_) {
            Some(condition) => Self::new(
                type_,
                Status::parse(&condition.status),
                condition.reason.clone(),
                condition.message.clone(),
            ),
            None => Self::unknown(type_, reasons::PENDING, "not judged yet"),
        }
    }
}

/// Finds a condition by its type.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether a condition is there and True.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|condition| condition.status == Status::True.as_str())
}

/// `Ready` from its parts: the first that is False, else the first that is Unknown, else True.
pub fn summarize(parts: &[Judgement]) -> Judgement {
    let worst = parts
        .iter()
        .find(|part| part.status == Status::False)
        .or_else(|| parts.iter().find(|part| part.status == Status::Unknown));
    match worst {
        Some(part) => Judgement::new(
            types::READY,
            // What waits for something is not usable yet; Ready says so plainly.
            Status::False,
            part.reason.clone(),
            format!("{}: {}", part.type_, part.message),
        ),
        None => Judgement::yes(types::READY, reasons::READY, "usable by agents"),
    }
}

/// The conditions to write, in the order of the judgements. Types that were not judged are dropped.
pub fn merge(
    previous: &[Condition],
    judgements: &[Judgement],
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    judgements
        .iter()
        .map(|judgement| {
            let status = judgement.status.as_str();
            let last_transition_time = find(previous, judgement.type_)
                .filter(|condition| condition.status == status)
                .map_or(Time(now), |condition| condition.last_transition_time.clone());
            Condition {
                type_: judgement.type_.to_owned(),
                status: status.to_owned(),
                reason: judgement.reason.clone().into_owned(),
                // The schema of metav1.Condition allows 32,768 characters.
                message: judgement.message.chars().take(4000).collect(),
                observed_generation: Some(generation),
                last_transition_time,
            }
        })
        .collect()
}

/// Conditions of `next` whose status or reason is not that of `previous`.
pub fn transitions<'a>(previous: &[Condition], next: &'a [Condition]) -> Vec<&'a Condition> {
    next.iter()
        .filter(|condition| {
            find(previous, &condition.type_)
                .is_none_or(|old| old.status != condition.status || old.reason != condition.reason)
        })
        .collect()
}

/// Equality ignoring transition times.
pub fn same(left: &[Condition], right: &[Condition]) -> bool {
    left.len() == right.len()
        && left.iter().all(|one| {
            find(right, &one.type_).is_some_and(|other| {
                one.status == other.status
                    && one.reason == other.reason
                    && one.message == other.message
                    && one.observed_generation == other.observed_generation
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn transition_time_moves_only_on_a_flip() {
        let first = merge(
            &[],
            &[Judgement::no(types::AVAILABLE, reasons::PENDING, "a")],
            1,
            at(10),
        );
        let again = merge(
            &first,
            &[Judgement::no(types::AVAILABLE, reasons::CONFLICT, "b")],
            2,
            at(20),
        );
        let flipped = merge(
            &again,
            &[Judgement::yes(types::AVAILABLE, reasons::AVAILABLE, "c")],
            2,
            at(30),
        );
        assert_eq!(first[0].last_transition_time, Time(at(10)));
        assert_eq!(again[0].last_transition_time, Time(at(10)));
        assert_eq!(
            (again[0].observed_generation, again[0].reason.as_str()),
            (Some(2), reasons::CONFLICT)
        );
        assert_eq!(flipped[0].last_transition_time, Time(at(30)));
        assert!(!same(&first, &again));
        assert!(same(
            &flipped,
            &merge(
                &[],
                &[Judgement::yes(types::AVAILABLE, reasons::AVAILABLE, "c")],
                2,
                at(99)
            )
        ));
        assert_eq!(transitions(&first, &again).len(), 1);
        assert_eq!(transitions(&again, &again).len(), 0);
    }

    #[test]
    fn ready_names_the_first_false_and_then_the_first_unknown() {
        let accepted = Judgement::yes(types::ACCEPTED, reasons::ACCEPTED, "");
        let waiting = Judgement::unknown(types::AVAILABLE, reasons::PENDING, "starting");
        let broken = Judgement::no(types::REGISTERED, reasons::CONFLICT, "taken");
        let table = [
            (vec![accepted.clone()], Status::True, reasons::READY),
            (
                vec![accepted.clone(), waiting.clone()],
                Status::False,
                reasons::PENDING,
            ),
            (vec![accepted, waiting, broken], Status::False, reasons::CONFLICT),
        ];
        for (parts, status, reason) in table {
            let ready = summarize(&parts);
            assert_eq!((ready.status, ready.reason.as_ref()), (status, reason));
        }
    }

    #[test]
    fn a_step_that_was_not_reached_keeps_its_judgement() {
        let before = merge(
            &[],
            &[Judgement::yes(types::VERIFIED, reasons::VERIFIED, "2 tools")],
            1,
            at(1),
        );
        let kept = Judgement::kept(types::VERIFIED, &before);
        assert_eq!(merge(&before, &[kept], 1, at(5)), before);
        assert_eq!(Judgement::kept(types::VERIFIED, &[]).status, Status::Unknown);
    }
}
