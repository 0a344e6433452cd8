//! The TLS listener: one connection a task, HTTP/1.1 and HTTP/2, nothing buffered.
//! In: a socket and the plane behind it, or none when the host name decides. Out: requests to the planes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::answer::{self, Answer, Cut};
use super::state::Shared;
use super::{arm, gateway, token};

/// Largest body of a management request, in bytes.
const LARGEST: usize = 8 * 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Arm,
    Login,
    Gateway,
}

/// How a request finds its plane.
#[derive(Clone, Debug)]
pub(crate) enum Routing {
    Fixed(Role),
    Hosts { arm: String, login: String },
}

impl Routing {
    fn role(&self, host: &str) -> Role {
        match self {
            Routing::Fixed(role) => *role,
            Routing::Hosts { arm, .. } if same_host(arm, host) => Role::Arm,
            Routing::Hosts { login, .. } if same_host(login, host) => Role::Login,
            Routing::Hosts { .. } => Role::Gateway,
        }
    }
}

/// Ports do not matter, and a shorter form of a name (`arm.azure` of `arm.azure.svc.cluster.local`) is the same host.
fn same_host(configured: &str, asked: &str) -> bool {
    let name = |text: &str| {
        text.split(':')
            .next()
            .unwrap_or_default()
            .trim_end_matches('.')
            .to_lowercase()
    };
    let (configured, asked) = (name(configured), name(asked));
    configured == asked || (asked.contains('.') && configured.starts_with(&format!("{asked}.")))
}

pub(crate) async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    shared: Arc<Shared>,
    gateway: Arc<gateway::Gateway>,
    routing: Routing,
    stop: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Server-sent events are many small writes.
        let _ = stream.set_nodelay(true);
        let (acceptor, shared, gateway, routing, stop) = (
            acceptor.clone(),
            Arc::clone(&shared),
            Arc::clone(&gateway),
            routing.clone(),
            stop.clone(),
        );
        tokio::spawn(async move {
            let handshake = tokio::time::timeout(Duration::from_secs(10), acceptor.accept(stream)).await;
            let Ok(Ok(stream)) = handshake else {
                tracing::debug!(%peer, "TLS handshake failed");
                return;
            };
            let service = service_fn(move |request| {
                let (shared, gateway, routing) = (Arc::clone(&shared), Arc::clone(&gateway), routing.clone());
                async move { handle(&shared, &gateway, &routing, request, peer).await }
            });
            let mut builder = Builder::new(TokioExecutor::new());
            builder
                .http1()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_mins(4));
            builder.http2().timer(TokioTimer::new());
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                result = connection => if let Err(error) = result {
                    tracing::debug!(%peer, %error, "connection ended");
                },
                () = stop.cancelled() => {}
            }
        });
    }
}

async fn handle(
    shared: &Arc<Shared>,
    gateway: &gateway::Gateway,
    routing: &Routing,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Result<Answer, Cut> {
    let host = request.uri().host().map(str::to_owned).or_else(|| {
        request
            .headers()
            .get(HOST)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    });
    let role = routing.role(host.as_deref().unwrap_or_default());
    if role == Role::Gateway {
        return gateway.handle(shared, request, canonical(peer.ip())).await;
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, LARGEST).collect().await else {
        return Ok(answer::empty(StatusCode::PAYLOAD_TOO_LARGE));
    };
    let request: Request<Bytes> = Request::from_parts(parts, body.to_bytes());
    match role {
        Role::Login => token::handle(shared, request).await,
        _ => arm::handle(shared, request).await,
    }
}

/// An IPv4 address in IPv6 form is the IPv4 address.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_choose_the_plane() {
        let routing = Routing::Hosts {
            arm: "arm.azure.svc.cluster.local:8443".into(),
            login: "login.azure.svc.cluster.local".into(),
        };
        for (host, role) in [
            ("arm.azure.svc.cluster.local:8443", Role::Arm),
            ("ARM.azure.svc", Role::Arm),
            ("login.azure.svc.cluster.local", Role::Login),
            ("gateway.azure.svc.cluster.local", Role::Gateway),
            ("localhost:30443", Role::Gateway),
            ("127.0.0.1", Role::Gateway),
            ("arm", Role::Gateway),
        ] {
            assert_eq!(routing.role(host), role, "{host}");
        }
    }
}
