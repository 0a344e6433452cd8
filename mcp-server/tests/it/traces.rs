//! Traces, as a collector gets them: OTLP over HTTP, decoded with the published messages.

use crate::fake_nws::{FakeNws, good};
use crate::harness::{META, Server, app, post, request, send, until};
use axum::body::Body;
use axum::extract::State;
use bytes::Bytes;
use http::HeaderMap;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tower::ServiceExt as _;

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const OF_HTTP: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const END: Duration = Duration::from_secs(10);

type Exports = Arc<Mutex<Vec<(HeaderMap, ExportTraceServiceRequest)>>>;

/// A collector on loopback.
struct Collector {
    endpoint: String,
    exports: Exports,
}

impl Collector {
    async fn start() -> Collector {
        let exports = Exports::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("--otlp-endpoint=http://{}/otlp", listener.local_addr().unwrap());
        let router = axum::Router::new()
            .route("/otlp/v1/traces", axum::routing::post(take))
            .with_state(Arc::clone(&exports));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Collector { endpoint, exports }
    }

    /// Every span, by its name, in the order of their ends.
    fn spans(&self) -> Vec<Span> {
        let exports = self.exports.lock().unwrap();
        let resources = exports.iter().flat_map(|(_, export)| &export.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }
}

async fn take(State(exports): State<Exports>, headers: HeaderMap, body: Bytes) {
    let export = ExportTraceServiceRequest::decode(body).unwrap();
    exports.lock().unwrap().push((headers, export));
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<&str, &str> {
    let text = |attribute: &KeyValue| match attribute.value.as_ref().and_then(|value| value.value.clone()) {
        Some(Any::StringValue(text)) => text.leak() as &str,
        other => panic!("{} is {other:?}", attribute.key),
    };
    attributes
        .iter()
        .map(|attribute| (attribute.key.as_str(), text(attribute)))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.concat()
}

fn modern_call(id: &Value, tool: &str, state: &str) -> String {
    let mut meta: Value = serde_json::from_str(META).unwrap();
    meta["traceparent"] = json!(TRACEPARENT);
    meta["tracestate"] = json!("rojo=1");
    let params = json!({"name": tool, "arguments": {"state": state}, "_meta": meta});
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).to_string()
}

#[tokio::test]
async fn a_call_is_a_span_in_the_caller_s_trace() {
    let (nws, collector) = (FakeNws::good().await, Collector::start().await);
    let flags = [collector.endpoint.as_str(), "--otlp-headers=api-key=s3%20cret"];
    let (server, router) = app(&nws.url, &flags);
    let headers = [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "get_alerts"),
        ("mcp-param-state", "Oregon"),
        ("traceparent", OF_HTTP),
    ];
    let body = modern_call(&json!("request-7"), "get_alerts", "Oregon");
    assert_eq!(send(&router, &headers, &body).await.0, 200);
    server.traces.close(END).await;

    let spans = collector.spans();
    let [span] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!(span.name, "tools/call get_alerts");
    assert_eq!(span.kind, 2, "a server's");
    assert_eq!(hex(&span.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(hex(&span.parent_span_id), "00f067aa0ba902b7");
    assert_eq!(span.trace_state, "rojo=1");
    assert_eq!(hex(&span.links[0].trace_id), "0af7651916cd43dd8448eb211c80319c");
    assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
    assert_eq!(
        texts(&span.attributes),
        BTreeMap::from([
            ("gen_ai.operation.name", "execute_tool"),
            ("gen_ai.tool.name", "get_alerts"),
            ("jsonrpc.request.id", "request-7"),
            ("mcp.method.name", "tools/call"),
            ("mcp.protocol.version", "2026-07-28"),
            ("network.protocol.name", "http"),
            ("network.protocol.version", "1.1"),
            ("network.transport", "tcp"),
        ])
    );
    assert!(span.status.as_ref().is_none_or(|status| status.code == 0));

    let exports = collector.exports.lock().unwrap();
    let (headers, export) = &exports[0];
    assert_eq!(headers["content-type"], "application/x-protobuf");
    assert_eq!(headers["api-key"], "s3 cret");
    let resource = texts(&export.resource_spans[0].resource.as_ref().unwrap().attributes)
        .into_iter()
        .filter(|(key, _)| key.starts_with("service."));
    assert_eq!(
        resource.collect::<Vec<_>>(),
        [
            ("service.name", "mcp-weather"),
            ("service.version", env!("CARGO_PKG_VERSION"))
        ]
    );
}

#[tokio::test]
async fn errors_have_their_type_and_names_come_from_closed_sets() {
    let (nws, collector) = (FakeNws::good().await, Collector::start().await);
    let (server, router) = app(&nws.url, &[&collector.endpoint]);
    let version = [("mcp-protocol-version", "2025-11-25")];
    for (method, params) in [
        ("tools/list", json!({})),
        (
            "tools/call",
            json!({"name": "get_alerts", "arguments": {"state": "s3cret"}}),
        ),
        ("tools/call", json!({"name": "s3cret"})),
        ("s3cret", json!({})),
    ] {
        send(&router, &version, &request(1, method, &params).to_string()).await;
    }
    server.traces.close(END).await;
    let spans = collector.spans();
    let told: Vec<_> = spans
        .iter()
        .map(|span| {
            let attributes = texts(&span.attributes);
            let get = |key| attributes.get(key).copied();
            assert_eq!(get("mcp.protocol.version"), Some("2025-11-25"));
            assert_eq!(
                span.status.as_ref().is_some_and(|status| status.code == 2),
                get("error.type").is_some()
            );
            (
                span.name.as_str(),
                get("error.type"),
                get("rpc.response.status_code"),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("tools/list", None, None),
            ("tools/call get_alerts", Some("tool_error"), None),
            ("tools/call", Some("-32602"), Some("-32602")),
            ("_OTHER", Some("-32601"), Some("-32601")),
        ]
    );
    assert!(!format!("{spans:?}").contains("s3cret"));
}

#[tokio::test]
async fn over_sse_the_session_is_a_hash_and_draining_exports_the_rest() {
    let (nws, collector) = (FakeNws::good().await, Collector::start().await);
    let mut server = Server::start(&nws.url, &[&collector.endpoint]).await;
    let mut events = server.open().await;
    let id = events.id().to_owned();
    let meta = json!({"traceparent": TRACEPARENT});
    let call = json!({"name": "get_alerts", "arguments": {"state": "OR"}, "_meta": meta});
    assert_eq!(events.post(&request(5, "tools/call", &call)).await, 202);
    events.message().await;
    server.ask_to_stop();
    assert!(server.stopped().await);
    let spans = collector.spans();
    let attributes = texts(&spans[0].attributes);
    assert_eq!(hex(&spans[0].trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(attributes["jsonrpc.request.id"], "5");
    let hash = mcp_weather::audit::SessionHash::of(&id).to_string();
    assert_eq!(attributes["mcp.session.id"], hash);
    assert!(!format!("{spans:?}").contains(&id));
}

#[tokio::test]
async fn a_caller_who_gives_up_ends_the_span() {
    let nws = FakeNws::start(|path, _| good(path).after(Duration::from_mins(1))).await;
    let collector = Collector::start().await;
    let (server, router) = app(&nws.url, &[&collector.endpoint]);
    let call = json!({"name": "get_alerts", "arguments": {"state": "OR"}});
    let body = Body::from(request(1, "tools/call", &call).to_string());
    let running = tokio::spawn(router.clone().oneshot(post("/mcp").body(body).unwrap()));
    until("the call is on its way upstream", async || !nws.seen().is_empty()).await;
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    server.traces.close(END).await;
    let spans = collector.spans();
    assert_eq!(texts(&spans[0].attributes)["error.type"], "cancelled");
}

#[tokio::test]
async fn the_caller_decides_whether_its_trace_is_kept() {
    let (nws, collector) = (FakeNws::good().await, Collector::start().await);
    let (server, router) = app(&nws.url, &[&collector.endpoint, "--otel-share=0"]);
    let list = request(1, "tools/list", &json!({})).to_string();
    send(&router, &[], &list).await;
    send(&router, &[("traceparent", &OF_HTTP.replace("-01", "-00"))], &list).await;
    send(&router, &[("traceparent", OF_HTTP)], &list).await;
    server.traces.close(END).await;
    let spans = collector.spans();
    assert_eq!(spans.len(), 1, "{spans:?}");
    assert_eq!(hex(&spans[0].parent_span_id), "b7ad6b7169203331");
}

#[tokio::test]
async fn a_collector_that_is_not_there_holds_nothing_up() {
    let nws = FakeNws::good().await;
    let (server, router) = app(&nws.url, &["--otlp-endpoint=http://127.0.0.1:9"]);
    let list = request(1, "tools/list", &json!({})).to_string();
    assert_eq!(send(&router, &[], &list).await.0, 200);
    let before = std::time::Instant::now();
    server.traces.close(Duration::from_millis(500)).await;
    assert!(
        before.elapsed() < Duration::from_secs(5),
        "{:?}",
        before.elapsed()
    );
}

#[tokio::test]
async fn without_a_collector_nothing_is_traced() {
    let (server, _) = app("http://127.0.0.1:9", &[]);
    assert!(!server.traces.are_on());
}
