//! The world that all trials share: one cluster with everything installed, and a namespace of its own for each trial.
//!
//! In: a machine, or with MCP_FLEET_KUBECONFIG a cluster. Out: [`World`], what it can be asked, and how to wait.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use mcp_fleet_crds::{McpAccess, McpGateway, McpServer};
use mcp_fleet_e2e::apim::Control;
use mcp_fleet_e2e::apim::journal::ArmEntry;
use mcp_fleet_e2e::clients::{Clients, Sdk};
use mcp_fleet_e2e::cluster::Cluster;
use mcp_fleet_e2e::demo::call::{self, Agent};
use mcp_fleet_e2e::install::{
    self, ACCESS, ARM_HOST, GATEWAY, GATEWAY_HOST, Installed, Kubectl, LOGIN_HOST, Settings, Value, WEATHER,
    diagnose, wait_for_ready,
};
use mcp_fleet_e2e::progress::Progress;
use serde_json::{Value as Json, json};
use tokio::sync::RwLock;

use crate::place::Place;

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
        let clients = Clients::prepare(&[Sdk::Python, Sdk::TypeScript], progress);
        let (installed, clients) = tokio::try_join!(install::install(cluster, &settings, progress), clients)?;
        for example in [GATEWAY, WEATHER, ACCESS] {
            example.apply(cluster).await?;
        }
        let client = cluster.client();
        // Trials of what a platform may allow; those of what it does not have gateways of their own.
        let allow = json!({"spec": {"allow": {"orphan": true}}});
        Api::<McpGateway>::all(client.clone())
            .patch("contoso", &PatchParams::default(), &Patch::Merge(allow))
            .await?;
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
