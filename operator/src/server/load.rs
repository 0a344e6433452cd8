//! Step `load`: everything that one server's spec refers to. In: the object and the caches; out: [`Loaded`].
//!
//! All from memory, but for the pods, which are asked for only while the workload is not all there.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use kube::api::{ListParams, PartialObjectMeta};
use kube::{Api, ResourceExt as _};
use mcp_fleet_crds::{McpGateway, McpServer};

use super::build::names;
use super::error::LoadError;
use crate::constants::labels;
use crate::kube_write::limited;
use crate::runtime::context::Context;

/// Enough to judge a workload by.
const PODS: u32 = 50;

/// What the pass works on, beside the object itself.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    pub gateways: Vec<Arc<McpGateway>>,
    /// All servers of the cluster, this one included.
    pub servers: Vec<Arc<McpServer>>,
    pub deployment: Option<Arc<Deployment>>,
    pub service: Option<Arc<Service>>,
    pub replica_key: Option<Arc<PartialObjectMeta<Secret>>>,
    /// What the gateway sends, as the pods have it.
    pub gateway_secret: Option<Arc<PartialObjectMeta<Secret>>>,
    /// Pods, while not all of them are available.
    pub pods: Vec<Pod>,
}

/// Loads.
pub async fn load(context: &Context, server: &McpServer) -> Result<Loaded, LoadError> {
    let (name, namespace) = (server.name_any(), server.namespace().unwrap_or_default());
    let caches = &context.caches;
    let deployment = caches.deployments.get(Some(&namespace), &name);
    let pods = match &deployment {
        Some(deployment) if !is_settled(deployment) => pods(context, &namespace, &name).await?,
        _ => vec![],
    };
    Ok(Loaded {
        gateways: caches.gateways.list(),
        servers: caches.servers.list(),
        service: caches.services.get(Some(&namespace), &name),
        replica_key: caches.secrets.get(Some(&namespace), &names::replica_key(&name)),
        gateway_secret: caches
            .secrets
            .get(Some(&namespace), &names::gateway_secret(&name)),
        deployment,
        pods,
    })
}

/// Whether every pod is of the newest template and available.
fn is_settled(deployment: &Deployment) -> bool {
    let wanted = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    deployment.status.as_ref().is_some_and(|status| {
        status.observed_generation == deployment.metadata.generation
            && status.replicas.unwrap_or(0) == wanted
            && status.updated_replicas.unwrap_or(0) == wanted
            && status.available_replicas.unwrap_or(0) == wanted
    })
}

async fn pods(context: &Context, namespace: &str, name: &str) -> Result<Vec<Pod>, LoadError> {
    let api = Api::<Pod>::namespaced(context.writer.client.clone(), namespace);
    let parameters = ListParams::default()
        .labels(&format!("{}={name}", labels::SERVER))
        .limit(PODS)
        .match_any();
    let list = limited("list", "Pod", name, api.list(&parameters)).await;
    list.map(|list| list.items).map_err(|source| LoadError::Pods {
        server: format!("{namespace}/{name}"),
        source,
    })
}
