//! What is remembered of a registration between looks, so that a look without news asks little. In: what was found;
//! out: what is due. Lost on restart, which costs reads and never a write.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use mcp_fleet_crds::LastWrite;

use crate::azure::apim::PendingOperation;

/// How long the gateway may take to know a key.
const KEY_ARRIVES: Duration = Duration::from_mins(1);

/// About one server's registration.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pub registered: Option<Checked>,
    /// The service has answered in this process. Before that, what status says is the best knowledge there is.
    pub asked: bool,
    /// Drift checks look at other resources in each round.
    pub round: u64,
    pub progress: Option<PendingOperation>,
    /// The gateway refused the probe's key: it is written again.
    pub repair: bool,
    /// What was written to the gateway and is not in status yet.
    pub untold: Option<LastWrite>,
}

impl Memory {
    /// The gateway refused the probe's key. One that was written a moment ago may not have arrived: writing it again
    /// would not speed that up.
    pub fn refuse_key(&mut self, now: Instant) {
        let arriving = self
            .registered
            .is_some_and(|checked| now.saturating_duration_since(checked.at) < KEY_ARRIVES);
        self.repair = !arriving;
    }
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
    fn a_look_holds_for_a_while_and_for_the_same_thing() {
        let start = Instant::now();
        let (minute, drift) = (Duration::from_mins(1), Duration::from_mins(10));
        let checked = Checked::new(1, start);
        assert!(checked.holds(1, start + minute, drift));
        assert!(!checked.holds(2, start + minute, drift));
        assert!(!checked.holds(1, start + 10 * minute, drift));
    }
}
