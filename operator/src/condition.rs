//! Conditions: what is known about an object, in the form of metav1.Condition.
//!
//! In: the judgements of one pass, the conditions of the last one, and the time. Out: the conditions to write. Pure.
//! The transition time moves only when a status flips; observedGeneration is always that of the judged spec, so a
//! judgement that a pass only kept has the generation for which it was made.
//!
//! `Ready` sums up, and while it is not True one of `Reconciling` and `Stalled` says whether waiting helps. Tools read
//! these two by the rules of kstatus (sigs.k8s.io/cli-utils, pkg/kstatus): both are there only while they are True.

#[cfg(test)]
pub mod kstatus;

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
    /// The operator is still at it. Only there while it is True.
    pub const RECONCILING: &str = "Reconciling";
    /// Nothing goes on until a person changes something. Only there while it is True.
    pub const STALLED: &str = "Stalled";
}

/// Reasons that more than one kind uses; those of one step stand with its errors.
pub mod reasons {
    pub const ACCEPTED: &str = "Accepted";
    pub const AVAILABLE: &str = "Available";
    pub const REGISTERED: &str = "Registered";
    pub const VERIFIED: &str = "Verified";
    pub const READY: &str = "Ready";
    pub const PENDING: &str = "Pending";
    pub const PROGRESSING: &str = "Progressing";
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

/// What becomes of something that is not True.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// It changes by itself, or with something else that is under way.
    Passes,
    /// It stays so until a person changes something.
    Stalls,
    /// It is so because the spec wants it so.
    Intended,
}

/// Which spec a judgement is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// The one that this pass works on.
    Present,
    /// The one of an earlier pass, by its generation.
    Earlier(Option<i64>),
}

/// What one pass found out about one condition type. Messages are stable: no times, no counters, sorted lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub type_: &'static str,
    pub status: Status,
    pub reason: Cow<'static, str>,
    pub message: String,
    pub of: Of,
    pub outlook: Outlook,
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
            of: Of::Present,
            outlook: Outlook::Passes,
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

    /// The same, with what becomes of it.
    #[must_use]
    pub fn that(self, outlook: Outlook) -> Self {
        Self { outlook, ..self }
    }

    /// The judgement of an earlier pass about the spec of that time, for a step that this pass did not reach; Unknown
    /// when there was none.
    pub fn kept(type_: &'static str, previous: &[Condition]) -> Self {
        match find(previous, type_) {
            Some(condition) => Self {
                of: Of::Earlier(condition.observed_generation),
                outlook: Outlook::of(condition, previous),
                ..Self::new(
                    type_,
                    Status::parse(&condition.status),
                    condition.reason.clone(),
                    condition.message.clone(),
                )
            },
            None => Self::unknown(type_, reasons::PENDING, "not judged yet"),
        }
    }

    /// The judgement of an earlier pass, made anew: the present spec asks for just what was seen then.
    pub fn again(type_: &'static str, previous: &[Condition]) -> Self {
        Self {
            of: Of::Present,
            ..Self::kept(type_, previous)
        }
    }

    /// Whether it is about the spec with this generation.
    pub fn is_about(&self, generation: i64) -> bool {
        match self.of {
            Of::Present => true,
            Of::Earlier(earlier) => earlier == Some(generation),
        }
    }
}

impl Outlook {
    /// Of a condition that was written: what stood beside it.
    fn of(condition: &Condition, conditions: &[Condition]) -> Self {
        let told = |type_| find(conditions, type_).is_some();
        let stalled =
            find(conditions, types::STALLED).is_some_and(|stalled| stalled.reason == condition.reason);
        let is_summary = find(conditions, types::READY)
            .is_some_and(|ready| ready.status != "True" && ready.reason == condition.reason);
        if condition.status == Status::True.as_str() {
            Self::Passes
        } else if stalled {
            Self::Stalls
        } else if is_summary && !told(types::RECONCILING) && !told(types::STALLED) {
            Self::Intended
        } else {
            Self::Passes
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

/// `Ready` from its parts: the first that is False, else the first that is Unknown or about an earlier spec, else True.
/// A part of type `Ready` is something that has no condition of its own.
pub fn summarize(parts: &[Judgement], generation: i64) -> Judgement {
    let current = |part: &&Judgement| part.is_about(generation);
    let mut present = parts.iter().filter(current);
    if let Some(part) = present.find(|part| part.status == Status::False) {
        return Judgement {
            type_: types::READY,
            message: named(part, &part.message),
            of: Of::Present,
            ..part.clone()
        };
    }
    let open = |part: &&Judgement| part.status == Status::Unknown || !part.is_about(generation);
    match parts.iter().find(open) {
        Some(part) if part.is_about(generation) => Judgement {
            type_: types::READY,
            message: named(part, &part.message),
            of: Of::Present,
            ..part.clone()
        },
        Some(part) => Judgement::unknown(
            types::READY,
            reasons::PROGRESSING,
            named(part, "not judged for the present spec yet"),
        ),
        None => Judgement::yes(types::READY, reasons::READY, "usable by agents"),
    }
}

fn named(part: &Judgement, message: &str) -> String {
    if part.type_ == types::READY {
        return message.to_owned();
    }
    format!("{}: {message}", part.type_)
}

/// The parts with `Ready`, and with `Reconciling` or `Stalled` while that is not True.
pub fn conclude(mut parts: Vec<Judgement>, ready: Judgement) -> Vec<Judgement> {
    let beside = match (ready.status, ready.outlook) {
        (Status::True, _) | (_, Outlook::Intended) => None,
        (_, Outlook::Stalls) => Some(types::STALLED),
        (_, Outlook::Passes) => Some(types::RECONCILING),
    };
    let beside = beside.map(|type_| Judgement {
        type_,
        status: Status::True,
        ..ready.clone()
    });
    parts.push(ready);
    parts.extend(beside);
    parts
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
                observed_generation: match judgement.of {
                    Of::Present => Some(generation),
                    Of::Earlier(earlier) => earlier,
                },
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
        let earlier = |judgement: &Judgement| Judgement {
            of: Of::Earlier(Some(1)),
            ..judgement.clone()
        };
        let table = [
            (vec![accepted.clone()], Status::True, reasons::READY),
            (
                vec![accepted.clone(), waiting.clone()],
                Status::Unknown,
                reasons::PENDING,
            ),
            (
                vec![accepted.clone(), waiting, broken.clone()],
                Status::False,
                reasons::CONFLICT,
            ),
            // What was judged of an earlier spec, good or bad, is no word on the present one.
            (vec![earlier(&accepted)], Status::Unknown, reasons::PROGRESSING),
            (
                vec![accepted, earlier(&broken)],
                Status::Unknown,
                reasons::PROGRESSING,
            ),
        ];
        for (parts, status, reason) in table {
            let ready = summarize(&parts, 2);
            assert_eq!((ready.status, ready.reason.as_ref()), (status, reason));
        }
    }

    #[test]
    fn a_step_that_was_not_reached_keeps_its_judgement_and_its_generation() {
        let before = merge(
            &[],
            &[Judgement::yes(types::VERIFIED, reasons::VERIFIED, "2 tools")],
            1,
            at(1),
        );
        let kept = Judgement::kept(types::VERIFIED, &before);
        assert_eq!(merge(&before, std::slice::from_ref(&kept), 1, at(5)), before);
        assert_eq!(
            merge(&before, &[kept], 2, at(5)),
            before,
            "still about generation 1"
        );
        let again = merge(&before, &[Judgement::again(types::VERIFIED, &before)], 2, at(5));
        assert_eq!(again[0].observed_generation, Some(2));
        assert_eq!(again[0].last_transition_time, before[0].last_transition_time);
        assert_eq!(Judgement::kept(types::VERIFIED, &[]).status, Status::Unknown);
    }

    /// What stands beside Ready, and that a kept judgement brings it back.
    #[test]
    fn ready_has_at_its_side_whether_waiting_helps() {
        let table = [
            (Outlook::Passes, Some(types::RECONCILING)),
            (Outlook::Stalls, Some(types::STALLED)),
            (Outlook::Intended, None),
        ];
        for (outlook, beside) in table {
            let part = Judgement::no(types::AVAILABLE, "ImagePullFailed", "no such image").that(outlook);
            let conclusion = |part: Judgement| {
                let ready = summarize(std::slice::from_ref(&part), 1);
                conclude(vec![part], ready)
            };
            let first = merge(&[], &conclusion(part), 1, at(1));
            let found = first[2..].iter().map(|condition| condition.type_.as_str()).next();
            assert_eq!((first.len() <= 3, found), (true, beside), "{first:?}");
            let kept = merge(
                &first,
                &conclusion(Judgement::kept(types::AVAILABLE, &first)),
                1,
                at(2),
            );
            assert_eq!(kept, first);
        }
        let good = Judgement::yes(types::AVAILABLE, reasons::AVAILABLE, "");
        let ready = summarize(std::slice::from_ref(&good), 1);
        assert_eq!(conclude(vec![good], ready).len(), 2);
    }
}
