//! Every write to Kubernetes goes through here. In: what should be; out: what is, after at most one request.
//!
//! Nothing is written that is already so, nothing is written without the lease, and nothing is adopted that is not
//! ours.

mod child;
mod claim;
mod owned;
mod status;

pub use child::{Ownership, apply_child, create_once, delete_child, is_of_children, is_ours};
pub use claim::{release, set_claim};
pub use status::apply_status;

use std::future::Future;
use std::time::Duration;

use kube::Client;

use crate::condition::reasons;
use crate::runtime::backoff::Retry;
use crate::runtime::lease::Lease;
use crate::runtime::metrics::Metrics;

/// The longest a single request to the API server may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(15);

/// A write to Kubernetes, or the read before it, failed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error(
        "{kind} {namespace}/{name} exists and is not ours: it has no owner reference to this object and not its \
         labels. Rename or delete it"
    )]
    NotOwned {
        kind: String,
        namespace: String,
        name: String,
    },
    #[error("failed to {verb} {kind} {name}: {}", cause(source))]
    Api {
        verb: &'static str,
        kind: String,
        name: String,
        source: Box<kube::Error>,
    },
    #[error("failed to {verb} {kind} {name}: no answer from the API server within {} s", REQUEST_LIMIT.as_secs())]
    Timeout {
        verb: &'static str,
        kind: String,
        name: String,
    },
    #[error("did not {verb} {kind} {name}: this process does not hold the lease")]
    NoLease {
        verb: &'static str,
        kind: String,
        name: String,
    },
    #[error("failed to write {kind} {name} as JSON: {source}")]
    Json {
        kind: String,
        name: String,
        source: serde_json::Error,
    },
}

/// What the API server said, without the rest of its answer.
fn cause(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => other.to_string(),
    }
}

impl WriteError {
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotOwned { .. } => reasons::CHILD_NOT_OWNED,
            Self::Timeout { .. } => reasons::TIMEOUT,
            Self::Api { source, .. } if is_terminating(source) => reasons::NAMESPACE_TERMINATING,
            Self::Api { .. } | Self::NoLease { .. } | Self::Json { .. } => reasons::KUBERNETES_ERROR,
        }
    }

    pub fn retry(&self) -> Retry {
        match self {
            Self::NotOwned { .. } => Retry::Slow,
            Self::Api { source, .. } => match &**source {
                // The API server judged the object: it will judge the same object the same way, until somebody
                // changes a quota, a policy or the spec.
                kube::Error::Api(status) if matches!(status.code, 400 | 403 | 422) => Retry::Slow,
                _ => Retry::Fast,
            },
            Self::Timeout { .. } | Self::NoLease { .. } => Retry::Fast,
            Self::Json { .. } => Retry::UntilChanged,
        }
    }

    /// The status code of the API server's answer.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Api { source, .. } => match &**source {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Whether a write was refused because its namespace is going away.
pub fn is_terminating(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403 && status.message.contains("being terminated"))
}

/// What every write needs.
#[derive(Clone)]
pub struct Writer {
    pub client: Client,
    pub lease: Lease,
    pub metrics: Metrics,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Writer")
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

impl Writer {
    /// Refuses when this process does not hold the lease; for writes that do not go through here.
    pub fn check_lease(&self, verb: &'static str, kind: &str, name: &str) -> Result<(), WriteError> {
        if self.lease.is_held() {
            return Ok(());
        }
        Err(WriteError::NoLease {
            verb,
            kind: kind.to_owned(),
            name: name.to_owned(),
        })
    }

    /// Sends one write: with the lease, within the limit, counted.
    pub(crate) async fn write<T>(
        &self,
        verb: &'static str,
        kind: &str,
        name: &str,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, WriteError> {
        self.check_lease(verb, kind, name)?;
        self.metrics.kubernetes_write(kind, verb);
        limited(verb, kind, name, request).await
    }
}

/// Sends one request within the limit.
pub async fn limited<T>(
    verb: &'static str,
    kind: &str,
    name: &str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, WriteError> {
    match tokio::time::timeout(REQUEST_LIMIT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(WriteError::Api {
            verb,
            kind: kind.to_owned(),
            name: name.to_owned(),
            source: Box::new(source),
        }),
        Err(_) => Err(WriteError::Timeout {
            verb,
            kind: kind.to_owned(),
            name: name.to_owned(),
        }),
    }
}
