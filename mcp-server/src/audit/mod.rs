//! The audit: who called what, when, with what result. A finished call goes in, a line of JSON comes out, away from the request.
//!
//! A request only moves a record of fixed size into a queue in memory; a thread of its own turns records into lines and writes
//! them in batches. A queue that is full drops the record, counts it, and the audit itself tells how many are missing.

mod line;
mod origin;
mod queue;
mod writer;

pub use origin::{Caller, CallerHeader, Origin, SessionHash};

use crate::http::gateway_secret::GatewaySecret;
use crate::metrics::{Metrics, Outcome};
use crate::protocol::revision::Era;
use crate::tools::point::Point;
use crate::tools::state::State;
use crate::tools::{Tool, Work};
use http::HeaderMap;
use queue::Queue;
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Records that wait to be written; at 40,000 calls a second that is a fifth of a second.
const WAITING: usize = 8192;

/// Where the audit goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Nowhere.
    Off,
    /// The stream that the log is on too.
    Stdout,
    /// The other stream.
    Stderr,
    /// Appended to a file.
    File(PathBuf),
}

impl Target {
    /// From AUDIT_LOG. A path has a slash in it, so that a misspelt word is not taken for a file.
    pub fn parse(text: &str) -> Result<Target, String> {
        match text {
            "off" => Ok(Target::Off),
            "stdout" => Ok(Target::Stdout),
            "stderr" => Ok(Target::Stderr),
            path if path.contains('/') => Ok(Target::File(path.into())),
            _ => Err("must be off, stdout, stderr or a path with a slash in it".to_owned()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Off => out.write_str("off"),
            Target::Stdout => out.write_str("stdout"),
            Target::Stderr => out.write_str("stderr"),
            Target::File(path) => path.display().fmt(out),
        }
    }
}

/// Why there is no audit.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// AUDIT_LOG names a file that cannot be appended to.
    #[error("failed to open the audit log {} (AUDIT_LOG) for appending", path.display())]
    Open {
        /// AUDIT_LOG
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The process has no such stream.
    #[error("failed to write the audit to {0} (AUDIT_LOG)")]
    Stream(Target, #[source] std::io::Error),
    /// No thread to be had.
    #[error("failed to start the thread that writes the audit")]
    Thread(#[source] std::io::Error),
}

/// Where lines go, and how many bytes of them at once.
struct Sink {
    to: Box<dyn Write + Send>,
    piece: usize,
}

/// A write of at most this many bytes to a pipe is not mixed with those of others (POSIX, write; Linux, PIPE_BUF).
const UNMIXED: usize = 4096;

impl Sink {
    /// A stream that the log is written to as well, by its descriptor: the log must never wait for a lock that we hold while
    /// somebody reads slowly.
    fn stream(target: &Target, stream: BorrowedFd<'_>) -> Result<Sink, AuditError> {
        let own = stream.try_clone_to_owned();
        let file = File::from(own.map_err(|source| AuditError::Stream(target.clone(), source))?);
        Ok(Sink {
            to: Box::new(file),
            piece: UNMIXED,
        })
    }

    fn file(path: &Path) -> Result<Sink, AuditError> {
        let file = File::options().create(true).append(true).open(path);
        let file = file.map_err(|source| AuditError::Open {
            path: path.to_owned(),
            source,
        })?;
        Ok(Sink {
            to: Box::new(file),
            piece: 64 << 10,
        })
    }
}

/// What a line shows of a call's arguments. This is the rule that masks them: a state as it is, coordinates to one decimal
/// (about 11 km), and nothing of what a caller wrote otherwise, since that may be anything.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shown {
    /// A state or territory.
    State(State),
    /// Roughly there.
    Near(Point),
    /// Arguments that do not fit, or those of a tool that does not exist.
    Nothing,
}

impl From<&Work> for Shown {
    fn from(work: &Work) -> Shown {
        match work {
            Work::Alerts(state) | Work::ReadAlerts(state, _) => Shown::State(*state),
            Work::Forecast(point) => Shown::Near(*point),
            Work::BadArguments(..) | Work::UnknownTool(_) => Shown::Nothing,
        }
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It was answered.
    Answered(Outcome),
    /// It was not begun, because of this limit.
    Limited(&'static str),
    /// Its caller went away before the answer.
    Cancelled,
}

/// One call. Of fixed size and without anything on the heap, so that passing it on costs a copy.
#[derive(Debug, Clone)]
struct Record {
    at: SystemTime,
    took: Duration,
    tool: Tool,
    era: Era,
    shown: Shown,
    ending: Ending,
    origin: Origin,
}

/// The audit of a server.
#[derive(Debug)]
pub struct Audit {
    queue: Option<Arc<Queue>>,
    caller_header: CallerHeader,
}

impl Audit {
    /// Open what `target` names, and start writing. Outside of a runtime, where only settings are checked, nothing is started.
    pub fn open(
        target: &Target,
        caller_header: CallerHeader,
        metrics: &Arc<Metrics>,
    ) -> Result<Audit, AuditError> {
        let sink = match target {
            Target::Off => None,
            Target::Stdout => Some(Sink::stream(target, std::io::stdout().as_fd())?),
            Target::Stderr => Some(Sink::stream(target, std::io::stderr().as_fd())?),
            Target::File(path) => Some(Sink::file(path)?),
        };
        match sink {
            Some(sink) if tokio::runtime::Handle::try_current().is_ok() => {
                Audit::write_to(sink, WAITING, caller_header, metrics)
            }
            _ => Ok(Audit {
                queue: None,
                caller_header,
            }),
        }
    }

    /// Write to `sink`, with room for `waiting` records before it.
    fn write_to(
        sink: Sink,
        waiting: usize,
        caller_header: CallerHeader,
        metrics: &Arc<Metrics>,
    ) -> Result<Audit, AuditError> {
        let queue = Arc::new(Queue::with_room(waiting, Arc::clone(metrics)));
        writer::start(sink, Arc::clone(&queue), Arc::clone(metrics)).map_err(AuditError::Thread)?;
        Ok(Audit {
            queue: Some(queue),
            caller_header,
        })
    }

    /// Whether anything is written.
    pub fn is_on(&self) -> bool {
        self.queue.is_some()
    }

    /// Who calls, as far as the headers tell, and on which session. With the gateway's `secret` it shows whether the gateway said so.
    pub fn origin(
        &self,
        headers: &HeaderMap,
        session: Option<&str>,
        secret: Option<&GatewaySecret>,
    ) -> Origin {
        Origin {
            caller: self.caller_header.read(headers, secret),
            session: session.map(SessionHash::of),
        }
    }

    /// A call begins. It is recorded when it is finished, or as cancelled when the entry is dropped before.
    pub fn begin(&self, origin: Origin, era: Era, work: &Work, started: Instant) -> Entry<'_> {
        Entry(self.queue.as_deref().map(|queue| Open {
            queue,
            started,
            record: Record {
                at: SystemTime::now(),
                took: Duration::ZERO,
                tool: work.tool(),
                era,
                shown: work.into(),
                ending: Ending::Cancelled,
                origin,
            },
        }))
    }

    /// A call that is not begun, because of `limit`.
    pub fn limited(&self, origin: Origin, era: Era, work: &Work, limit: &'static str) {
        self.begin(origin, era, work, Instant::now())
            .finish(Ending::Limited(limit));
    }

    /// Write what waits and end, within `time`. Whether that worked.
    pub fn close(&self, time: Duration) -> bool {
        self.queue.as_ref().is_none_or(|queue| queue.close(time))
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        // The thread ends by itself; nobody waits for it.
        self.close(Duration::ZERO);
    }
}

/// A call that is under way.
#[derive(Debug)]
pub struct Entry<'a>(Option<Open<'a>>);

#[derive(Debug)]
struct Open<'a> {
    queue: &'a Queue,
    started: Instant,
    record: Record,
}

impl Entry<'_> {
    /// The call ended.
    pub fn finish(mut self, ending: Ending) {
        if let Some(open) = &mut self.0 {
            open.record.ending = ending;
        }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if let Some(Open {
            queue,
            started,
            mut record,
        }) = self.0.take()
        {
            record.took = started.elapsed();
            queue.push(record);
        }
    }
}

#[cfg(test)]
mod tests;
