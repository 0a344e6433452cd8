//! A stand-in for Azure API Management: its management plane in ARM, the gateway in front of it, and the token
//! endpoint of Entra, all over TLS.
//! In: a configuration. Out: a running stand-in, its URLs, the CA to trust, and its test controls.
//! How far it may be trusted: docs/stand-in.md and docs/adr/0006-apim-stand-in.md.

mod answer;
mod arm;
mod assertion;
pub mod command;
pub mod config;
pub mod control;
pub mod control_client;
pub mod fault;
mod gateway;
pub mod journal;
mod keys;
mod kind;
mod listen;
mod policy;
mod query;
mod state;
mod store;
pub mod switches;
mod tls;
mod token;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use config::{Certificate, Config, KeySource, Listen};
pub use control_client::Control;
pub use fault::{Action, Fault, Plane};
pub use state::Down;
pub use switches::Switches;

use gateway::Gateway;
use listen::{Role, Routing};
use state::Shared;

/// A running stand-in. It stops when this is dropped.
#[derive(Debug)]
pub struct StandIn {
    pub arm_url: String,
    pub login_url: String,
    pub gateway_url: String,
    pub control_url: String,
    /// Where the TLS ports listen: one for all planes, or ARM, login and gateway.
    pub tls_addresses: Vec<SocketAddr>,
    pub control: Control,
    /// PEM of the CA that issued the stand-in's certificate.
    pub ca_pem: String,
    stop: CancellationToken,
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl StandIn {
    pub async fn start(mut config: Config) -> anyhow::Result<Self> {
        let identity = tls::load(&config.certificate)?;
        let (sockets, control) = open(&mut config).await?;
        let control_url = format!("http://{}", control.local_addr()?);
        let (arm_url, login_url, gateway_url) = (
            config.arm_url.clone(),
            config.login_url.clone(),
            config.gateway_url.clone(),
        );
        let shared = Arc::new(Shared::new(config)?);
        let gateway = Arc::new(Gateway::new()?);
        let stop = CancellationToken::new();
        let tls_addresses = sockets
            .iter()
            .map(|(socket, _)| socket.local_addr())
            .collect::<Result<_, _>>()?;
        for (listener, routing) in sockets {
            let served = listen::serve(
                listener,
                Arc::clone(&identity.server),
                Arc::clone(&shared),
                Arc::clone(&gateway),
                routing,
                stop.clone(),
            );
            tokio::spawn(served);
        }
        let router = control::router(shared, identity.ca_pem.clone());
        let served = axum::serve(control, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        tokio::spawn(async move { served.await });
        Ok(Self {
            arm_url,
            login_url,
            gateway_url,
            control: Control::new(&control_url),
            control_url,
            tls_addresses,
            ca_pem: identity.ca_pem,
            stop,
        })
    }
}

type Sockets = Vec<(TcpListener, Routing)>;

/// Opens all ports, and sets the public URLs in the configuration. The second is the controls' port.
async fn open(config: &mut Config) -> anyhow::Result<(Sockets, TcpListener)> {
    match config.listen.clone() {
        Listen::Loopback => {
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let mut sockets = Sockets::new();
            let mut urls = Vec::new();
            for role in [Role::Arm, Role::Login, Role::Gateway] {
                let listener = bind(any).await?;
                urls.push(format!("https://localhost:{}", listener.local_addr()?.port()));
                sockets.push((listener, Routing::Fixed(role)));
            }
            if let [arm, login, gateway] = &urls[..] {
                (config.arm_url, config.login_url, config.gateway_url) =
                    (arm.clone(), login.clone(), gateway.clone());
            }
            Ok((sockets, bind(any).await?))
        }
        Listen::Hosts {
            tls,
            control,
            arm,
            login,
            gateway,
        } => {
            config.arm_url = format!("https://{arm}");
            config.login_url = format!("https://{login}");
            config.gateway_url = format!("https://{gateway}");
            Ok((
                vec![(bind(tls).await?, Routing::Hosts { arm, login })],
                bind(control).await?,
            ))
        }
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("failed to listen on {address}"))
}
