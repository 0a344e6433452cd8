//! Waiting for a condition, with a limit and an error that says what did not come.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const POLL: Duration = Duration::from_millis(50);

/// Asks until the answer is `Some`, an error that will not go away, or the limit is over.
pub(crate) async fn wait_until<T>(
    limit: Duration,
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = ask()
            .await
            .with_context(|| format!("failed to wait for {what}"))?
        {
            return Ok(answer);
        }
        if Instant::now() > end {
            bail!("failed to see {what} within {} s", limit.as_secs());
        }
        tokio::time::sleep(POLL).await;
    }
}
