//! Waiting where a person watches: says what is awaited and, now and then, how far it is.
//!
//! In: a question asked again and again, whose answer is done or a word on how far. Out: its result, or an error with the
//! last word when the limit is over.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::progress::Progress;

const POLL: Duration = Duration::from_millis(250);
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// How far the awaited thing is.
#[derive(Debug)]
pub enum Awaited<T> {
    Done(T),
    /// Not yet, and why.
    Not(String),
}

/// Asks until done or the limit is over. A change of the answer is said at once, an unchanged one now and then.
pub async fn wait_for<T>(
    progress: &Progress,
    what: &str,
    limit: Duration,
    mut ask: impl AsyncFnMut() -> Result<Awaited<T>>,
) -> Result<T> {
    let started = Instant::now();
    let (mut last, mut said) = (String::new(), Instant::now());
    loop {
        match ask()
            .await
            .with_context(|| format!("failed to wait for {what}"))?
        {
            Awaited::Done(answer) => return Ok(answer),
            Awaited::Not(word) => {
                if word != last || said.elapsed() > SAY_AGAIN {
                    progress.say(format_args!("  {what}: {word}"));
                    (last, said) = (word, Instant::now());
                }
            }
        }
        if started.elapsed() > limit {
            bail!(
                "failed to see {what} within {} s; at the end: {last}",
                limit.as_secs()
            );
        }
        tokio::time::sleep(POLL).await;
    }
}
