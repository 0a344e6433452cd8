//! The thread that writes: batches of records go in, lines go to the sink. What is lost on the way is told in the next line.

use super::queue::Queue;
use super::{Record, Sink, line};
use crate::metrics::{AuditOutcome, Metrics};
use crate::vital;
use std::io::Write;
use std::sync::Arc;
use std::time::SystemTime;

/// No line is longer.
pub(super) const LONGEST_LINE: usize = 512;

struct Writer {
    sink: Sink,
    metrics: Arc<Metrics>,
    /// Lines that are not written yet; kept for its memory.
    text: Vec<u8>,
    /// Records that are missing from the audit and that it has not told of yet.
    lost: u64,
    /// The sink refused the last piece, so a line of it may be torn.
    refused: bool,
}

/// Start the thread. It ends when the queue is closed.
pub(super) fn start(sink: Sink, queue: Arc<Queue>, metrics: Arc<Metrics>) -> std::io::Result<()> {
    let mut writer = Writer {
        sink,
        metrics,
        text: Vec::new(),
        lost: 0,
        refused: false,
    };
    let run = move || {
        let _guard = vital::Guard::of("audit");
        line::opened(&mut writer.text, SystemTime::now());
        writer.hand_over(0);
        let mut records = Vec::new();
        loop {
            let batch = queue.take(&mut records);
            writer.lost += batch.dropped;
            writer.write(&records);
            records.clear();
            if batch.last {
                writer.finish();
                break;
            }
        }
        queue.end();
    };
    std::thread::Builder::new().name("audit".into()).spawn(run)?;
    Ok(())
}

impl Writer {
    fn write(&mut self, records: &[Record]) {
        let mut from = 0;
        for (at, record) in records.iter().enumerate() {
            line::call(&mut self.text, record);
            if self.text.len() + LONGEST_LINE > self.sink.piece {
                self.hand_over(at + 1 - from);
                from = at + 1;
            }
        }
        self.hand_over(records.len() - from);
    }

    fn finish(&mut self) {
        line::closed(&mut self.text, SystemTime::now(), self.metrics.calls_running());
        self.hand_over(0);
    }

    /// Give the lines of so many records to the sink, and before them what is missing.
    fn hand_over(&mut self, records: usize) {
        if self.text.is_empty() && self.lost == 0 {
            return;
        }
        let mut before = Vec::new();
        if self.refused {
            before.push(b'\n');
        }
        if self.lost > 0 {
            line::lost(&mut before, SystemTime::now(), self.lost);
        }
        let mut write = || {
            self.sink.to.write_all(&before)?;
            self.sink.to.write_all(&self.text)?;
            self.sink.to.flush()
        };
        let written: std::io::Result<()> = write();
        let count = u64::try_from(records).unwrap_or(u64::MAX);
        match written {
            Ok(()) => {
                self.metrics.audited(AuditOutcome::Written, count);
                self.lost = 0;
                self.refused = false;
            }
            Err(error) => {
                if !self.refused {
                    tracing::error!(%error, "failed to write the audit; what is missing is counted and told in it later");
                }
                self.metrics.audited(AuditOutcome::Failed, count);
                self.lost += count;
                self.refused = true;
            }
        }
        self.text.clear();
    }
}
