//! What the process cannot be without: a task or thread goes in, and if it panics, the process ends, and is started again by whoever
//! watches it. Anywhere else a panic costs one call or one connection.

use tokio::task::JoinHandle;

/// Run a task whose panic is the process's.
pub(crate) fn spawn(name: &'static str, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    let guard = Guard::of(name);
    tokio::spawn(async move {
        task.await;
        drop(guard);
    })
}

/// Held while something vital runs.
#[derive(Debug)]
pub(crate) struct Guard {
    name: &'static str,
    end: fn(),
}

impl Guard {
    pub(crate) fn of(name: &'static str) -> Guard {
        let end = || std::process::abort();
        Guard { name, end }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                task = self.name,
                "a task that the server cannot be without has panicked"
            );
            (self.end)();
        }
    }
}

/// Panics go to the log, in its form.
pub(crate) fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("no text");
        tracing::error!(location, message, "a panic");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    static ENDS: AtomicUsize = AtomicUsize::new(0);

    fn guard() -> Guard {
        let end = || {
            ENDS.fetch_add(1, Ordering::SeqCst);
        };
        Guard { name: "test", end }
    }

    #[tokio::test]
    async fn only_a_panic_ends_the_process() {
        drop(guard());
        let cancelled = tokio::spawn(async {
            let _guard = guard();
            std::future::pending::<()>().await;
        });
        tokio::task::yield_now().await;
        cancelled.abort();
        assert!(cancelled.await.unwrap_err().is_cancelled());
        assert_eq!(ENDS.load(Ordering::SeqCst), 0);
        let panicked = tokio::spawn(async {
            let _guard = guard();
            panic!("as told");
        });
        assert!(panicked.await.unwrap_err().is_panic());
        assert_eq!(ENDS.load(Ordering::SeqCst), 1);
    }
}
