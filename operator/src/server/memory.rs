//! What a controller remembers of each server between passes, so that a pass without news asks nobody. In: what was
//! found; out: what is due. Lost on restart, which costs reads and never a write.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use mcp_fleet_crds::LastWrite;

use crate::azure::apim::PendingOperation;
use crate::runtime::context::Key;

/// About one server.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Another uid is another object: all this is void.
    pub uid: String,
    pub registered: Option<Checked>,
    /// The service has answered in this process. Before that, what status says is the best knowledge there is.
    pub asked: bool,
    /// Drift checks look at other resources in each round.
    pub round: u64,
    pub progress: Option<PendingOperation>,
    /// The gateway refused the probe's key: it is written again.
    pub repair: bool,
    pub verified: Option<Checked>,
    /// What was written to the gateway and is not in status yet.
    pub untold: Option<LastWrite>,
    /// Since when there is something to tell that will pass.
    pub passing: Option<Instant>,
    /// Passes in a row whose status was held back.
    pub held: u32,
}

/// Something that was found to be so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Of what it depends on.
    pub fingerprint: u64,
    pub at: Instant,
}

impl Checked {
    pub fn new(fingerprint: u64, at: Instant) -> Self {
        Self { fingerprint, at }
    }

    /// Whether it needs no second look.
    pub fn holds(&self, fingerprint: u64, now: Instant, drift: Duration) -> bool {
        self.fingerprint == fingerprint && now.saturating_duration_since(self.at) < drift
    }
}

/// About all servers.
#[derive(Debug, Default)]
pub struct Memories {
    servers: Mutex<HashMap<Key, Memory>>,
}

impl Memories {
    /// What is remembered of an object with this uid.
    pub fn recall(&self, key: &Key, uid: &str) -> Memory {
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers
            .get(key)
            .filter(|memory| memory.uid == uid)
            .cloned()
            .unwrap_or_else(|| Memory {
                uid: uid.to_owned(),
                ..Memory::default()
            })
    }

    pub fn keep(&self, key: Key, memory: Memory) {
        self.servers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, memory);
    }

    pub fn forget(&self, key: &Key) {
        self.servers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
    }
}

/// A number that differs when the text form of a value differs. Only ever compared within one process.
pub fn fingerprint(value: &impl std::fmt::Debug) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{value:?}").hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_object_of_the_same_name_is_not_remembered() {
        let memories = Memories::default();
        let key: Key = (Some("tools".to_owned()), "weather".to_owned());
        memories.keep(
            key.clone(),
            Memory {
                round: 3,
                ..memories.recall(&key, "u1")
            },
        );
        assert_eq!(memories.recall(&key, "u1").round, 3);
        assert_eq!(memories.recall(&key, "u2").round, 0);
        memories.forget(&key);
        assert_eq!(memories.recall(&key, "u1").round, 0);
    }

    #[test]
    fn a_look_holds_for_a_while_and_for_the_same_thing() {
        let start = Instant::now();
        let (minute, drift) = (Duration::from_mins(1), Duration::from_mins(10));
        let checked = Checked::new(1, start);
        assert!(checked.holds(1, start + minute, drift));
        assert!(!checked.holds(2, start + minute, drift));
        assert!(!checked.holds(1, start + 10 * minute, drift));
    }
}
