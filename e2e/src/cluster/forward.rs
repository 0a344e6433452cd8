//! Forwarding: a port of the host that leads to a Service's pods.
//!
//! In: a listener on 127.0.0.1. Out: every connection to it copied to the Service. On the local cluster this dials the Service's
//! cluster address from the node; on a foreign one it goes through the API server, as `kubectl port-forward` does.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

/// A Service and the port that it serves on.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) namespace: String,
    pub(crate) service: String,
    pub(crate) port: u16,
}

impl Target {
    fn name(&self) -> String {
        format!("Service {}/{} port {}", self.namespace, self.service, self.port)
    }
}

/// Copies connections until dropped. With `node`, the runtime of the node's network, else through the API server.
pub(crate) async fn serve(listener: TcpListener, client: Client, target: Target, node: Option<Handle>) {
    while let Ok((connection, _)) = listener.accept().await {
        let (client, target, node) = (client.clone(), target.clone(), node.clone());
        tokio::spawn(async move {
            let result = match node {
                Some(node) => through_node(connection, &client, &target, &node).await,
                None => through_api_server(connection, &client, &target).await,
            };
            if let Err(error) = result {
                tracing::debug!(target = target.name(), "failed to forward: {error:#}");
            }
        });
    }
}

async fn through_node(connection: TcpStream, client: &Client, target: &Target, node: &Handle) -> Result<()> {
    // Asked for each connection: a test may delete the Service and create it again.
    let services: Api<Service> = Api::namespaced(client.clone(), &target.namespace);
    let service = services
        .get(&target.service)
        .await
        .with_context(|| format!("failed to get {}", target.name()))?;
    let address = service
        .spec
        .and_then(|spec| spec.cluster_ip)
        .context("failed to forward: the Service has no cluster address")?;
    let address = SocketAddr::new(
        address
            .parse()
            .context("failed to forward: the Service is headless")?,
        target.port,
    );
    relay(connection, address, node).await
}

/// Copies between a connection of the host and an address that `node`'s network knows.
pub(crate) async fn relay(connection: TcpStream, address: SocketAddr, node: &Handle) -> Result<()> {
    // A socket belongs to one runtime, so the connection moves to the one that dials.
    let connection = connection.into_std()?;
    node.spawn(async move {
        let mut connection = TcpStream::from_std(connection)?;
        let mut server = TcpStream::connect(address)
            .await
            .with_context(|| format!("failed to connect to {address}"))?;
        connection.set_nodelay(true)?;
        server.set_nodelay(true)?;
        copy_bidirectional(&mut connection, &mut server).await?;
        Ok(())
    })
    .await?
}

async fn through_api_server(mut connection: TcpStream, client: &Client, target: &Target) -> Result<()> {
    let (pod, port) = ready_pod(client, target).await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), &target.namespace);
    let mut forwarder = pods
        .portforward(&pod, &[port])
        .await
        .with_context(|| format!("failed to reach pod {pod}"))?;
    let mut stream = forwarder
        .take_stream(port)
        .with_context(|| format!("failed to reach pod {pod}"))?;
    copy_bidirectional(&mut connection, &mut stream).await?;
    drop(stream);
    forwarder.join().await?;
    Ok(())
}

/// A ready pod behind the Service and its own port for the Service's.
async fn ready_pod(client: &Client, target: &Target) -> Result<(String, u16)> {
    let services: Api<Service> = Api::namespaced(client.clone(), &target.namespace);
    let service = services
        .get(&target.service)
        .await
        .with_context(|| format!("failed to get {}", target.name()))?;
    let ports = service.spec.and_then(|spec| spec.ports).unwrap_or_default();
    let port = ports.into_iter().find(|port| port.port == i32::from(target.port));
    let port = port.with_context(|| format!("failed to find {}", target.name()))?;
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), &target.namespace);
    let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={}", target.service));
    let found = slices
        .list(&of_service)
        .await?
        .items
        .into_iter()
        .find_map(|slice| pod_of(&slice, port.name.as_deref()));
    found.with_context(|| format!("failed to find a ready pod behind {}", target.name()))
}

fn pod_of(slice: &EndpointSlice, port_name: Option<&str>) -> Option<(String, u16)> {
    let named = |name: Option<&str>| {
        name.filter(|name| !name.is_empty()) == port_name.filter(|name| !name.is_empty())
    };
    let port = slice
        .ports
        .iter()
        .flatten()
        .find(|port| named(port.name.as_deref()))?
        .port?;
    let ready = slice.endpoints.iter().flatten().find(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        conditions.and_then(|conditions| conditions.ready).unwrap_or(true)
    })?;
    Some((
        ready.target_ref.as_ref()?.name.clone()?,
        u16::try_from(port).ok()?,
    ))
}
