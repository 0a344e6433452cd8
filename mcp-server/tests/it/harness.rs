//! Servers for tests: one without sockets, and one with; and a reader of event streams.

use axum::Router;
use axum::body::Body;
use clap::Parser as _;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use mcp_weather::app::App;
use mcp_weather::config::Config;
use mcp_weather::http::mcp::{Endpoint, Stateless};
use mcp_weather::http::router;
use mcp_weather::serve::{Sockets, Times, serve};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tower::ServiceExt as _;

pub(crate) const META: &str = r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;

/// As configured by flags; the environment of the test run must not matter, so every address is given.
pub(crate) fn config(nws: &str, flags: &[&str]) -> Config {
    let base = format!("--nws-base-url={nws}");
    let mut arguments = vec![
        "mcp-weather",
        &base,
        "--drain-delay=0",
        "--grace=8",
        "--audit-log=off",
    ];
    arguments.extend_from_slice(flags);
    Config::try_parse_from(arguments).unwrap()
}

/// A client for plain HTTP: reading the system's certificates would take most of a test's time.
pub(crate) fn http() -> reqwest::Client {
    reqwest::Client::builder().tls_certs_only([]).build().unwrap()
}

/// GET, without a connection kept from before.
pub(crate) async fn get(url: impl reqwest::IntoUrl) -> reqwest::Result<reqwest::Response> {
    http().get(url).send().await
}

/// A server without sockets.
pub(crate) fn app(nws: &str, flags: &[&str]) -> (Arc<App>, Router) {
    let app = Arc::new(App::build(&config(nws, flags)).unwrap());
    let router = router(Arc::clone(&app), Stateless);
    (app, router)
}

/// A POST as a client of the handshake revisions sends it.
pub(crate) fn post(path: &str) -> http::request::Builder {
    Request::post(path)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
}

/// Send a body to /mcp and read status and JSON.
pub(crate) async fn send(router: &Router, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
    let mut request = post("/mcp");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    read(
        router
            .clone()
            .oneshot(request.body(Body::from(body.to_owned())).unwrap())
            .await
            .unwrap(),
    )
    .await
}

/// Status and JSON of a response.
pub(crate) async fn read(response: Response<Body>) -> (u16, Value) {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// Call a tool in the handshake era; its result.
pub(crate) async fn call(router: &Router, tool: &str, arguments: &Value) -> Value {
    let body = request(1, "tools/call", &json!({"name": tool, "arguments": arguments}));
    let (status, answer) = send(router, &[], &body.to_string()).await;
    assert_eq!(status, 200, "{answer}");
    answer["result"].clone()
}

/// Text of a tool result.
pub(crate) fn text(result: &Value) -> &str {
    result["content"][0]["text"]
        .as_str()
        .unwrap_or_else(|| panic!("no text in {result}"))
}

pub(crate) fn request(id: u64, method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

/// A server with sockets.
pub(crate) struct Server {
    pub(crate) app: Arc<App>,
    pub(crate) url: String,
    pub(crate) metrics: String,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<bool>,
}

impl Server {
    /// Listens on free ports of `address`; `peer_port` is for messages of other replicas.
    pub(crate) async fn start_at(address: &str, peer_port: Option<u16>, config: &Config) -> Server {
        Server::start_with(address, peer_port, config, |_| Stateless).await
    }

    /// The same, with something else behind the gate of /mcp.
    pub(crate) async fn start_with<E: Endpoint>(
        address: &str,
        peer_port: Option<u16>,
        config: &Config,
        endpoint: impl FnOnce(&Arc<App>) -> E,
    ) -> Server {
        let app = Arc::new(App::build(config).unwrap());
        let endpoint = endpoint(&app);
        let sockets = Sockets {
            public: TcpListener::bind((address, 0)).await.unwrap(),
            metrics: TcpListener::bind((address, 0)).await.unwrap(),
            peer: match peer_port {
                Some(port) => Some(TcpListener::bind((address, port)).await.unwrap()),
                None => None,
            },
        };
        let url = format!("http://{}", sockets.public.local_addr().unwrap());
        let metrics = format!("http://{}/metrics", sockets.metrics.local_addr().unwrap());
        let times = Times {
            header: config.header_time,
            drain_delay: config.drain_delay,
            grace: config.grace,
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(serve(Arc::clone(&app), endpoint, sockets, times, async move {
            let _ = stopped.await;
        }));
        Server {
            app,
            url,
            metrics,
            stop: Some(stop),
            running,
        }
    }

    pub(crate) async fn start(nws: &str, flags: &[&str]) -> Server {
        Server::start_at("127.0.0.1", None, &config(nws, flags)).await
    }

    /// Ask it to stop, without waiting.
    pub(crate) fn ask_to_stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    /// Whether it finished everything in time.
    pub(crate) async fn stopped(self) -> bool {
        self.running.await.unwrap()
    }

    pub(crate) async fn open(&self) -> Events {
        Events::open(&format!("{}/sse", self.url)).await
    }
}

/// A client of one event stream.
pub(crate) struct Events {
    response: reqwest::Response,
    buffer: String,
    base: String,
    /// The reference in the endpoint event, as sent.
    pub(crate) reference: String,
}

impl Events {
    pub(crate) async fn open(url: &str) -> Events {
        let request = crate::harness::http()
            .get(url)
            .header("accept", "text/event-stream");
        let response = request.send().await.unwrap();
        Events::read(response, url.rsplit_once("/sse").unwrap().0).await
    }

    /// A stream of the server at `base` that was opened already.
    pub(crate) async fn read(response: reqwest::Response, base: &str) -> Events {
        let mut events = Events::of(response);
        base.clone_into(&mut events.base);
        let first = events.next().await.unwrap();
        first
            .strip_prefix("event: endpoint\ndata: ")
            .unwrap()
            .clone_into(&mut events.reference);
        events
    }

    /// A stream whose response has begun; it names no endpoint.
    pub(crate) fn of(response: reqwest::Response) -> Events {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        assert_eq!(response.headers()["cache-control"], "no-store");
        Events {
            response,
            buffer: String::new(),
            base: String::new(),
            reference: String::new(),
        }
    }

    pub(crate) fn id(&self) -> &str {
        self.reference
            .strip_prefix("messages/")
            .unwrap()
            .split_once('?')
            .unwrap()
            .0
    }

    /// The next block of the stream (an event or a comment), or `None` at its end.
    pub(crate) async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let block = block.to_owned();
                let rest = rest.to_owned();
                self.buffer = rest;
                return Some(block);
            }
            let chunk = tokio::time::timeout(Duration::from_secs(20), self.response.chunk()).await;
            let chunk = chunk
                .expect("nothing came on the stream for 20 seconds")
                .unwrap()?;
            self.buffer.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The next message on the stream.
    pub(crate) async fn message(&mut self) -> Value {
        loop {
            let block = self.next().await.expect("the stream ended");
            if let Some(data) = block.strip_prefix("event: message\ndata: ") {
                return serde_json::from_str(data).unwrap();
            }
            assert!(block.starts_with(':'), "{block}");
        }
    }

    /// Post to the endpoint that the stream named, at this server or (with `base`) at another.
    pub(crate) async fn post_to(&self, base: &str, body: impl Into<reqwest::Body>) -> reqwest::Response {
        let url = format!("{base}/{}", self.reference);
        let request = crate::harness::http()
            .post(url)
            .header("content-type", "application/json");
        request.body(body).send().await.unwrap()
    }

    pub(crate) async fn post(&self, body: &Value) -> u16 {
        self.post_to(&self.base, body.to_string()).await.status().as_u16()
    }
}

/// Waits until something holds; fails with what was waited for when it does not within 10 s.
pub(crate) async fn until(what: &str, holds: impl AsyncFnMut() -> bool) {
    until_within(Duration::from_secs(10), what, holds).await;
}

pub(crate) async fn until_within(time: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let limit = std::time::Instant::now() + time;
    while !holds().await {
        assert!(std::time::Instant::now() < limit, "waited in vain until {what}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
