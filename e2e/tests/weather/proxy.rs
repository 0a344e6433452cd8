//! A gateway in small: it strips a prefix off the path, takes turns between replicas, and passes everything on as it comes.
//!
//! In: addresses of replicas. Out: the URL of /mcp behind the prefix, and what was asked and who answered.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use http::header::{CONNECTION, HOST};
use http::{HeaderMap, Method, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

const PREFIX: &str = "/fleet/tools/weather";

/// It serves until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Of /mcp, behind the prefix.
    pub url: String,
    shared: Arc<Shared>,
    serving: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    replicas: Vec<Upstream>,
    /// Streams and other requests take turns apart, so that it is known who holds which stream.
    streams: AtomicUsize,
    requests: AtomicUsize,
    seen: Mutex<Vec<Seen>>,
    http: Client<HttpConnector, Body>,
}

#[derive(Debug)]
struct Upstream {
    address: SocketAddr,
    gone: AtomicBool,
}

/// A request, as it was passed on.
#[derive(Debug, Clone)]
pub struct Seen {
    /// As the client asked.
    pub path: String,
    /// Which replica answered; none when the path is not behind the prefix.
    pub replica: Option<usize>,
}

impl Proxy {
    pub async fn start(replicas: &[SocketAddr]) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}{PREFIX}/mcp", listener.local_addr()?);
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let shared = Arc::new(Shared {
            replicas: replicas
                .iter()
                .map(|address| Upstream {
                    address: *address,
                    gone: AtomicBool::new(false),
                })
                .collect(),
            streams: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            seen: Mutex::default(),
            // A kept connection may be closed by the server just as it is used.
            http: Client::builder(TokioExecutor::new())
                .pool_max_idle_per_host(0)
                .build(connector),
        });
        let router = Router::new().fallback(pass).with_state(Arc::clone(&shared));
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        let serving = tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
        Ok(Self { url, shared, serving })
    }

    /// No request goes to this replica any more, as when Kubernetes has taken its address out of the Service.
    pub fn forget(&self, replica: usize) {
        self.shared.replicas[replica].gone.store(true, Ordering::Relaxed);
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Shared {
    fn seen(&self) -> std::sync::MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, method: &Method) -> usize {
        let turns = if method == Method::GET {
            &self.streams
        } else {
            &self.requests
        };
        let there = |replica: &usize| !self.replicas[*replica].gone.load(Ordering::Relaxed);
        let there: Vec<_> = (0..self.replicas.len()).filter(there).collect();
        there[turns.fetch_add(1, Ordering::Relaxed) % there.len()]
    }
}

async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let behind = path.starts_with(&format!("{PREFIX}/"));
    let replica = behind.then(|| shared.next(request.method()));
    shared.seen().push(Seen { path, replica });
    let Some(replica) = replica else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match forward(&shared, shared.replicas[replica].address, request).await {
        Ok(response) => response,
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response(),
    }
}

async fn forward(shared: &Shared, address: SocketAddr, request: Request) -> Result<Response> {
    let (mut parts, body) = request.into_parts();
    let rest = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let rest = rest.strip_prefix(PREFIX).unwrap_or(rest);
    parts.uri = Uri::try_from(format!("http://{address}{rest}"))?;
    hop(&mut parts.headers);
    parts.headers.remove(HOST);
    let mut response = shared.http.request(Request::from_parts(parts, body)).await?;
    hop(response.headers_mut());
    Ok(response.into_response())
}

/// What concerns one connection alone (RFC 9110, section 7.6.1).
fn hop(headers: &mut HeaderMap) {
    headers.remove(CONNECTION);
    headers.remove("keep-alive");
}
