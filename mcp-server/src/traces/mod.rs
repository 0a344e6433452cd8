//! Traces: a request goes in, a span per request comes out, in the words of OpenTelemetry's conventions for MCP
//! (semantic-conventions-genai, docs/gen-ai/mcp.md, Server), and goes to a collector in batches, away from the request.
//!
//! Off unless a collector is named, and then a request costs one comparison.

mod context;
mod export;

pub use export::{Endpoint, Headers, Share};

use crate::audit::SessionHash;
use crate::protocol::dispatch::Reply;
use crate::protocol::envelope::Id;
use crate::protocol::json::{Json, Object};
use crate::protocol::revision::{Era, MODERN};
use http::HeaderMap;
use opentelemetry::trace::{Span as _, SpanKind, Status, Tracer as _, TracerProvider as _};
use opentelemetry::{Key, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span};
use std::borrow::Cow;
use std::time::Duration;

/// Requests that we answer. Any other is told as `_OTHER`, since names of spans come from a closed set.
const METHODS: [&str; 12] = [
    "initialize",
    "ping",
    "server/discover",
    "subscriptions/listen",
    "tools/list",
    "tools/call",
    "resources/list",
    "resources/templates/list",
    "resources/read",
    "prompts/list",
    "prompts/get",
    "completion/complete",
];
/// Longest text of a caller in a span.
const LONGEST: usize = 128;

/// What is to be traced, and where to.
#[derive(Debug)]
pub struct Settings<'a> {
    /// The collector; without one nothing is traced.
    pub endpoint: &'a Endpoint,
    /// For the collector, such as its key.
    pub headers: &'a Headers,
    /// Name of this service in traces.
    pub service: &'a str,
    /// Of the traces that begin here.
    pub share: Share,
}

/// Why there are no traces.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// Roots or TLS.
    #[error("failed to set up the HTTP client for the collector of traces")]
    Client(#[source] reqwest::Error),
    /// The exporter does not take its settings.
    #[error("failed to set up the export of traces (OTEL_EXPORTER_OTLP_ENDPOINT)")]
    Exporter(#[source] opentelemetry_otlp::ExporterBuildError),
}

/// The traces of a server.
#[derive(Debug)]
pub struct Traces(Option<Box<On>>);

#[derive(Debug)]
struct On {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

/// A request, as far as a span tells of it.
#[derive(Debug)]
pub struct Incoming<'a> {
    /// Of the HTTP request, when it came here directly.
    pub headers: Option<&'a HeaderMap>,
    /// The session, which a span only shows as a hash.
    pub session: Option<SessionHash>,
    /// How it wants to be answered.
    pub era: Era,
    /// Its id.
    pub id: &'a Id<'a>,
    /// Its method.
    pub method: &'a str,
    /// Its parameters.
    pub params: &'a Object<'a>,
}

impl Traces {
    /// Start exporting, if there is where to. Outside of a runtime, where only settings are checked, nothing is started.
    pub fn open(settings: &Settings<'_>) -> Result<Traces, TracesError> {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return Ok(Traces(None));
        };
        let provider = export::provider(settings, runtime)?;
        Ok(Traces(provider.map(|provider| {
            let tracer = provider.tracer("mcp-weather");
            Box::new(On { provider, tracer })
        })))
    }

    /// Whether anything is traced.
    pub fn are_on(&self) -> bool {
        self.0.is_some()
    }

    /// A request begins.
    pub fn begin(&self, incoming: &Incoming<'_>) -> RequestSpan {
        RequestSpan(
            self.0
                .as_ref()
                .map(|on| Box::new(Open::begin(&on.tracer, incoming))),
        )
    }

    /// Export what waits and end, within `time`.
    pub async fn close(&self, time: Duration) {
        let Some(on) = &self.0 else { return };
        let provider = on.provider.clone();
        let closed = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(time)).await;
        if let Ok(Err(error)) = closed {
            tracing::warn!(%error, "failed to export the last traces");
        }
    }
}

/// A request that is under way.
#[derive(Debug)]
pub struct RequestSpan(Option<Box<Open>>);

#[derive(Debug)]
struct Open {
    span: Span,
    method: &'static str,
    /// What the method is about; told when the answer shows that it exists, since a caller may have written anything.
    target: Option<(Key, String)>,
    tool_error: bool,
}

impl Open {
    fn begin(tracer: &SdkTracer, incoming: &Incoming<'_>) -> Open {
        let method = METHODS.into_iter().find(|known| *known == incoming.method);
        let method = method.unwrap_or("_OTHER");
        let (parent, link) = context::parent_and_link(incoming.headers, incoming.params);
        let builder = tracer
            .span_builder(method)
            .with_kind(SpanKind::Server)
            .with_attributes(attributes(method, incoming))
            .with_links(link.into_iter().collect());
        Open {
            span: tracer.build_with_context(builder, &parent),
            method,
            target: target(method, incoming.params),
            tool_error: false,
        }
    }

    fn end(mut self, error: Option<Cow<'static, str>>) {
        if let Some(error) = error {
            self.span.set_attribute(KeyValue::new("error.type", error));
            self.span.set_status(Status::error(""));
        }
        self.span.end();
    }
}

impl RequestSpan {
    /// For a request that is not to be traced.
    pub fn untraced() -> RequestSpan {
        RequestSpan(None)
    }

    /// The tool reported an error.
    pub fn tool_error(&mut self) {
        if let Some(open) = &mut self.0 {
            open.tool_error = true;
        }
    }

    /// The request is not run, because of a limit.
    pub fn limited(mut self) {
        if let Some(open) = self.0.take() {
            open.end(Some("limited".into()));
        }
    }

    /// The request is answered.
    pub fn end(mut self, reply: &Reply) {
        let Some(mut open) = self.0.take() else { return };
        if let Some(code) = reply.error {
            let code = code.number().to_string();
            open.span
                .set_attribute(KeyValue::new("rpc.response.status_code", code.clone()));
            return open.end(Some(code.into()));
        }
        if let Some((key, target)) = open.target.take() {
            if key.as_str() != "mcp.resource.uri" {
                open.span.update_name(format!("{} {target}", open.method));
            }
            open.span.set_attribute(KeyValue::new(key, target));
        }
        let error = open.tool_error.then_some(Cow::Borrowed("tool_error"));
        open.end(error);
    }
}

impl Drop for RequestSpan {
    fn drop(&mut self) {
        if let Some(open) = self.0.take() {
            open.end(Some("cancelled".into()));
        }
    }
}

fn attributes(method: &'static str, incoming: &Incoming<'_>) -> Vec<KeyValue> {
    let id = match incoming.id {
        Id::Number(digits) => short(digits),
        Id::String(text) => short(text),
    };
    let mut attributes = vec![
        KeyValue::new("mcp.method.name", method),
        KeyValue::new("jsonrpc.request.id", id),
        KeyValue::new("network.transport", "tcp"),
        KeyValue::new("network.protocol.name", "http"),
        KeyValue::new("network.protocol.version", "1.1"),
    ];
    if method == "tools/call" {
        attributes.push(KeyValue::new("gen_ai.operation.name", "execute_tool"));
    }
    let in_header = || incoming.headers?.get("mcp-protocol-version")?.to_str().ok();
    match (incoming.era, in_header()) {
        (Era::Modern, _) => attributes.push(KeyValue::new("mcp.protocol.version", MODERN)),
        (Era::Handshake(_), Some(version)) => {
            attributes.push(KeyValue::new("mcp.protocol.version", short(version)));
        }
        (Era::Handshake(_), None) => {}
    }
    if let Some(session) = incoming.session {
        attributes.push(KeyValue::new("mcp.session.id", session.to_string()));
    }
    attributes
}

fn target(method: &'static str, params: &Object<'_>) -> Option<(Key, String)> {
    let (member, key) = match method {
        "tools/call" => ("name", "gen_ai.tool.name"),
        "prompts/get" => ("name", "gen_ai.prompt.name"),
        "resources/read" => ("uri", "mcp.resource.uri"),
        _ => return None,
    };
    let target = params.get(member).and_then(Json::as_str)?;
    Some((Key::from_static_str(key), short(target)))
}

fn short(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_off_costs_no_allocation() {
        let traces = Traces(None);
        let (headers, params) = (HeaderMap::new(), Object::default());
        let reply = Reply {
            body: bytes::Bytes::new(),
            error: None,
        };
        let counted = allocation_counter::measure(|| {
            let mut span = traces.begin(&Incoming {
                headers: Some(&headers),
                session: None,
                era: Era::Modern,
                id: &Id::Number("1"),
                method: "tools/call",
                params: &params,
            });
            span.tool_error();
            span.end(&reply);
        });
        assert_eq!(counted.count_total, 0, "{counted:?}");
    }
}
