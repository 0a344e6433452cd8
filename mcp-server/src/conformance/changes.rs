//! Changes that subscribers are told: one goes in, every open `subscriptions/listen` that asked for its kind gets it.

use tokio::sync::broadcast;

/// Changes that a slow subscriber may be behind; it then misses the oldest, and the newest tells it the same.
const BACKLOG: usize = 16;

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// The list of tools.
    Tools,
    /// The list of prompts.
    Prompts,
}

/// The place where changes are announced.
#[derive(Debug)]
pub(super) struct Changes(broadcast::Sender<Change>);

impl Default for Changes {
    fn default() -> Changes {
        Changes(broadcast::channel(BACKLOG).0)
    }
}

impl Changes {
    /// Tell everyone who listens, which may be nobody.
    pub(super) fn announce(&self, change: Change) {
        let _ = self.0.send(change);
    }

    /// Changes from now on.
    pub(super) fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.0.subscribe()
    }
}
