//! What can go wrong with one ARM call, in the classes that decide what happens next.
//! In: status, body and headers of an answer, or the reason why there is none; out: [`ArmError`].

use std::{fmt, time::Duration};

use serde::Deserialize;

use super::{auth::AuthError, document::InvalidRegistration};

/// When to try again. Nothing else decides a requeue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Soon, with the caller's growing delay.
    Fast,
    /// Later: somebody else has to act, and we are not told when they did.
    Slow,
    After(Duration),
    /// Seldom: the same request will probably get the same answer, but limits are raised, policies of the platform
    /// change, and some refusals pass.
    Terminal,
    /// Not before the desired state changes: by our own judgement.
    UntilChanged,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    Throttled {
        retry_after: Option<Duration>,
    },
    /// Another operation on the same resource runs (409).
    ConflictInProgress {
        message: String,
    },
    /// The ETag is stale (412): read again.
    PreconditionFailed {
        message: String,
    },
    Validation {
        message: String,
        target: Option<String>,
    },
    NotFound,
    /// No token, or the token is refused.
    Auth {
        message: String,
    },
    Forbidden {
        message: String,
    },
    /// The API Management service, its resource group or its subscription is not there.
    ServiceMissing {
        message: String,
    },
    Timeout,
    Connection {
        message: String,
    },
    Server {
        status: u16,
        message: String,
    },
    Unexpected {
        message: String,
    },
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Throttled {
                retry_after: Some(delay),
            } => {
                write!(
                    formatter,
                    "Azure throttles; it asks for a pause of {} s",
                    delay.as_secs()
                )
            }
            Self::Throttled { retry_after: None } => formatter.write_str("Azure throttles"),
            Self::ConflictInProgress { message } => {
                write!(formatter, "another operation is in progress: {message}")
            }
            Self::PreconditionFailed { message } => write!(formatter, "it was changed meanwhile: {message}"),
            Self::Validation { message, .. } => write!(formatter, "the service refuses it: {message}"),
            Self::NotFound => formatter.write_str("not found"),
            Self::Auth { message } => write!(formatter, "not authenticated: {message}"),
            Self::Forbidden { message } => write!(formatter, "not allowed: {message}"),
            Self::ServiceMissing { message } => {
                write!(formatter, "the API Management service is not there: {message}")
            }
            Self::Timeout => formatter.write_str("no answer in time"),
            Self::Connection { message } => write!(formatter, "connection failed: {message}"),
            Self::Server { status, message } => {
                write!(formatter, "the service failed with status {status}: {message}")
            }
            Self::Unexpected { message } => write!(formatter, "unexpected answer: {message}"),
        }
    }
}

/// What the metric of ARM requests can say of one: `ok`, or the reason of its class. Alerts are made of these words.
pub const OUTCOMES: [&str; 13] = [
    OK,
    "Throttled",
    "OperationInProgress",
    "ChangedConcurrently",
    "Refused",
    NOT_FOUND,
    "AuthenticationFailed",
    "Forbidden",
    "ServiceNotFound",
    "Timeout",
    "ConnectionFailed",
    "ServiceError",
    "UnexpectedAnswer",
];
/// Outcomes of a healthy service: what is asked for need not be there.
pub const GOOD_OUTCOMES: [&str; 2] = [OK, NOT_FOUND];
pub(super) const OK: &str = "ok";
const NOT_FOUND: &str = "NotFound";

/// One failed call: what was tried, on what, and the class of the failure.
#[derive(Clone, Debug, thiserror::Error)]
#[error("failed to {action} {resource}: {class}{}", shown_correlation(.correlation_id.as_deref()))]
pub struct ArmError {
    pub action: &'static str,
    pub resource: String,
    pub class: ErrorClass,
    /// `x-ms-correlation-request-id` of the answer: what Azure's support asks for.
    pub correlation_id: Option<String>,
}

fn shown_correlation(id: Option<&str>) -> String {
    id.map_or_else(String::new, |id| format!(" (correlation id {id})"))
}

impl ArmError {
    /// CamelCase, for conditions, Events and metrics.
    pub fn reason(&self) -> &'static str {
        match self.class {
            ErrorClass::Throttled { .. } => "Throttled",
            ErrorClass::ConflictInProgress { .. } => "OperationInProgress",
            ErrorClass::PreconditionFailed { .. } => "ChangedConcurrently",
            ErrorClass::Validation { .. } => "Refused",
            ErrorClass::NotFound => NOT_FOUND,
            ErrorClass::Auth { .. } => "AuthenticationFailed",
            ErrorClass::Forbidden { .. } => "Forbidden",
            ErrorClass::ServiceMissing { .. } => "ServiceNotFound",
            ErrorClass::Timeout => "Timeout",
            ErrorClass::Connection { .. } => "ConnectionFailed",
            ErrorClass::Server { .. } => "ServiceError",
            ErrorClass::Unexpected { .. } => "UnexpectedAnswer",
        }
    }

    pub fn retry(&self) -> Retry {
        match self.class {
            ErrorClass::Throttled { retry_after } => {
                Retry::After(retry_after.unwrap_or(Duration::from_secs(15)))
            }
            ErrorClass::Validation { .. } => Retry::Terminal,
            ErrorClass::ConflictInProgress { .. }
            | ErrorClass::PreconditionFailed { .. }
            | ErrorClass::Timeout
            | ErrorClass::Connection { .. }
            | ErrorClass::Server { .. } => Retry::Fast,
            // Role assignments, credentials and services appear without a word to us.
            ErrorClass::NotFound
            | ErrorClass::Auth { .. }
            | ErrorClass::Forbidden { .. }
            | ErrorClass::ServiceMissing { .. }
            | ErrorClass::Unexpected { .. } => Retry::Slow,
        }
    }

    pub fn is_not_found(&self) -> bool {
        self.class == ErrorClass::NotFound
    }
}

impl From<AuthError> for ErrorClass {
    fn from(error: AuthError) -> Self {
        let message = error.to_string();
        if error.unanswered {
            Self::Connection { message }
        } else {
            Self::Auth { message }
        }
    }
}

/// Why a registration is not as it should be.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RegistrationError {
    #[error(transparent)]
    Arm(#[from] ArmError),
    /// Somebody else has what we need. Nothing was written.
    #[error("{resource} {problem}")]
    Conflict { resource: String, problem: String },
    /// The same, and a server of this cluster is about to give it up.
    #[error("{resource} {problem}")]
    Waiting { resource: String, problem: String },
    #[error("failed to register the server: {0}")]
    Invalid(#[from] InvalidRegistration),
}

impl RegistrationError {
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Arm(error) => error.reason(),
            Self::Conflict { .. } | Self::Waiting { .. } => "Conflict",
            Self::Invalid(_) => "InvalidRegistration",
        }
    }

    pub fn retry(&self) -> Retry {
        match self {
            Self::Arm(error) => error.retry(),
            // The other side may go away, and nobody tells us.
            Self::Conflict { .. } => Retry::Slow,
            Self::Waiting { .. } => Retry::Fast,
            Self::Invalid(_) => Retry::UntilChanged,
        }
    }
}

impl RegistrationError {
    /// What was sent is refused as it is; nothing is in the way of trying that time alone would take away.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::Arm(error) => matches!(error.class, ErrorClass::Validation { .. }),
            Self::Conflict { .. } | Self::Invalid(_) => true,
            Self::Waiting { .. } => false,
        }
    }

    /// The service, or its resource group, exists no more, and whatever was in it went with it. A subscription that is
    /// not found is another matter: an identity that lost its roles there is told the same.
    pub fn is_service_gone(&self) -> bool {
        matches!(
            self,
            Self::Arm(ArmError { class: ErrorClass::ServiceMissing { message }, .. })
                if !message.to_ascii_lowercase().contains("subscription")
        )
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorBody {
    error: Option<ErrorDetail>,
    /// The form in which API Management's own web layer refuses a verb.
    #[serde(rename = "Message")]
    plain: Option<String>,
}

/// ARM's error, as in an error body and in the status of a long operation.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ErrorDetail {
    code: Option<String>,
    message: Option<String>,
    target: Option<String>,
    details: Option<Vec<ErrorDetail>>,
}

impl ErrorDetail {
    /// The message and each detail with its target; the message alone often only says that there are details.
    fn readable(&self) -> String {
        let mut parts: Vec<String> = vec![];
        let details = self.details.as_deref().unwrap_or_default();
        for detail in details {
            let message = detail.message.as_deref().unwrap_or_default().trim();
            match detail.target.as_deref().filter(|target| !target.is_empty()) {
                Some(target) if !message.is_empty() => parts.push(format!("{target}: {message}")),
                _ if !message.is_empty() => parts.push(message.to_owned()),
                _ => {}
            }
        }
        let own = self
            .message
            .as_deref()
            .unwrap_or_default()
            .trim()
            .trim_end_matches(':');
        let text = match (own.is_empty(), parts.is_empty()) {
            (true, true) => self.code.clone().unwrap_or_else(|| "no message".to_owned()),
            (false, true) => own.to_owned(),
            (true, false) => parts.join("; "),
            (false, false) => format!("{own}: {}", parts.join("; ")),
        };
        shorten(&text)
    }

    fn any_target(&self) -> Option<String> {
        let details = self.details.as_deref().unwrap_or_default();
        details
            .iter()
            .find_map(|detail| detail.target.clone())
            .or_else(|| self.target.clone())
    }

    /// The class of a failed long operation, which has a code but no HTTP status.
    pub(crate) fn class_of_operation(&self) -> ErrorClass {
        let code = self.code.as_deref().unwrap_or_default();
        let message = self.readable();
        match code {
            _ if is_in_progress(code, &message) => ErrorClass::ConflictInProgress { message },
            "InternalServerError"
            | "InternalError"
            | "ServiceUnavailable"
            | "ManagementApiRequestFailed"
            | "" => ErrorClass::Server { status: 500, message },
            _ => ErrorClass::Validation {
                message,
                target: self.any_target(),
            },
        }
    }
}

/// Conditions and Events hold at most about a kilobyte of message.
fn shorten(text: &str) -> String {
    const LIMIT: usize = 800;
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() <= LIMIT {
        return text;
    }
    text.chars().take(LIMIT).chain(['…']).collect()
}

fn is_in_progress(code: &str, message: &str) -> bool {
    code == "PessimisticConcurrencyConflict"
        || code == "OperationInProgress"
        || (code == "Conflict" && message.to_ascii_lowercase().contains("in progress"))
}

/// Classifies an answer outside 2xx.
pub(crate) fn classify(status: u16, retry_after: Option<Duration>, body: &[u8]) -> ErrorClass {
    let parsed: ErrorBody = serde_json::from_slice(body).unwrap_or_default();
    let detail = parsed.error.unwrap_or_else(|| ErrorDetail {
        message: parsed.plain.or_else(|| plain_text(body)),
        ..ErrorDetail::default()
    });
    let code = detail.code.as_deref().unwrap_or_default();
    let message = detail.readable();
    match status {
        // Trouble in the service's own control plane; repeating helps (APIOps retries both).
        409 | 422 if code == "ManagementApiRequestFailed" => ErrorClass::Server { status, message },
        400 | 422 => ErrorClass::Validation {
            message,
            target: detail.any_target(),
        },
        401 => ErrorClass::Auth { message },
        403 => ErrorClass::Forbidden { message },
        404 if is_service_missing(code, &message) => ErrorClass::ServiceMissing { message },
        404 | 410 => ErrorClass::NotFound,
        408 => ErrorClass::Timeout,
        409 => ErrorClass::ConflictInProgress { message },
        412 => ErrorClass::PreconditionFailed { message },
        429 => ErrorClass::Throttled { retry_after },
        500..=599 => ErrorClass::Server { status, message },
        _ => ErrorClass::Unexpected {
            message: format!("status {status}: {message}"),
        },
    }
}

/// ARM itself answers for a missing parent, before API Management is asked: recorded as `ResourceNotFound` with
/// "The Resource 'Microsoft.ApiManagement/service/x' under resource group 'y' was not found".
fn is_service_missing(code: &str, message: &str) -> bool {
    matches!(
        code,
        "ResourceGroupNotFound" | "SubscriptionNotFound" | "InvalidSubscriptionId" | "ParentResourceNotFound"
    ) || message.starts_with("The Resource 'Microsoft.ApiManagement/service/")
}

fn plain_text(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?.trim();
    (!text.is_empty()).then(|| text.chars().take(200).collect())
}
