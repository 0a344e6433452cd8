//! Tools that say something while they run: a call goes in, notifications and a result come out on its stream.

#![expect(deprecated, reason = "the suite tests logging, which SEP-2577 deprecates")]

use super::{Call, said};
use rmcp::ErrorData;
use rmcp::model::{CallToolResult, LoggingLevel, LoggingMessageNotificationParam, ProgressNotificationParam};
use rmcp::service::ServiceError;
use std::time::Duration;
use tokio::time::sleep;

/// Between two notifications, so that a client sees them one by one.
const PAUSE: Duration = Duration::from_millis(50);
/// Longer than the stream of the call lives (see `endpoint`), so that the answer has to be fetched.
const LATE: Duration = Duration::from_millis(300);

pub(super) async fn logging(call: &Call<'_>) -> Result<CallToolResult, ErrorData> {
    for (index, text) in [
        "Tool execution started",
        "Tool processing data",
        "Tool execution completed",
    ]
    .into_iter()
    .enumerate()
    {
        if index > 0 {
            sleep(PAUSE).await;
        }
        if call.fixture.logs_to(call.context) {
            let message = LoggingMessageNotificationParam::new(LoggingLevel::Info, text.into());
            told(call.context.peer.notify_logging_message(message).await)?;
        }
    }
    Ok(said("Three steps were logged."))
}

pub(super) async fn progress(call: &Call<'_>) -> Result<CallToolResult, ErrorData> {
    for (index, done) in [0.0, 50.0, 100.0].into_iter().enumerate() {
        if index > 0 {
            sleep(PAUSE).await;
        }
        if let Some(token) = call.context.meta.get_progress_token() {
            let progress = ProgressNotificationParam::new(token, done).with_total(100.0);
            told(call.context.peer.notify_progress(progress).await)?;
        }
    }
    Ok(said("All of it is done."))
}

pub(super) async fn late() -> CallToolResult {
    sleep(LATE).await;
    said("Reconnection test completed")
}

fn told(result: Result<(), ServiceError>) -> Result<(), ErrorData> {
    result.map_err(|error| {
        tracing::debug!(%error, "failed to notify a client");
        ErrorData::internal_error("the client cannot be notified", None)
    })
}
