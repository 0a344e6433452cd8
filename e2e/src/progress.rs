//! Progress: one line for a person when a step starts and when it ends, with the seconds since the beginning.
//!
//! In: what is being done. Out: lines on standard error (or, in the keeper, on the pipe to its parent).

use std::fmt::{self, Display};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A step that takes longer says so at this interval, so that silence always means a fault.
const HEARTBEAT: Duration = Duration::from_secs(30);

type Sink = dyn Fn(&str) + Send + Sync;

/// Where progress goes. Clones share the clock and the sink.
#[derive(Clone)]
pub struct Progress {
    started: Instant,
    sink: Arc<Sink>,
}

impl fmt::Debug for Progress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Progress").finish_non_exhaustive()
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// Lines on standard error, each with the seconds since now: `[ 12s] building kubernetes …`.
    pub fn new() -> Self {
        let started = Instant::now();
        Self {
            started,
            sink: Arc::new(move |text| eprintln!("[{:>4}s] {text}", started.elapsed().as_secs())),
        }
    }

    /// Lines without a clock, handed to `sink`: for a process whose parent adds the clock.
    pub fn to(sink: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self {
            started: Instant::now(),
            sink: Arc::new(sink),
        }
    }

    /// One line.
    pub fn say(&self, text: impl Display) {
        (self.sink)(&text.to_string());
    }

    /// Seconds since this progress began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Says that a step begins. The answer's [`Step::done`] says how long it took; dropping it instead says that it did not finish.
    pub fn start(&self, what: impl Display) -> Step {
        let what = what.to_string();
        self.say(format_args!("{what} …"));
        let started = Instant::now();
        let heartbeat = tokio::runtime::Handle::try_current().ok().map(|runtime| {
            let (progress, what) = (self.clone(), what.clone());
            runtime
                .spawn(async move {
                    loop {
                        tokio::time::sleep(HEARTBEAT).await;
                        progress.say(format_args!("still {what}, {} s", started.elapsed().as_secs()));
                    }
                })
                .abort_handle()
        });
        Step {
            progress: self.clone(),
            what,
            started,
            heartbeat,
            finished: false,
        }
    }
}

/// A step under way.
#[must_use = "a step ends when it is dropped"]
#[derive(Debug)]
pub struct Step {
    progress: Progress,
    what: String,
    started: Instant,
    heartbeat: Option<tokio::task::AbortHandle>,
    finished: bool,
}

impl Step {
    /// Says how long the step took.
    pub fn done(mut self) -> Duration {
        self.finished = true;
        let took = self.started.elapsed();
        self.progress
            .say(format_args!("{}: {:.1} s", self.what, took.as_secs_f64()));
        took
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(heartbeat) = &self.heartbeat {
            heartbeat.abort();
        }
        if !self.finished {
            let seconds = self.started.elapsed().as_secs_f64();
            self.progress
                .say(format_args!("{}: not finished after {seconds:.1} s", self.what));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Progress;
    use std::sync::{Arc, Mutex};

    #[test]
    fn a_step_says_when_it_ends_and_when_it_does_not() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = lines.clone();
        let progress = Progress::to(move |line| sink.lock().unwrap().push(line.to_owned()));
        progress.start("baking").done();
        drop(progress.start("frying"));
        let lines = lines.lock().unwrap();
        assert_eq!(lines[0], "baking …");
        assert!(lines[1].starts_with("baking: 0."), "{}", lines[1]);
        assert!(lines[3].starts_with("frying: not finished after"), "{}", lines[3]);
    }
}
