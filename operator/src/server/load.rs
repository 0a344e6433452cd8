//! Step `load`: everything that one server's spec refers to. In: the object and the caches; out: [`Loaded`].
//!
//! All from memory, but for the pods, which are asked for only while the workload is not all there, for the claims that volumes
//! name, and for ConfigMaps and Secrets that are new.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret, Service};
use kube::api::{ListParams, PartialObjectMeta};
use kube::{Api, ResourceExt as _};
use mcp_fleet_crds::{McpGateway, McpServer};

use super::build::names;
use super::error::LoadError;
use super::references::references;
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
    pub extra_ports: Option<Arc<Service>>,
    pub replica_key: Option<Arc<PartialObjectMeta<Secret>>>,
    /// What the gateway sends, as the pods have it.
    pub gateway_secret: Option<Arc<PartialObjectMeta<Secret>>>,
    /// Access modes of the claims that the spec's volumes name, by the claim's name; without those that are not there.
    pub access_modes: BTreeMap<String, Vec<String>>,
    /// Stands for the content of the ConfigMaps and Secrets that the spec refers to; absent where there are none, or
    /// where their change is not to replace pods.
    pub config_digest: Option<String>,
    /// Somebody else scales the Deployment.
    pub autoscaled: bool,
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
        extra_ports: caches.services.get(Some(&namespace), &names::extra_ports(&name)),
        replica_key: caches.secrets.get(Some(&namespace), &names::replica_key(&name)),
        gateway_secret: caches
            .secrets
            .get(Some(&namespace), &names::gateway_secret(&name)),
        deployment,
        access_modes: access_modes(context, server, &namespace).await?,
        config_digest: config_digest(context, server, &namespace, &name).await?,
        autoscaled: context.autoscalers.scales(&namespace, &name),
        pods,
    })
}

async fn config_digest(
    context: &Context,
    server: &McpServer,
    namespace: &str,
    name: &str,
) -> Result<Option<String>, LoadError> {
    let references = if server.spec.restart_on_config_change {
        references(&server.spec)
    } else {
        BTreeSet::new()
    };
    let (client, keys) = (&context.writer.client, &context.probe_keys);
    let digest = context
        .configs
        .digest(client, keys, namespace, name, references)
        .await;
    digest.map_err(|source| LoadError::Reference {
        server: format!("{namespace}/{name}"),
        source,
    })
}

/// Access modes never change in a claim, but a claim can be made anew, so they are asked for in every pass; few servers have
/// any.
async fn access_modes(
    context: &Context,
    server: &McpServer,
    namespace: &str,
) -> Result<BTreeMap<String, Vec<String>>, LoadError> {
    let mut found = BTreeMap::new();
    let template = server.spec.pod_template.as_ref();
    let volumes = template
        .map(|template| template.volumes.as_slice())
        .unwrap_or_default();
    if server.spec.strategy.is_some() {
        return Ok(found);
    }
    let api = Api::<PersistentVolumeClaim>::namespaced(context.writer.client.clone(), namespace);
    for claim in volumes
        .iter()
        .filter_map(|volume| volume.persistent_volume_claim.as_ref())
    {
        let name = &claim.claim_name;
        let present = limited("get", "PersistentVolumeClaim", name, api.get_opt(name)).await;
        let present = present.map_err(|source| LoadError::Reference {
            server: format!("{namespace}/{}", server.name_any()),
            source,
        })?;
        if let Some(spec) = present.and_then(|claim| claim.spec) {
            found.insert(name.clone(), spec.access_modes.unwrap_or_default());
        }
    }
    Ok(found)
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
