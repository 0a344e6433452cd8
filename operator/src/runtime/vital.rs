//! What the process cannot be without, such as a watch. In: a task; out: the same in the background, and the end of the
//! process if it panics, since a cache that nobody fills any more looks like a world that stands still. The panic of a
//! pass costs its object that pass (`runtime::controller`).

use std::future::Future;

/// Runs a task whose panic is the process's; Kubernetes starts another.
pub fn spawn(name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    let guard = Guard {
        name,
        end: || std::process::abort(),
    };
    tokio::spawn(async move {
        task.await;
        drop(guard);
    });
}

struct Guard {
    name: &'static str,
    end: fn(),
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                task = self.name,
                "a task that the operator cannot be without has panicked"
            );
            (self.end)();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

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
