//! Sockets: a server and its listeners go in; it serves until it is told to stop, drains, and returns.
//!
//! hyper is driven directly: `axum::serve` sets no timer, so half a request header would hold a connection for ever, and it
//! leaves Nagle's algorithm on, which delays every event by 40 ms.

use crate::accept::Port;
use crate::app::App;
use crate::config::Config;
use crate::http::mcp::Endpoint;
use crate::http::{METRICS_ROUTES, ROUTES, metrics_router, router};
use crate::replica::peer;
use crate::vital;
use axum::Router;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

/// Connections that wait to be taken. The usual 128 are too few when the streams of a replica that has ended come back at once, and
/// whoever finds no place tries again after a second.
const BACKLOG: u32 = 1024;
/// Connections between replicas, each of which is free again when its message is delivered.
const PEER_CONNECTIONS: usize = 256;
/// Connections to the metrics port, which one Prometheus or two read, and probes.
const METRICS_CONNECTIONS: usize = 64;
/// Streams are ended over this time, so that clients do not come back all at once.
const SPREAD: Duration = Duration::from_secs(2);
/// For what is left of the traces.
const TRACES_FLUSH: Duration = Duration::from_secs(2);
/// For what is left of the audit, at the very end.
const AUDIT_FLUSH: Duration = Duration::from_secs(1);

/// The listeners of a server.
#[derive(Debug)]
pub struct Sockets {
    /// /mcp, /sse, /messages, /health, /ready
    pub public: TcpListener,
    /// /metrics, /health, /ready
    pub metrics: TcpListener,
    /// Messages of other replicas, if there can be any.
    pub peer: Option<TcpListener>,
}

/// A port that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen on {address}")]
pub struct BindError {
    address: SocketAddr,
    source: std::io::Error,
}

impl Sockets {
    /// Listen as configured.
    pub fn bind(config: &Config, address: IpAddr, with_peer: bool) -> Result<Sockets, BindError> {
        Ok(Sockets {
            public: bind(address, config.port)?,
            metrics: bind(address, config.metrics_port)?,
            peer: if with_peer {
                Some(bind(address, config.peer_port)?)
            } else {
                None
            },
        })
    }
}

fn bind(address: IpAddr, port: u16) -> Result<TcpListener, BindError> {
    let address = SocketAddr::new(address, port);
    listen(address).map_err(|source| BindError { address, source })
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // Or a restart would have to wait for the connections of the process before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Times of a server's life.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// For the headers of a request; also how long an idle connection is kept.
    pub header: Duration,
    /// From the wish to stop until no connection is taken any more.
    pub drain_delay: Duration,
    /// From the wish to stop until the end at most.
    pub grace: Duration,
}

/// Serve until `stop` is done, then drain. Returns whether everything was finished within the grace time.
pub async fn serve<E: Endpoint>(
    app: Arc<App>,
    endpoint: E,
    sockets: Sockets,
    times: Times,
    stop: impl Future<Output = ()>,
) -> bool {
    let (stop_public, public_stopped) = watch::channel(());
    let (stop_rest, rest_stopped) = watch::channel(());
    log_start::<E>(&sockets, &app);
    let port = |listener: TcpListener, router: Router, max_connections: usize| Port {
        listener,
        router,
        header_time: times.header,
        write_time: app.limits.write_time,
        max_connections,
        metrics: Arc::clone(&app.metrics),
    };
    let public = port(
        sockets.public,
        router(Arc::clone(&app), endpoint.clone()),
        app.limits.connections,
    );
    let public = vital::spawn("public port", public.serve(public_stopped));
    let metrics = port(
        sockets.metrics,
        metrics_router(Arc::clone(&app)),
        METRICS_CONNECTIONS,
    );
    vital::spawn("metrics port", metrics.serve(rest_stopped.clone()));
    if let Some(listener) = sockets.peer {
        let peer = port(listener, peer::router(Arc::clone(&app)), PEER_CONNECTIONS);
        vital::spawn("peer port", peer.serve(rest_stopped));
    }
    let watch_keys = vital::spawn("replica keys", Arc::clone(&app.replica.keys).watch());
    let watch_secret = app
        .guard
        .gateway_secret()
        .map(|secret| vital::spawn("gateway secret", secret.watch()));
    let watch_upstream = vital::spawn("readiness", app.reach.clone().watch());
    stop.await;

    let deadline = Instant::now() + times.grace;
    app.begin_draining();
    tracing::info!(streams = app.streams.count(), "draining");
    sleep(times.drain_delay.min(times.grace / 2)).await;
    drop(stop_public);
    endpoint.begin_draining();
    let drained = timeout_at(deadline, async {
        // Other replicas may still pass on messages until the last stream has ended.
        app.streams.end_all(SPREAD.min(times.grace / 4)).await;
        public.await
    });
    let finished = drained.await.is_ok();
    drop(stop_rest);
    watch_keys.abort();
    if let Some(watch) = watch_secret {
        watch.abort();
    }
    watch_upstream.abort();
    app.traces.close(TRACES_FLUSH).await;
    if !app.audit.close(AUDIT_FLUSH) {
        tracing::error!("failed to write the rest of the audit in time");
    }
    if finished {
        tracing::info!("drained");
    } else {
        tracing::warn!(
            streams = app.streams.count(),
            "the grace time is over, what still runs is cut off"
        );
    }
    finished
}

fn log_start<E: Endpoint>(sockets: &Sockets, app: &App) {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        forwards_between_replicas = app.replica.forwarder.is_some(),
        "starting"
    );
    let listening = |listener: &TcpListener, route: &str| {
        let address = listener
            .local_addr()
            .map_or_else(|_| String::new(), |address| address.to_string());
        tracing::info!(%address, route, "listening");
    };
    for method in E::METHODS.split(", ") {
        listening(&sockets.public, &format!("{method} /mcp"));
    }
    for route in ROUTES {
        listening(&sockets.public, route);
    }
    for route in METRICS_ROUTES {
        listening(&sockets.metrics, route);
    }
    if let Some(peer) = &sockets.peer {
        listening(peer, "POST /messages/{session_id} (replicas only)");
    }
}
