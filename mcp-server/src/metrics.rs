//! Counters and gauges, in OpenMetrics. Labels come from closed sets: what a caller sends is never a label.

use crate::protocol::revision::{Era, Transport};
use crate::tools::Tool;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::time::{Duration, Instant};

/// How a tool call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Weather.
    Ok,
    /// An error for the model to read.
    ToolError,
    /// A protocol error, so no such tool.
    Refused,
    /// It was called too often.
    Limited,
    /// Its caller went away before the answer.
    Cancelled,
}

/// What the cache had for a tool call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// A fresh answer.
    Hit,
    /// Nothing, so the weather service was asked.
    Miss,
    /// A stale answer, which was given since the weather service cannot be asked.
    Stale,
}

/// In the order of their discriminants.
const LOOKUPS: [&str; 3] = ["hit", "miss", "stale"];

/// What became of an audit record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditOutcome {
    /// It is in the audit.
    Written,
    /// The queue before the writer was full.
    Dropped,
    /// The audit could not be written to.
    Failed,
}

/// From an answer out of memory to the most that a call may take.
const CALL_SECONDS: [f64; 12] = [
    0.0001, 0.0005, 0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// In the order of their discriminants.
const AUDIT_OUTCOMES: [&str; 3] = ["written", "dropped", "failed"];

const OUTCOMES: [(Outcome, &str); 5] = [
    (Outcome::Ok, "ok"),
    (Outcome::ToolError, "tool_error"),
    (Outcome::Refused, "refused"),
    (Outcome::Limited, "limited"),
    (Outcome::Cancelled, "cancelled"),
];
const ERAS: [Era; 3] = [
    Era::Modern,
    Era::Handshake(Transport::StreamableHttp),
    Era::Handshake(Transport::Sse),
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    tool: &'static str,
    era: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TimeLabels {
    tool: &'static str,
    era: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LookupLabels {
    tool: &'static str,
    found: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamLabels {
    endpoint: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// Everything that is measured.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// One per tool, era and outcome, looked up once: the hot path only adds.
    calls: Vec<Counter>,
    call_seconds: Vec<Histogram>,
    /// One per tool and what was found.
    lookups: Vec<Counter>,
    running: Gauge,
    connections: Gauge,
    connections_full: Counter,
    /// One per outcome.
    audited: Vec<Counter>,
    streams: Gauge,
    streams_opened: Counter,
    upstream: Family<UpstreamLabels, Counter>,
    refused: Family<ReasonLabel, Counter>,
    forwarded: Family<OutcomeLabel, Counter>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::register()
    }
}

impl Metrics {
    /// Register all of them.
    pub fn register() -> Metrics {
        let mut registry = Registry::with_prefix("mcp_weather");
        let calls = Family::<CallLabels, Counter>::default();
        let seconds: Family<TimeLabels, Histogram> =
            Family::new_with_constructor(|| Histogram::new(CALL_SECONDS));
        let lookups = Family::<LookupLabels, Counter>::default();
        registry.register(
            "cache_lookups",
            "Tool calls by what the cache had for them",
            lookups.clone(),
        );
        let (running, streams, streams_opened) = (Gauge::default(), Gauge::default(), Counter::default());
        let (connections, connections_full) = (Gauge::default(), Counter::default());
        registry.register(
            "connections",
            "Open connections of all ports",
            connections.clone(),
        );
        registry.register(
            "connections_full",
            "Times that new connections had to wait for MAX_CONNECTIONS",
            connections_full.clone(),
        );
        let (upstream, refused, forwarded) = (Family::default(), Family::default(), Family::default());
        registry.register("tool_calls", "Tool calls", calls.clone());
        registry.register_with_unit(
            "tool_call",
            "Time of tool calls, cancelled ones too",
            Unit::Seconds,
            seconds.clone(),
        );
        registry.register("tool_calls_running", "Tool calls that run now", running.clone());
        registry.register("sse_streams", "Open SSE streams", streams.clone());
        registry.register("sse_streams_opened", "SSE streams opened", streams_opened.clone());
        registry.register(
            "upstream_requests",
            "Attempts at the National Weather Service; over_budget, silent and busy were not sent, abandoned was not waited for to its end",
            upstream.clone(),
        );
        registry.register(
            "refused_requests",
            "Requests refused before any method was run",
            refused.clone(),
        );
        registry.register(
            "forwarded_messages",
            "SSE messages passed on to the replica that owns the stream",
            forwarded.clone(),
        );
        let audited = Family::<OutcomeLabel, Counter>::default();
        registry.register(
            "audit_records",
            "Audit records; one that was dropped or failed is missing in the audit, which tells how many",
            audited.clone(),
        );
        let times = Tool::ALL.into_iter().flat_map(|tool| {
            ERAS.into_iter().map(move |era| TimeLabels {
                tool: tool.name(),
                era: era.label(),
            })
        });
        let labels = Tool::ALL.into_iter().flat_map(|tool| {
            ERAS.into_iter().flat_map(move |era| {
                OUTCOMES.into_iter().map(move |(_, outcome)| CallLabels {
                    tool: tool.name(),
                    era: era.label(),
                    outcome,
                })
            })
        });
        Metrics {
            registry,
            calls: labels
                .map(|labels| calls.get_or_create(&labels).clone())
                .collect(),
            call_seconds: times
                .map(|labels| seconds.get_or_create(&labels).clone())
                .collect(),
            audited: AUDIT_OUTCOMES
                .map(|outcome| audited.get_or_create(&OutcomeLabel { outcome }).clone())
                .into(),
            lookups: [Tool::GetAlerts, Tool::GetForecast]
                .into_iter()
                .flat_map(|tool| {
                    LOOKUPS.map(|found| LookupLabels {
                        tool: tool.name(),
                        found,
                    })
                })
                .map(|labels| lookups.get_or_create(&labels).clone())
                .collect(),
            running,
            connections,
            connections_full,
            streams,
            streams_opened,
            upstream,
            refused,
            forwarded,
        }
    }

    /// OpenMetrics text.
    pub fn render(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = text::encode(&mut out, &self.registry);
        out
    }

    /// A tool call begins. It ends with its outcome, or as cancelled when the guard is dropped before.
    pub fn call_started(&self, tool: Tool, era: Era, started: Instant) -> Running<'_> {
        self.running.inc();
        Running {
            metrics: self,
            tool,
            era,
            started,
            outcome: Outcome::Cancelled,
        }
    }

    fn call_ended(&self, tool: Tool, era: Era, outcome: Outcome, time: Duration) {
        self.count_call(tool, era, outcome);
        if let Some(seconds) = self.call_seconds.get(place(tool, era)) {
            seconds.observe(time.as_secs_f64());
        }
    }

    /// A tool call was not run, since there were too many.
    pub fn call_limited(&self, tool: Tool, era: Era) {
        self.count_call(tool, era, Outcome::Limited);
    }

    fn count_call(&self, tool: Tool, era: Era, outcome: Outcome) {
        let outcome = OUTCOMES
            .iter()
            .position(|(known, _)| *known == outcome)
            .unwrap_or_default();
        let at = place(tool, era) * OUTCOMES.len() + outcome;
        if let Some(calls) = self.calls.get(at) {
            calls.inc();
        }
    }

    /// A tool call was looked up in the cache.
    pub fn looked_up(&self, tool: Tool, found: Lookup) {
        if let Some(lookups) = self.lookups.get(tool as usize * LOOKUPS.len() + found as usize) {
            lookups.inc();
        }
    }

    /// A connection is open until the guard is dropped.
    pub fn connection_opened(&self) -> Open {
        self.connections.inc();
        Open(self.connections.clone())
    }

    /// No place for another connection.
    pub fn connections_full(&self) {
        self.connections_full.inc();
    }

    /// Tool calls that run now.
    pub fn calls_running(&self) -> i64 {
        self.running.get()
    }

    /// So many audit records came to this.
    pub fn audited(&self, outcome: AuditOutcome, records: u64) {
        if let Some(audited) = self.audited.get(outcome as usize) {
            audited.inc_by(records);
        }
    }

    /// A stream was opened.
    pub fn stream_opened(&self) {
        self.streams.inc();
        self.streams_opened.inc();
    }

    /// A stream was closed.
    pub fn stream_closed(&self) {
        self.streams.dec();
    }

    /// An attempt at the weather service begins. The fetch that waits for it may give up first, when its time is over.
    pub fn upstream_asked(&self, endpoint: &'static str) -> Attempt<'_> {
        Attempt {
            metrics: self,
            endpoint,
            outcome: "abandoned",
        }
    }

    /// A request that was not looked into.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// A message that another replica was asked to take.
    pub fn forwarded(&self, outcome: &'static str) {
        self.forwarded.get_or_create(&OutcomeLabel { outcome }).inc();
    }
}

/// Counts an open connection until dropped.
#[derive(Debug)]
pub struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Counts a running call until dropped.
#[derive(Debug)]
pub struct Running<'a> {
    metrics: &'a Metrics,
    tool: Tool,
    era: Era,
    started: Instant,
    outcome: Outcome,
}

impl Running<'_> {
    /// It is answered.
    pub fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let Running {
            metrics, tool, era, ..
        } = *self;
        metrics.running.dec();
        metrics.call_ended(tool, era, self.outcome, self.started.elapsed());
    }
}

/// Counts an attempt at the weather service as abandoned, if it is dropped before it has an outcome.
#[derive(Debug)]
pub struct Attempt<'a> {
    metrics: &'a Metrics,
    endpoint: &'static str,
    outcome: &'static str,
}

impl Attempt<'_> {
    /// It is over.
    pub fn end(mut self, outcome: &'static str) {
        self.outcome = outcome;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let (endpoint, outcome) = (self.endpoint, self.outcome);
        self.metrics
            .upstream
            .get_or_create(&UpstreamLabels { endpoint, outcome })
            .inc();
    }
}

/// Place of a tool and an era among all of them.
fn place(tool: Tool, era: Era) -> usize {
    let era = ERAS.iter().position(|known| *known == era).unwrap_or_default();
    tool as usize * ERAS.len() + era
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_lands_on_its_own_labels() {
        let metrics = Metrics::register();
        for (count, tool) in Tool::ALL.into_iter().enumerate() {
            for era in ERAS {
                for _ in 0..=count {
                    metrics.call_ended(tool, era, Outcome::ToolError, Duration::from_millis(2));
                }
            }
        }
        let text = metrics.render();
        for line in [
            r#"mcp_weather_tool_calls_total{tool="get_alerts",era="modern",outcome="tool_error"} 1"#,
            r#"mcp_weather_tool_calls_total{tool="get_forecast",era="sse",outcome="tool_error"} 2"#,
            r#"mcp_weather_tool_calls_total{tool="other",era="handshake",outcome="tool_error"} 3"#,
            r#"mcp_weather_tool_calls_total{tool="other",era="handshake",outcome="ok"} 0"#,
            r#"mcp_weather_tool_call_seconds_count{tool="get_alerts",era="sse"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_dropped_call_no_longer_runs() {
        let metrics = Metrics::register();
        let running = metrics.call_started(Tool::GetAlerts, Era::Modern, Instant::now());
        assert!(metrics.render().contains("mcp_weather_tool_calls_running 1"));
        drop(running);
        let text = metrics.render();
        for line in [
            "mcp_weather_tool_calls_running 0",
            r#"mcp_weather_tool_calls_total{tool="get_alerts",era="modern",outcome="cancelled"} 1"#,
            r#"mcp_weather_tool_calls_total{tool="get_alerts",era="modern",outcome="ok"} 0"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_dropped_attempt_is_abandoned() {
        let metrics = Metrics::register();
        drop(metrics.upstream_asked("points"));
        metrics.upstream_asked("points").end("ok");
        let text = metrics.render();
        for outcome in ["abandoned", "ok"] {
            let line =
                format!(r#"mcp_weather_upstream_requests_total{{endpoint="points",outcome="{outcome}"}} 1"#);
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
    }
}
