//! What a client's script reports, and what must be true of it.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::Way;

/// The revision without a handshake.
pub const MODERN: &str = "2026-07-28";
/// How much later than its request an answer may arrive over SSE; the stream itself stays open far longer.
const SOON: f64 = 5.0;

/// What a script reports.
#[derive(Debug, Deserialize)]
pub struct Report {
    pub revision: Option<String>,
    pub tools: Vec<String>,
    pub calls: Vec<Call>,
    #[serde(default)]
    pub events: Vec<Arrival>,
}

/// A call of a tool; times are in seconds since the start.
#[derive(Debug, Deserialize)]
pub struct Call {
    pub tool: String,
    pub sent: f64,
    pub answered: f64,
    #[serde(flatten)]
    pub answer: Answer,
}

/// What a tool answered, as the SDK understood it.
#[derive(Debug, Deserialize)]
pub struct Answer {
    pub error: bool,
    pub structured: bool,
    pub text: String,
}

/// An event of an SSE stream, in seconds since the start.
#[derive(Debug, Deserialize)]
pub struct Arrival {
    pub event: String,
    pub at: f64,
}

impl Report {
    /// Both tools are listed and answer, in the era of `way`, and over SSE at once.
    pub fn check(&self, way: Way) -> Result<()> {
        ensure!(
            self.tools == ["get_alerts", "get_forecast"],
            "both tools are listed: {:?}",
            self.tools
        );
        let revision = self.revision.as_deref().unwrap_or_default();
        ensure!(
            (revision == MODERN) == way.modern,
            "the era is the one that was asked for: {revision}"
        );
        ensure!(self.calls.len() == 2, "both tools are called");
        for call in &self.calls {
            call.answer.check().with_context(|| call.tool.clone())?;
        }
        if way.transport == "sse" {
            self.check_arrivals()
        } else {
            Ok(())
        }
    }

    /// Each answer arrives between its request and the next, while the stream is open: nothing was held back to the end.
    fn check_arrivals(&self) -> Result<()> {
        let (Some(first), Some(last)) = (self.events.first(), self.events.last()) else {
            anyhow::bail!("no event arrived: {self:?}");
        };
        ensure!(
            first.event == "endpoint",
            "the first event is the endpoint: {self:?}"
        );
        for call in &self.calls {
            let arrived = self.events.iter().any(|arrival| {
                arrival.event == "message" && arrival.at >= call.sent && arrival.at <= call.answered
            });
            ensure!(
                arrived,
                "the answer of {} came as an event of its own: {self:?}",
                call.tool
            );
            ensure!(
                call.answered - call.sent < SOON,
                "the answer of {} came soon: {self:?}",
                call.tool
            );
        }
        ensure!(
            last.at - first.at >= 1.0,
            "events arrived over the whole time, not at once: {self:?}"
        );
        Ok(())
    }
}

impl Answer {
    /// Text and structure, and no error.
    pub fn check(&self) -> Result<()> {
        ensure!(
            !self.error && self.structured && !self.text.trim().is_empty(),
            "a tool answers text and structure: {self:?}"
        );
        Ok(())
    }
}
