//! A namespace of one trial, and what a trial does in it again and again.
//!
//! In: the world. Out: servers and accesses made, awaited and taken away; what of them is in API Management.

use std::sync::Arc;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use mcp_fleet_crds::{McpAccess, McpServer};
use mcp_fleet_e2e::install::Ready;
use serde_json::{Value as Json, json};

use crate::world::{CLUSTER_ID, SERVICE, World, gone, until};

/// A namespace of one trial.
pub(crate) struct Place {
    pub world: Arc<World>,
    pub namespace: String,
}

impl Place {
    pub(crate) async fn make(world: &Arc<World>, label: &str) -> Result<Self> {
        let namespace = format!("{label}-{:04x}", rand::random::<u16>());
        let object = json!({"metadata": {"name": namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
        let namespaces: Api<Namespace> = Api::all(world.client());
        namespaces
            .create(&PostParams::default(), &serde_json::from_value(object)?)
            .await?;
        Ok(Self {
            world: world.clone(),
            namespace,
        })
    }

    pub fn servers(&self) -> Api<McpServer> {
        Api::namespaced(self.world.client(), &self.namespace)
    }

    pub fn accesses(&self) -> Api<McpAccess> {
        Api::namespaced(self.world.client(), &self.namespace)
    }

    pub fn api<K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>>(
        &self,
    ) -> Api<K> {
        Api::namespaced(self.world.client(), &self.namespace)
    }

    /// Creates a server. What `spec` leaves out is chosen so that many fit on one small node.
    pub async fn create(&self, name: &str, spec: Json) -> Result<McpServer> {
        let object = json!({
            "apiVersion": "mcpfleet.dev/v1alpha1", "kind": "McpServer",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": small(spec),
        });
        Ok(self
            .servers()
            .create(&PostParams::default(), &serde_json::from_value(object)?)
            .await?)
    }

    /// Creates a server and waits until agents can use it.
    pub async fn create_ready(&self, name: &str, spec: Json) -> Result<McpServer> {
        self.create(name, spec).await?;
        self.ready(name).await
    }

    pub async fn ready(&self, name: &str) -> Result<McpServer> {
        let servers = self.servers();
        until(&format!("McpServer {name} to be Ready"), async || {
            let server = servers.get(name).await?;
            Ok(if server.is_ready() {
                Ok(server)
            } else {
                Err(server.troubles())
            })
        })
        .await
    }

    /// Merges `change` into the server and waits until it is Ready with it.
    pub async fn change(&self, name: &str, change: Json) -> Result<McpServer> {
        self.patch(name, change).await?;
        self.ready(name).await
    }

    pub async fn patch(&self, name: &str, change: Json) -> Result<McpServer> {
        Ok(self
            .servers()
            .patch(name, &PatchParams::default(), &Patch::Merge(change))
            .await?)
    }

    /// Waits until a condition has this status and reason; answers its message.
    pub async fn condition(&self, name: &str, type_: &str, status: &str, reason: &str) -> Result<String> {
        let servers = self.servers();
        until(
            &format!("{type_}={status} {reason} of McpServer {name}"),
            async || {
                let server = servers.get(name).await?;
                let found = server
                    .condition(type_)
                    .filter(|found| found.status == status && found.reason == reason);
                Ok(found.map(|found| found.message).ok_or_else(|| server.troubles()))
            },
        )
        .await
    }

    /// Makes an access to servers of this namespace and waits for its key.
    pub async fn access(&self, name: &str, servers: &[&str]) -> Result<Secret> {
        let servers: Vec<_> = servers.iter().map(|name| json!({"name": name})).collect();
        let object = json!({
            "apiVersion": "mcpfleet.dev/v1alpha1", "kind": "McpAccess",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"servers": servers},
        });
        self.accesses()
            .create(&PostParams::default(), &serde_json::from_value(object)?)
            .await?;
        self.access_ready(name).await?;
        Ok(self.api::<Secret>().get(&format!("{name}-mcp")).await?)
    }

    pub async fn access_ready(&self, name: &str) -> Result<McpAccess> {
        let accesses = self.accesses();
        until(&format!("McpAccess {name} to be Ready"), async || {
            let access = accesses.get(name).await?;
            Ok(if access.is_ready() {
                Ok(access)
            } else {
                Err(access.troubles())
            })
        })
        .await
    }

    pub async fn delete(&self, name: &str) -> Result<()> {
        self.servers()
            .delete(name, &DeleteParams::default())
            .await
            .map(drop)
            .or_else(gone)
    }

    /// Waits until the server and all it made in the cluster are gone.
    pub async fn server_gone(&self, name: &str) -> Result<()> {
        let servers = self.servers();
        until(&format!("the end of McpServer {name}"), async || {
            let server = servers.get_opt(name).await?;
            Ok(server.map_or(Ok(()), |server| Err(server.troubles())))
        })
        .await?;
        let resources = [
            "deployments",
            "services",
            "pods",
            "secrets",
            "poddisruptionbudgets",
            "networkpolicies",
            "serviceaccounts",
        ];
        let kubectl = self.world.kubectl();
        until(
            &format!("the end of the children of McpServer {name}"),
            async || {
                let selector = format!("mcpfleet.dev/server={name}");
                let left = kubectl
                    .run([
                        "get",
                        &resources.join(","),
                        "-n",
                        &self.namespace,
                        "-l",
                        &selector,
                        "-o",
                        "name",
                    ])
                    .await?;
                Ok(if left.trim().is_empty() { Ok(()) } else { Err(left) })
            },
        )
        .await
    }

    /// Part of every ARM path that belongs to a server or access of this namespace.
    pub fn arm_part(&self) -> String {
        format!("{CLUSTER_ID}-{}-", self.namespace)
    }

    /// Paths in API Management that belong to this namespace.
    pub async fn documents(&self) -> Result<Vec<String>> {
        let paths = self.world.control().paths().await?;
        let part = self.arm_part();
        Ok(paths.into_iter().filter(|path| path.contains(&part)).collect())
    }

    /// Writes to ARM since `since`, as `PUT apis/..`.
    pub async fn writes(&self, since: u64) -> Result<Vec<String>> {
        let requests = self.world.arm_requests(since, &self.arm_part()).await?;
        let writes = requests
            .iter()
            .filter(|entry| !matches!(entry.method.as_str(), "GET" | "HEAD"));
        Ok(writes
            .map(|entry| format!("{} {}", entry.method, short(&entry.path)))
            .collect())
    }
}

/// An ARM path below the service, without query and without the names of ours.
pub fn short(path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    let below = path
        .split_once(&format!("/service/{SERVICE}/"))
        .map_or(path, |(_, below)| below);
    let parts = below.split('/').map(|part| {
        if part.starts_with(&format!("{CLUSTER_ID}-")) {
            "*"
        } else {
            part
        }
    });
    parts.collect::<Vec<_>>().join("/")
}

/// One replica with small requests, unless the spec says otherwise.
fn small(mut spec: Json) -> Json {
    if spec.get("replicas").is_none() {
        spec["replicas"] = json!(1);
    }
    if spec.get("resources").is_none() {
        spec["resources"] =
            json!({"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"memory": "128Mi"}});
    }
    spec
}

pub fn gateway_url(server: &McpServer) -> Result<String> {
    let endpoints = server.status.as_ref().and_then(|status| status.endpoints.clone());
    endpoints
        .and_then(|endpoints| endpoints.gateway)
        .with_context(|| format!("{} has no gateway URL", server.name_any()))
}

pub fn balancer_url(server: &McpServer) -> Result<String> {
    let endpoints = server.status.as_ref().and_then(|status| status.endpoints.clone());
    endpoints
        .and_then(|endpoints| endpoints.load_balancer)
        .with_context(|| format!("{} has no load-balancer URL", server.name_any()))
}

/// Path below the service of the server's API.
pub fn api_path(server: &McpServer) -> Result<String> {
    let registered = server.status.as_ref().and_then(|status| status.gateway.clone());
    let id = registered
        .and_then(|registered| registered.api_id)
        .with_context(|| format!("{} has no API", server.name_any()))?;
    Ok(format!("apis/{}", id.rsplit('/').next().unwrap_or_default()))
}

pub fn entry(secret: &Secret, name: &str) -> Result<String> {
    let data = secret
        .data
        .as_ref()
        .and_then(|data| data.get(name))
        .with_context(|| format!("the Secret has no {name}"))?;
    Ok(String::from_utf8(data.0.clone())?)
}
