//! Memory for the bodies of all requests: bytes are asked for as they come, and counted until the body is dropped.
//!
//! By what has come, not by what was announced: else a few headers without a body would use it up.

use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of all bodies. MAX_CONNECTIONS bodies of MAX_BODY_BYTES would be more than 1 GiB; this is some 15,000 usual ones.
pub const ROOM: usize = 8 << 20;

/// The bodies of all ports.
#[derive(Debug, Clone)]
pub struct Bodies {
    room: usize,
    held: Arc<AtomicUsize>,
}

impl Bodies {
    /// With room for so many bytes.
    pub fn with_room(room: usize) -> Bodies {
        Bodies {
            room,
            held: Arc::default(),
        }
    }

    /// Bytes that are held now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }

    /// A body of which nothing has come.
    pub(super) fn begin(&self) -> Growing {
        Growing {
            read: Vec::new(),
            counted: 0,
            bodies: self.clone(),
        }
    }
}

/// A body that is being read.
#[derive(Debug)]
pub(super) struct Growing {
    read: Vec<u8>,
    counted: usize,
    bodies: Bodies,
}

impl Growing {
    /// Add what has come; false when there is no room for it. The bytes are copied, since each piece would hold on to the buffer
    /// of its connection, and a body in pieces of one byte to many of them.
    pub(super) fn push(&mut self, data: &[u8]) -> bool {
        let needed = self.read.len() + data.len();
        if needed > self.counted {
            // In steps, so that small pieces do not move the body each time.
            let wanted = needed.max(2 * self.counted);
            let more = wanted - self.counted;
            let added = self
                .bodies
                .held
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |held| {
                    held.checked_add(more).filter(|held| *held <= self.bodies.room)
                });
            if added.is_err() {
                return false;
            }
            self.counted = wanted;
            self.read.reserve_exact(wanted - self.read.len());
        }
        self.read.extend_from_slice(data);
        true
    }

    /// The whole body. It counts until its last copy is dropped, so also while a call runs that it asked for.
    pub(super) fn finish(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Growing {
    fn as_ref(&self) -> &[u8] {
        &self.read
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        self.bodies.held.fetch_sub(self.counted, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_count_until_they_are_dropped() {
        let bodies = Bodies::with_room(100);
        let (mut first, mut second) = (bodies.begin(), bodies.begin());
        assert!(first.push(&[b'x'; 60]));
        assert!(!second.push(&[b'y'; 41]));
        assert!(second.push(&[b'y'; 40]));
        assert_eq!(bodies.held(), 100);
        assert!(!first.push(b"x"));
        drop(second);
        assert_eq!(bodies.held(), 60);
        let whole = first.finish();
        assert_eq!(whole, [b'x'; 60].as_slice());
        let part = whole.slice(..1);
        drop(whole);
        assert_eq!(bodies.held(), 60);
        drop(part);
        assert_eq!(bodies.held(), 0);
    }

    #[test]
    fn pieces_become_one_body_and_no_memory_is_uncounted() {
        let bodies = Bodies::with_room(10_000);
        let mut body = bodies.begin();
        for byte in 0..200 {
            assert!(body.push(&[byte]));
            assert!(body.read.capacity() <= bodies.held());
        }
        assert_eq!(body.finish(), (0..200).collect::<Vec<u8>>());
    }
}
