//! Whether the weather service can be reached: its answers go in, and out comes how long there has been none.
//!
//! Calls notice by the way. A replica that is not ready gets no calls, so when readiness depends on it, a task asks too.

use super::client::Nws;
use http::StatusCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Pauses between questions at least and at most.
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(30);

/// When the service last answered. Begins with the process, which has heard nothing bad yet.
#[derive(Debug)]
pub struct Contact {
    start: Instant,
    /// Milliseconds after `start`.
    heard: AtomicU64,
}

impl Default for Contact {
    fn default() -> Contact {
        Contact {
            start: Instant::now(),
            heard: AtomicU64::new(0),
        }
    }
}

impl Contact {
    /// The service answered. Errors of its own do not count: what answers 502 may be a proxy in front of nothing.
    pub fn heard(&self, status: StatusCode) {
        if !status.is_server_error() {
            let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.heard.fetch_max(now, Ordering::AcqRel);
        }
    }

    /// For how long there has been no answer.
    pub fn silence(&self) -> Duration {
        let heard = Duration::from_millis(self.heard.load(Ordering::Acquire));
        self.start.elapsed().saturating_sub(heard)
    }
}

/// Readiness by the weather service, if it is to depend on it.
#[derive(Debug, Clone)]
pub struct Reach {
    nws: Nws,
    limit: Option<Duration>,
}

impl Reach {
    /// Silence beyond `limit` is too long; a limit of zero is none.
    pub fn with_limit(nws: Nws, limit: Duration) -> Reach {
        Reach {
            nws,
            limit: (!limit.is_zero()).then_some(limit),
        }
    }

    /// How long there has been no answer, when that is beyond the limit.
    pub fn lost_for(&self) -> Option<Duration> {
        let silence = self.nws.contact().silence();
        self.limit.filter(|limit| silence > *limit).map(|_| silence)
    }

    /// Ask for ever, three times within the limit, unless calls have done so. Ends at once when there is no limit.
    pub async fn watch(self) {
        let Some(limit) = self.limit else { return };
        let pause = (limit / 3).clamp(SHORTEST, LONGEST);
        loop {
            let silence = self.nws.contact().silence();
            if silence >= pause {
                self.nws.knock(pause).await;
                tokio::time::sleep(pause).await;
            } else {
                tokio::time::sleep(pause.saturating_sub(silence)).await;
            }
        }
    }
}

/// Shared by every clone of a client.
pub(super) type SharedContact = Arc<Contact>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_of_the_service_ends_a_silence() {
        let contact = Contact {
            start: Instant::now().checked_sub(Duration::from_mins(1)).unwrap(),
            heard: AtomicU64::new(0),
        };
        assert!(contact.silence() >= Duration::from_mins(1));
        contact.heard(StatusCode::BAD_GATEWAY);
        assert!(contact.silence() >= Duration::from_mins(1));
        contact.heard(StatusCode::NOT_FOUND);
        assert!(
            contact.silence() < Duration::from_secs(30),
            "{:?}",
            contact.silence()
        );
    }
}
