//! Between requests and the writer: records go in without waiting, batches come out. Bounded: what does not fit is counted.

use super::Record;
use crate::metrics::{AuditOutcome, Metrics};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A batch gathers for this long, so that a busy server wakes its writer 20 times a second and not for each call.
const GATHER: Duration = Duration::from_millis(50);

/// Records that wait.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// For the writer: something is there, much is there, or the end has come.
    filled: Condvar,
    /// For whoever closes: everything is written.
    ended: Condvar,
    room: usize,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Waiting {
    records: Vec<Record>,
    dropped: u64,
    closing: bool,
    ended: bool,
}

/// What the writer is given.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// Records that found no room since the last batch.
    pub(super) dropped: u64,
    /// This is the last batch.
    pub(super) last: bool,
}

impl Queue {
    pub(super) fn with_room(room: usize, metrics: Arc<Metrics>) -> Queue {
        Queue {
            waiting: Mutex::default(),
            filled: Condvar::new(),
            ended: Condvar::new(),
            room,
            metrics,
        }
    }

    /// Leave a record, or count it as dropped. The lock is held for a copy only: the writer swaps the whole queue out.
    pub(super) fn push(&self, record: Record) {
        let mut waiting = self.lock();
        if waiting.records.len() >= self.room || waiting.ended {
            waiting.dropped += 1;
            drop(waiting);
            self.metrics.audited(AuditOutcome::Dropped, 1);
            return;
        }
        waiting.records.push(record);
        let length = waiting.records.len();
        drop(waiting);
        if length == 1 || length == self.half() {
            self.filled.notify_one();
        }
    }

    /// Wait for records and swap them for the empty `records`, which keeps the memory of both.
    pub(super) fn take(&self, records: &mut Vec<Record>) -> Batch {
        let nothing =
            |waiting: &mut Waiting| waiting.records.is_empty() && waiting.dropped == 0 && !waiting.closing;
        let waiting = self
            .filled
            .wait_while(self.lock(), nothing)
            .unwrap_or_else(PoisonError::into_inner);
        let half = self.half();
        let few = |waiting: &mut Waiting| waiting.records.len() < half && !waiting.closing;
        let (mut waiting, _) = self
            .filled
            .wait_timeout_while(waiting, GATHER, few)
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut waiting.records, records);
        Batch {
            dropped: std::mem::take(&mut waiting.dropped),
            last: waiting.closing,
        }
    }

    /// The writer has written its last batch.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.ended.notify_all();
    }

    /// Ask the writer to end, and wait for it at most so long. Whether it did.
    pub(super) fn close(&self, time: Duration) -> bool {
        self.lock().closing = true;
        self.filled.notify_one();
        let (waiting, _) = self
            .ended
            .wait_timeout_while(self.lock(), time, |waiting| !waiting.ended)
            .unwrap_or_else(PoisonError::into_inner);
        waiting.ended
    }

    fn half(&self) -> usize {
        (self.room / 2).max(1)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
