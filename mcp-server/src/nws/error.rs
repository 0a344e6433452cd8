//! What can go wrong between us and the National Weather Service, and how a model is told.

use crate::limit::whole_seconds;
use serde::Deserialize;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// For this long a failure is told again to whoever asks for the same, unless the service said for how long it wants to be left alone.
const REMEMBERED: Duration = Duration::from_secs(5);
/// And at most for this long, whatever it says.
const LONGEST_REMEMBERED: Duration = Duration::from_mins(1);

/// Why there is no weather.
#[derive(Debug, thiserror::Error)]
pub enum NwsError {
    /// The service answered with an error.
    #[error("the National Weather Service answered {status}{}", explain(.problem))]
    Problem {
        /// HTTP status.
        status: u16,
        /// Title and detail of its `application/problem+json`, if it sent one.
        problem: Problem,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// This replica has asked as much as it may; the time after which it may ask again.
    #[error("as many requests as are allowed have been sent to the National Weather Service")]
    OverBudget(Duration),
    /// No answer: name, connection, TLS or a cut body.
    #[error("failed to reach the National Weather Service")]
    Unreachable(#[source] reqwest::Error),
    /// An answer that is not what its API documents.
    #[error("the National Weather Service sent an answer that cannot be read: {0}")]
    Malformed(&'static str),
    /// A redirect that leaves its origin, or one too many.
    #[error("the National Weather Service redirected to a place that is not followed")]
    Redirect,
    /// The time for the whole call is over.
    #[error("the National Weather Service did not answer in time")]
    TimedOut,
    /// It has not answered several requests in a row, so it is left alone for so long.
    #[error("the National Weather Service does not answer at the moment")]
    Silent(Duration),
    /// As many requests are under way as there may be.
    #[error("too many requests to the National Weather Service are under way")]
    Busy,
    /// The same failed a moment ago, and is not tried again before that time is over.
    #[error("{error}")]
    StillFailing {
        /// How.
        error: Arc<NwsError>,
        /// Until it is.
        wait: Duration,
    },
    /// The task that asked ended in a panic.
    #[error("the request to the National Weather Service ended without a result")]
    Lost,
}

/// RFC 9457, the two members that a person can read.
#[derive(Debug, Default, Deserialize)]
pub struct Problem {
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    detail: Option<String>,
}

/// Longest part of a problem that is passed on.
const MAX_PROBLEM: usize = 300;

fn explain(problem: &Problem) -> String {
    let clean = |text: &Option<String>| -> Option<String> {
        let text: String = text
            .as_deref()?
            .chars()
            .filter(|letter| !letter.is_control())
            .take(MAX_PROBLEM)
            .collect();
        (!text.is_empty()).then_some(text)
    };
    match (clean(&problem.title), clean(&problem.detail)) {
        (Some(title), Some(detail)) => format!(" {title}: {}", detail.trim_end_matches('.')),
        (Some(text), None) | (None, Some(text)) => format!(" {}", text.trim_end_matches('.')),
        (None, None) => String::new(),
    }
}

impl NwsError {
    /// No answer. The URL is left out: it may say exactly where somebody is.
    pub fn unreachable(error: reqwest::Error) -> NwsError {
        NwsError::Unreachable(error.without_url())
    }

    /// Whether the same request may well succeed a moment later, within the same call.
    pub fn is_transient(&self) -> bool {
        match self {
            NwsError::Problem { status, .. } => matches!(status, 500 | 502 | 503 | 504),
            // A connection that hangs, or the way to one replica of theirs, may be all that is wrong.
            NwsError::Unreachable(_) | NwsError::TimedOut => true,
            NwsError::Malformed(_)
            | NwsError::Redirect
            | NwsError::OverBudget(_)
            | NwsError::Silent(_)
            | NwsError::Busy
            | NwsError::StillFailing { .. }
            | NwsError::Lost => false,
        }
    }

    /// Whether this is about the state of the service and not about what was asked: then something stale may be answered.
    pub fn passes(&self) -> bool {
        match self {
            NwsError::Problem { status, .. } => *status == 429 || *status >= 500,
            NwsError::Unreachable(_)
            | NwsError::TimedOut
            | NwsError::OverBudget(_)
            | NwsError::Silent(_)
            | NwsError::Busy
            | NwsError::Lost
            | NwsError::Malformed(_) => true,
            NwsError::StillFailing { error, .. } => error.passes(),
            NwsError::Redirect => false,
        }
    }

    /// Whether the service was silent: an error of its own is an answer too.
    pub fn is_silence(&self) -> bool {
        matches!(self, NwsError::Unreachable(_) | NwsError::TimedOut)
    }

    /// For how long the same question is answered with this failure instead of being asked again. What costs the service nothing, or
    /// is about what was asked, is found out anew.
    pub fn remembered(&self) -> Option<Duration> {
        match self {
            NwsError::OverBudget(_)
            | NwsError::Silent(_)
            | NwsError::Busy
            | NwsError::StillFailing { .. }
            | NwsError::Lost => None,
            error if error.passes() => {
                let wished = error.wait().unwrap_or(REMEMBERED);
                Some(wished.clamp(REMEMBERED, LONGEST_REMEMBERED))
            }
            _ => None,
        }
    }

    /// How long not to ask again, where that is known.
    pub fn wait(&self) -> Option<Duration> {
        match self {
            NwsError::Problem { retry_after, .. } => *retry_after,
            NwsError::OverBudget(wait) | NwsError::Silent(wait) | NwsError::StillFailing { wait, .. } => {
                Some(*wait)
            }
            _ => None,
        }
    }

    /// Label in metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            NwsError::Problem { status: 404, .. } => "not_found",
            NwsError::Problem { status: 429, .. } => "throttled",
            NwsError::Problem {
                status: 400..=499, ..
            } => "client_error",
            NwsError::Problem { .. } => "server_error",
            NwsError::Unreachable(_) => "unreachable",
            NwsError::Malformed(_) => "malformed",
            NwsError::Redirect => "redirect_refused",
            NwsError::TimedOut => "timed_out",
            NwsError::OverBudget(_) => "over_budget",
            NwsError::Silent(_) => "silent",
            NwsError::Busy => "busy",
            NwsError::StillFailing { error, .. } => error.reason(),
            NwsError::Lost => "lost",
        }
    }

    /// What the caller can do about it.
    pub fn advice(&self) -> Cow<'static, str> {
        match self {
            NwsError::Problem { status: 404, .. } => {
                "It covers the United States, its territories and coastal waters only; pass coordinates on land there."
            }
            NwsError::Problem {
                status: 400..=428 | 430..=499,
                ..
            } => "Check the arguments.",
            error => match error.wait() {
                Some(wait) => return format!("Try again in {} seconds.", whole_seconds(wait)).into(),
                None => "Try again in a few seconds.",
            },
        }
        .into()
    }
}
