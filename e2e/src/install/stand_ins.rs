//! Fourth step of an installation: what takes the places of Azure and of the weather service.
//!
//! In: certificates and the gateway's port. Out: namespaces `azure` and `noaa`, serving; on a local cluster Azure's names also
//! mean them outside.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use serde_json::json;

use super::authority::Certificates;
use super::images::STAND_IN_IMAGE;
use super::kubectl::Kubectl;
use super::waiting::{Awaited, wait_for};
use crate::apim::Control;
use crate::cluster::Cluster;
use crate::progress::Progress;

pub const AZURE_NAMESPACE: &str = "azure";
pub(crate) const NOAA_NAMESPACE: &str = "noaa";
/// Where Azure's three names listen.
pub const PORT: u16 = 8443;
pub const ARM_HOST: &str = "arm.azure.svc.cluster.local";
pub const LOGIN_HOST: &str = "login.azure.svc.cluster.local";
pub const GATEWAY_HOST: &str = "gateway.azure.svc.cluster.local";
pub(crate) const NWS_URL: &str = "http://api.noaa.svc.cluster.local:8080";
const CONTROL_PORT: u16 = 9000;
const LIMIT: Duration = Duration::from_mins(2);

/// The two manifests, with the gaps filled.
pub(crate) fn manifests(cluster: &Cluster, certificates: &Certificates, gateway_port: u16) -> Vec<String> {
    let arguments = json!([
        "stand-in",
        "--tls-certificate=/tls/tls.crt",
        "--tls-key=/tls/tls.key",
        "--tls-ca=/tls/ca.crt",
        "--public-ip=$(POD_IP)",
        format!("--listen=0.0.0.0:{PORT}"),
        format!("--control=0.0.0.0:{CONTROL_PORT}"),
        format!("--arm-host={ARM_HOST}:{PORT}"),
        format!("--login-host={LOGIN_HOST}:{PORT}"),
        format!("--gateway-host={GATEWAY_HOST}:{gateway_port}"),
    ]);
    // A local cluster's outside reaches load balancers only; a foreign one may hand out no addresses, or public ones.
    let service_type = if cluster.is_local() {
        "LoadBalancer"
    } else {
        "ClusterIP"
    };
    let azure = include_str!("../../manifests/azure.yaml")
        .replace("${CERTIFICATE}", &json!(certificates.certificate).to_string())
        .replace("${KEY}", &json!(certificates.key).to_string())
        .replace("${AUTHORITY}", &json!(certificates.authority).to_string())
        .replace("${ARGUMENTS}", &arguments.to_string())
        .replace("${GATEWAY_PORT}", &gateway_port.to_string())
        .replace("${SERVICE_TYPE}", service_type)
        .replace("${IMAGE}", STAND_IN_IMAGE);
    let noaa = include_str!("../../manifests/noaa.yaml").replace("${IMAGE}", STAND_IN_IMAGE);
    vec![azure, noaa]
}

pub(crate) async fn apply(cluster: &Cluster, certificates: &Certificates, gateway_port: u16) -> Result<()> {
    let kubectl = Kubectl::of(cluster);
    for manifest in manifests(cluster, certificates, gateway_port) {
        kubectl
            .apply(&manifest)
            .await
            .context("failed to start the stand-ins")?;
    }
    Ok(())
}

/// Until both serve and, on a local cluster, Azure's names are known outside.
pub(crate) async fn wait(cluster: &Cluster, progress: &Progress) -> Result<()> {
    wait_for_deployment(cluster, NOAA_NAMESPACE, "api", progress).await?;
    wait_for_deployment(cluster, AZURE_NAMESPACE, "apim", progress).await?;
    if cluster.is_local() {
        for (service, host) in [("arm", ARM_HOST), ("gateway", GATEWAY_HOST)] {
            cluster.map_host(host, balancer_address(cluster, service, progress).await?)?;
        }
    }
    Ok(())
}

async fn balancer_address(cluster: &Cluster, service: &str, progress: &Progress) -> Result<Ipv4Addr> {
    let services: Api<Service> = Api::namespaced(cluster.client(), AZURE_NAMESPACE);
    wait_for(
        progress,
        &format!("an address of Service {service}"),
        LIMIT,
        async || {
            let found = services.get(service).await?;
            let ingress = found
                .status
                .and_then(|status| status.load_balancer?.ingress)
                .unwrap_or_default();
            let address = ingress
                .first()
                .and_then(|ingress| ingress.ip.as_deref()?.parse().ok());
            Ok(address.map_or_else(|| Awaited::Not("none yet".to_owned()), Awaited::Done))
        },
    )
    .await
}

pub(crate) async fn wait_for_deployment(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    progress: &Progress,
) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(cluster.client(), namespace);
    let waited = wait_for(
        progress,
        &format!("Deployment {namespace}/{name}"),
        LIMIT,
        async || {
            let deployment = deployments.get(name).await?;
            let wanted = deployment.spec.and_then(|spec| spec.replicas).unwrap_or(1);
            let status = deployment.status.unwrap_or_default();
            let (updated, ready) = (
                status.updated_replicas.unwrap_or(0),
                status.available_replicas.unwrap_or(0),
            );
            let current = status.observed_generation >= deployment.metadata.generation;
            let done = current && updated == wanted && ready == wanted && status.replicas == Some(wanted);
            Ok(if done {
                Awaited::Done(())
            } else {
                Awaited::Not(format!("{ready} of {wanted} pods ready"))
            })
        },
    )
    .await;
    super::diagnosis::why(waited, cluster, &[namespace]).await
}

/// The stand-in's test controls, reached from the host.
pub(crate) async fn control(cluster: &Cluster) -> Result<Control> {
    let address = cluster
        .forward(AZURE_NAMESPACE, "control", CONTROL_PORT, 0)
        .await?;
    Ok(Control::new(format!("http://{address}")))
}
