//! The world that all trials share: one cluster with everything installed, and a namespace of its own for each trial.
//!
//! In: a machine, or with MCP_FLEET_KUBECONFIG a cluster. Out: [`World`], and [`Place`] with what a trial does again and again.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use mcp_fleet_crds::{McpAccess, McpGateway, McpServer};
use mcp_fleet_e2e::apim::Control;
use mcp_fleet_e2e::apim::journal::ArmEntry;
use mcp_fleet_e2e::cluster::Cluster;
use mcp_fleet_e2e::demo::call::{self, Agent};
use mcp_fleet_e2e::install::{
    self, ACCESS, ARM_HOST, GATEWAY, GATEWAY_HOST, Installed, Kubectl, LOGIN_HOST, Ready, Settings, Value,
    WEATHER, diagnose, wait_for_ready,
};
use mcp_fleet_e2e::progress::Progress;
use serde_json::{Value as Json, json};
use tokio::sync::RwLock;

use crate::clients::Clients;

/// Long enough for a busy machine; a wait ends as soon as its condition holds.
pub const LIMIT: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(100);
/// Short, so that tests of drift and silence need not wait long.
pub const DRIFT_SECONDS: u64 = 10;
pub const TENANT: &str = "00000000-0000-0000-0000-00000000000a";
pub const CLIENT_ID: &str = "00000000-0000-0000-0000-00000000000c";
pub const SUBSCRIPTION: &str = "00000000-0000-0000-0000-000000000001";
pub const RESOURCE_GROUP: &str = "demo";
pub const SERVICE: &str = "contoso";
pub const CLUSTER_ID: &str = "demo";

pub(crate) struct World {
    pub cluster: Cluster,
    pub installed: Installed,
    pub clients: Clients,
    pub progress: Progress,
    /// Trials that change the world for all others hold it alone.
    pub alone: RwLock<()>,
}

impl World {
    /// Starts it all and applies the examples, which some trials look at.
    pub async fn start(progress: Progress) -> Result<Self> {
        let cluster = Cluster::start(&progress).await?;
        match Self::fill(&cluster, &progress).await {
            Ok((installed, clients)) => Ok(Self {
                cluster,
                installed,
                clients,
                progress,
                alone: RwLock::new(()),
            }),
            Err(error) => {
                cluster.stop().await?;
                Err(error)
            }
        }
    }

    async fn fill(cluster: &Cluster, progress: &Progress) -> Result<(Installed, Clients)> {
        let values = vec![
            Value::new("driftSeconds", DRIFT_SECONDS),
            Value::new("leaseSeconds", 5),
        ];
        let settings = Settings {
            gateway_port: None,
            values,
        };
        let clients = Clients::prepare(progress);
        let (installed, clients) = tokio::try_join!(install::install(cluster, &settings, progress), clients)?;
        for example in [GATEWAY, WEATHER, ACCESS] {
            example.apply(cluster).await?;
        }
        let client = cluster.client();
        wait_for_ready::<McpGateway>(cluster, &Api::all(client.clone()), "contoso", LIMIT, progress).await?;
        wait_for_ready::<McpServer>(
            cluster,
            &Api::namespaced(client.clone(), "tools"),
            "weather",
            LIMIT,
            progress,
        )
        .await?;
        wait_for_ready::<McpAccess>(
            cluster,
            &Api::namespaced(client, "tools"),
            "agents",
            LIMIT,
            progress,
        )
        .await?;
        Ok((installed, clients))
    }

    pub async fn stop(self) -> Result<()> {
        let Self {
            cluster,
            installed,
            progress,
            ..
        } = self;
        if cluster.is_local() {
            return cluster.stop().await;
        }
        install::remove(&cluster, &installed, &progress).await
    }

    pub fn client(&self) -> Client {
        self.cluster.client()
    }

    pub fn control(&self) -> &Control {
        &self.installed.control
    }

    pub fn kubectl(&self) -> Kubectl {
        Kubectl::of(&self.cluster)
    }

    /// A namespace of its own, gone afterwards; a failure says what the namespace looked like.
    pub async fn with_place<T>(
        self: &Arc<Self>,
        label: &str,
        test: impl AsyncFnOnce(&Place) -> Result<T>,
    ) -> Result<T> {
        let place = Place::make(self, label).await?;
        let result = test(&place).await;
        let result = match result {
            Ok(answer) => Ok(answer),
            Err(error) => Err(error.context(diagnose(&self.cluster, &[&place.namespace]).await)),
        };
        let namespaces: Api<Namespace> = Api::all(self.client());
        namespaces
            .delete(&place.namespace, &DeleteParams::default())
            .await
            .map(drop)
            .or_else(gone)?;
        result
    }

    /// The token of the operator's service account that Entra exchanges.
    pub async fn federated_token(&self) -> Result<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(), install::OPERATOR_NAMESPACE);
        let request =
            json!({"spec": {"audiences": ["api://AzureADTokenExchange"], "expirationSeconds": 3600}});
        let request = serde_json::from_value(request)?;
        let answer = accounts
            .create_token_request("mcp-fleet-operator", &PostParams::default(), &request)
            .await?;
        answer.status.and_then(|status| status.token).context("no token")
    }

    /// A token that the ARM plane takes, got as the operator gets its own.
    pub async fn arm_token(&self) -> Result<String> {
        let assertion = self.federated_token().await?;
        let url = format!(
            "https://{LOGIN_HOST}:{}/{TENANT}/oauth2/v2.0/token",
            self.installed.arm.port()
        );
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", CLIENT_ID),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("client_assertion", &assertion),
            ("scope", "https://management.azure.com/.default"),
        ];
        let answer = self
            .https(LOGIN_HOST)?
            .post(url)
            .form(&form)
            .send()
            .await?
            .error_for_status()?;
        let answer: Json = answer.json().await?;
        Ok(answer["access_token"]
            .as_str()
            .context("no access token")?
            .to_owned())
    }

    /// A client on the host for one of Azure's names.
    pub fn https(&self, host: &str) -> Result<reqwest::Client> {
        call::client(&self.installed.authority(), host, self.installed.arm)
    }

    /// A request to ARM, as somebody else than the operator would make it.
    pub async fn arm(&self, method: reqwest::Method, path: &str, body: Option<Json>) -> Result<Json> {
        let base = format!("https://{ARM_HOST}:{}", self.installed.arm.port());
        let service = format!(
            "/subscriptions/{SUBSCRIPTION}/resourceGroups/{RESOURCE_GROUP}/providers/Microsoft.ApiManagement/service/{SERVICE}"
        );
        let url = format!("{base}{service}/{path}?api-version=2024-05-01");
        let mut request = self
            .https(ARM_HOST)?
            .request(method, &url)
            .bearer_auth(self.arm_token().await?)
            .header("If-Match", "*");
        if let Some(body) = &body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let (status, text) = (response.status(), response.text().await?);
        ensure!(status.is_success(), "ARM answered {status} for {url}: {text}");
        Ok(serde_json::from_str(&text).unwrap_or(Json::Null))
    }

    /// The same address, reached from the host.
    pub fn on_host(&self, url: &str) -> String {
        url.replace(
            &format!("{GATEWAY_HOST}:{}", self.installed.gateway_port),
            &format!("{GATEWAY_HOST}:{}", self.installed.gateway.port()),
        )
    }

    /// An agent on the host that calls through the gateway.
    pub fn agent(&self, url: &str, key: Option<&str>) -> Result<Agent> {
        Ok(Agent {
            client: call::client(&self.installed.authority(), GATEWAY_HOST, self.installed.gateway)?,
            url: self.on_host(url),
            key: key.map(str::to_owned),
        })
    }

    /// The end of the journal, to look from there.
    pub async fn now(&self) -> Result<u64> {
        Ok(self.control().requests(u64::MAX).await?.last)
    }

    /// ARM requests since `since` whose path has `part`.
    pub async fn arm_requests(&self, since: u64, part: &str) -> Result<Vec<ArmEntry>> {
        let all = self.control().requests(since).await?.requests;
        Ok(all
            .into_iter()
            .filter(|entry| entry.path.contains(part))
            .collect())
    }
}

/// A namespace of one trial.
pub(crate) struct Place {
    pub world: Arc<World>,
    pub namespace: String,
}

impl Place {
    async fn make(world: &Arc<World>, label: &str) -> Result<Self> {
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

/// Asks until the answer is yes; when the limit is over, the last no is the error.
pub async fn until<T, N: Debug>(
    what: &str,
    ask: impl AsyncFnMut() -> Result<std::result::Result<T, N>>,
) -> Result<T> {
    until_within(LIMIT, what, ask).await
}

pub async fn until_within<T, N: Debug>(
    limit: Duration,
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<std::result::Result<T, N>>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        match ask().await? {
            Ok(answer) => return Ok(answer),
            Err(no) if started.elapsed() > limit => bail!(
                "failed to see {what} within {} s; at the end: {no:?}",
                limit.as_secs()
            ),
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// What is not there any more is as good as deleted.
pub fn gone(error: kube::Error) -> Result<()> {
    match error {
        kube::Error::Api(status) if status.code == 404 => Ok(()),
        error => Err(error.into()),
    }
}

/// The folder of the client scripts.
pub fn client_scripts() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/clients"))
}
