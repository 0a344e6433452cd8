//! What waits for readers, in bytes: an event, or a long answer, goes in and comes out as the same bytes, counted for as long as
//! anyone holds them, or not at all, when its reader or all readers together leave too much unread.
//!
//! The count travels with the bytes, so it is right however they end: written, dropped with their stream, or never sent.

use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of one stream, from which on it is given no further event. The event before may be of any size: the answer with all
/// alerts of a state has hundreds of kilobytes, and a client may well ask for two at once.
pub const OF_A_STREAM: usize = 1 << 20;
/// Bytes of all streams and answers. With this a server that nobody reads from stays within the 128 MiB that the docs promise.
pub const OF_ALL: usize = 16 << 20;
/// An answer of fewer bytes is not counted: the system's buffer of its connection takes it at once.
const SHORT: usize = 8 << 10;

/// The bytes that wait on one stream.
#[derive(Debug)]
pub struct Waiting {
    of_stream: Arc<AtomicUsize>,
    of_all: Arc<AtomicUsize>,
}

impl Waiting {
    /// For a new stream among all those that count in `of_all`.
    pub fn begin(of_all: &Arc<AtomicUsize>) -> Waiting {
        Waiting {
            of_stream: Arc::default(),
            of_all: Arc::clone(of_all),
        }
    }

    /// Count an event, or `None` when there is no room for it.
    pub fn count(&self, event: Bytes) -> Option<Bytes> {
        let size = event.len();
        let before = add(&self.of_stream, size, |waiting| waiting < OF_A_STREAM)?;
        // Readers that already lag share one half, so that they do not take the room from those that keep up.
        let room = if before == 0 { OF_ALL } else { OF_ALL / 2 };
        if add(&self.of_all, size, |waiting| waiting + size <= room).is_none() {
            self.of_stream.fetch_sub(size, Ordering::AcqRel);
            return None;
        }
        Some(Bytes::from_owner(Counted {
            event,
            of_stream: Arc::clone(&self.of_stream),
            of_all: Arc::clone(&self.of_all),
        }))
    }
}

/// Count the answer to a request, which is on no stream, or `None` when there is no room for it.
pub fn count_answer(of_all: &Arc<AtomicUsize>, answer: Bytes) -> Option<Bytes> {
    if answer.len() < SHORT {
        return Some(answer);
    }
    Waiting::begin(of_all).count(answer)
}

/// What was there before, if there was room.
fn add(counter: &AtomicUsize, size: usize, has_room: impl Fn(usize) -> bool) -> Option<usize> {
    let added = counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, |waiting| {
        has_room(waiting).then_some(waiting + size)
    });
    added.ok()
}

/// An event that counts until it is dropped. It holds the counters and not the stream, whose sender it would keep open.
struct Counted {
    event: Bytes,
    of_stream: Arc<AtomicUsize>,
    of_all: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.event
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.of_stream.fetch_sub(self.event.len(), Ordering::AcqRel);
        self.of_all.fetch_sub(self.event.len(), Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(size: usize) -> Bytes {
        vec![b'x'; size].into()
    }

    fn bytes(counter: &AtomicUsize) -> usize {
        counter.load(Ordering::Acquire)
    }

    #[test]
    fn an_event_counts_until_its_last_copy_is_gone() {
        let all = Arc::default();
        let waiting = Waiting::begin(&all);
        let counted = waiting.count(event(100)).unwrap();
        assert_eq!(counted, event(100));
        let part = counted.slice(90..);
        drop(counted);
        assert_eq!((bytes(&waiting.of_stream), bytes(&all)), (100, 100));
        drop(part);
        assert_eq!((bytes(&waiting.of_stream), bytes(&all)), (0, 0));
    }

    #[test]
    fn one_event_of_any_size_and_then_no_more() {
        let all = Arc::default();
        let waiting = Waiting::begin(&all);
        let large = waiting.count(event(3 * OF_A_STREAM)).unwrap();
        assert!(waiting.count(event(1)).is_none());
        assert_eq!(bytes(&all), 3 * OF_A_STREAM, "what was refused does not count");
        drop(large);
        let _half = waiting.count(event(OF_A_STREAM / 2)).unwrap();
        assert!(waiting.count(event(OF_A_STREAM)).is_some());
    }

    #[test]
    fn those_that_lag_leave_room_for_those_that_keep_up() {
        let all = Arc::default();
        let waiting: Vec<_> = (0..100).map(|_| Waiting::begin(&all)).collect();
        let half = OF_A_STREAM / 2;
        let first: Vec<_> = waiting.iter().map_while(|one| one.count(event(half))).collect();
        assert_eq!(bytes(&all), OF_ALL, "each has one event, until all is used up");
        drop(first);
        let (mut held, mut cut_off) = (Vec::new(), 0);
        for one in &waiting[..20] {
            for _ in 0..2 {
                match one.count(event(half)) {
                    Some(event) => held.push(event),
                    None => cut_off += 1,
                }
            }
        }
        assert!(cut_off > 0);
        let quick = Waiting::begin(&all).count(event(half));
        assert!(quick.is_some(), "a reader with nothing unread has its event");
        drop((held, quick));
        assert_eq!(bytes(&all), 0);
        assert!(waiting.iter().all(|one| bytes(&one.of_stream) == 0));
    }
}
