//! What can go wrong between us and the National Weather Service, and how a model is told.

use crate::limit::whole_seconds;
use serde::Deserialize;
use std::borrow::Cow;
use std::time::Duration;

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
            NwsError::Unreachable(_) => true,
            NwsError::Malformed(_) | NwsError::Redirect | NwsError::TimedOut | NwsError::OverBudget(_) => {
                false
            }
        }
    }

    /// Whether this is about the state of the service and not about what was asked: then something stale may be answered.
    pub fn passes(&self) -> bool {
        match self {
            NwsError::Problem { status, .. } => *status == 429 || *status >= 500,
            NwsError::Unreachable(_)
            | NwsError::TimedOut
            | NwsError::OverBudget(_)
            | NwsError::Malformed(_) => true,
            NwsError::Redirect => false,
        }
    }

    /// How long not to ask again, where that is known.
    pub fn wait(&self) -> Option<Duration> {
        match self {
            NwsError::Problem { retry_after, .. } => *retry_after,
            NwsError::OverBudget(wait) => Some(*wait),
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
            NwsError::OverBudget(wait) => {
                return format!("Try again in {} seconds.", whole_seconds(*wait)).into();
            }
            _ => "Try again in a few seconds.",
        }
        .into()
    }
}
