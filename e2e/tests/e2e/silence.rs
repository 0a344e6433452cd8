//! Steady state (what must be seen 4): a second pass, a restart, the same values and the same YAML again write nothing.
//!
//! Writes to Kubernetes are read from the API server's audit log where there is one, and from resource versions; writes to API Management
//! from the stand-in's journal.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Resource, ResourceExt};
use mcp_fleet_crds::{McpAccess, McpGateway, McpServer};
use mcp_fleet_e2e::install::{self, ACCESS, GATEWAY, OPERATOR_NAMESPACE, WEATHER};
use mcp_fleet_e2e::progress::Progress;
use serde::de::DeserializeOwned;

use crate::Test;
use crate::world::{World, until};

const OPERATOR: &str = "system:serviceaccount:mcp-fleet-system:mcp-fleet-operator";
const NAMESPACE: &str = "tools";
/// More than any delay with which the operator gathers changes before it writes.
const QUIET: Duration = Duration::from_secs(8);

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("silence::a_second_pass_writes_nothing", second_pass).alone(),
        Test::new("silence::an_operator_restart_writes_nothing", restart).alone(),
        Test::new(
            "silence::helm_upgrade_with_the_same_values_writes_nothing",
            upgrade,
        )
        .alone(),
        Test::new("silence::applying_the_same_yaml_again_writes_nothing", reapply).alone(),
    ]
}

/// The world before, to compare with.
struct Before {
    versions: BTreeMap<String, String>,
    journal: u64,
    audit: u64,
}

impl Before {
    async fn look(world: &World) -> Result<Self> {
        quiet(world).await?;
        Ok(Self {
            versions: versions(world).await?,
            journal: world.now().await?,
            audit: audit_length(world)?,
        })
    }

    /// The operator has looked at every API since, and wrote nothing anywhere.
    async fn nothing_written(&self, world: &World) -> Result<()> {
        let result = self.compare(world).await;
        install::why(result, &world.cluster, &[NAMESPACE, OPERATOR_NAMESPACE]).await
    }

    async fn compare(&self, world: &World) -> Result<()> {
        let writes = arm_writes(world, self.journal).await?;
        ensure!(
            writes.is_empty(),
            "nothing is written to API Management: {writes:?}"
        );
        let (versions, written) = (versions(world).await?, audited_writes(world, self.audit)?);
        ensure!(
            versions == self.versions,
            "no object is written:\n{:?}\n{versions:?}\nby the operator: {written:?}",
            self.versions
        );
        ensure!(
            written.is_empty(),
            "the API server has seen no write by the operator: {written:?}"
        );
        Ok(())
    }
}

async fn arm_since(world: &World, since: u64) -> Result<Vec<(String, String)>> {
    let requests = world.control().requests(since).await?.requests;
    Ok(requests
        .into_iter()
        .map(|entry| (entry.method, entry.path))
        .collect())
}

/// Waits until what earlier trials left behind has gone, so that nobody has a reason to write.
async fn quiet(world: &World) -> Result<()> {
    let servers: Api<McpServer> = Api::all(world.client());
    until("an end of what other trials made", async || {
        let left: Vec<_> = servers
            .list(&ListParams::default())
            .await?
            .items
            .iter()
            .filter(|server| server.namespace().as_deref() != Some(NAMESPACE))
            .map(ResourceExt::name_any)
            .collect();
        Ok(if left.is_empty() { Ok(()) } else { Err(left) })
    })
    .await?;
    let (mut journal, mut audit, mut since) = (world.now().await?, audit_length(world)?, Instant::now());
    until("a while without a write by the operator", async || {
        let writes = arm_writes(world, journal).await?.len() + audited_writes(world, audit)?.len();
        if writes > 0 {
            (journal, audit, since) = (world.now().await?, audit_length(world)?, Instant::now());
        }
        let quiet = since.elapsed();
        Ok(if quiet >= QUIET { Ok(()) } else { Err(quiet) })
    })
    .await
}

/// Writes to API Management, by whomever.
async fn arm_writes(world: &World, since: u64) -> Result<Vec<(String, String)>> {
    let requests = arm_since(world, since).await?;
    let writes = requests
        .into_iter()
        .filter(|(method, _)| !matches!(method.as_str(), "GET" | "HEAD"));
    Ok(writes.collect())
}

/// Waits until the operator has looked at the example's API this many times: each look reads its policy, and lists show the rest.
async fn passes(world: &World, since: u64, count: usize) -> Result<()> {
    until("the operator's next looks at API Management", async || {
        let looks = arm_since(world, since)
            .await?
            .iter()
            .filter(|(method, path)| {
                method == "GET" && path.contains("/apis/demo-tools-weather") && path.contains("/policies")
            })
            .count();
        Ok(if looks >= count { Ok(()) } else { Err(looks) })
    })
    .await
}

async fn second_pass(world: Arc<World>) -> Result<()> {
    let before = Before::look(&world).await?;
    passes(&world, before.journal, 2).await?;
    before.nothing_written(&world).await
}

async fn restart(world: Arc<World>) -> Result<()> {
    let before = Before::look(&world).await?;
    let pods: Api<Pod> = Api::namespaced(world.client(), OPERATOR_NAMESPACE);
    let old: BTreeSet<_> = pods
        .list(&ListParams::default())
        .await?
        .items
        .iter()
        .filter_map(ResourceExt::uid)
        .collect();
    pods.delete_collection(&DeleteParams::default(), &ListParams::default())
        .await?;
    until("the end of the old operator", async || {
        let now = pods.list(&ListParams::default()).await?.items;
        let left = now
            .iter()
            .filter(|pod| pod.uid().is_some_and(|uid| old.contains(&uid)))
            .count();
        Ok(if left == 0 { Ok(()) } else { Err(left) })
    })
    .await?;
    // What is read from here on is read by the new one.
    let since = world.now().await?;
    passes(&world, since, 2).await?;
    before.nothing_written(&world).await
}

async fn upgrade(world: Arc<World>) -> Result<()> {
    let before = Before::look(&world).await?;
    install::upgrade(&world.cluster, &world.installed, &Progress::to(|_| {})).await?;
    passes(&world, before.journal, 1).await?;
    before.nothing_written(&world).await
}

async fn reapply(world: Arc<World>) -> Result<()> {
    let before = Before::look(&world).await?;
    for example in [GATEWAY, WEATHER, ACCESS] {
        let said = example.apply(&world.cluster).await?;
        ensure!(
            !said.contains("configured") && !said.contains("created"),
            "kubectl changes nothing: {said}"
        );
    }
    passes(&world, before.journal, 1).await?;
    before.nothing_written(&world).await
}

/// Resource versions of our objects and of all children. A Deployment's own status moves by others; its generation by its spec alone.
async fn versions(world: &World) -> Result<BTreeMap<String, String>> {
    let mut versions = BTreeMap::new();
    add::<McpServer>(&mut versions, &Api::namespaced(world.client(), NAMESPACE)).await?;
    add::<McpAccess>(&mut versions, &Api::namespaced(world.client(), NAMESPACE)).await?;
    add::<McpGateway>(&mut versions, &Api::all(world.client())).await?;
    add::<Service>(&mut versions, &Api::namespaced(world.client(), NAMESPACE)).await?;
    add::<Secret>(&mut versions, &Api::namespaced(world.client(), NAMESPACE)).await?;
    add::<ConfigMap>(&mut versions, &Api::namespaced(world.client(), NAMESPACE)).await?;
    add::<ServiceAccount>(&mut versions, &Api::namespaced(world.client(), NAMESPACE)).await?;
    add::<PodDisruptionBudget>(&mut versions, &Api::namespaced(world.client(), NAMESPACE)).await?;
    for deployment in Api::<Deployment>::namespaced(world.client(), NAMESPACE)
        .list(&ListParams::default())
        .await?
    {
        versions.insert(
            format!("Deployment {}", deployment.name_any()),
            format!("generation {:?}", deployment.metadata.generation),
        );
    }
    Ok(versions)
}

async fn add<K>(versions: &mut BTreeMap<String, String>, api: &Api<K>) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    for object in api.list(&ListParams::default()).await? {
        versions.insert(
            format!("{} {}", K::kind(&()), object.name_any()),
            object.resource_version().unwrap_or_default(),
        );
    }
    Ok(())
}

fn audit_length(world: &World) -> Result<u64> {
    if !world.cluster.is_local() {
        return Ok(0);
    }
    let log = world.cluster.audit_log()?;
    Ok(std::fs::metadata(&log)
        .with_context(|| format!("failed to read {}", log.display()))?
        .len())
}

/// Writes of the operator since a position of the log: verb and object. Leases and Events are not in it.
fn audited_writes(world: &World, since: u64) -> Result<Vec<String>> {
    if !world.cluster.is_local() {
        return Ok(Vec::new());
    }
    writes_of(&world.cluster.audit_log()?, since, OPERATOR)
}

fn writes_of(log: &Path, since: u64, user: &str) -> Result<Vec<String>> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = std::fs::File::open(log)?;
    file.seek(SeekFrom::Start(since))?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let events = text
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let by_user = events.filter(|event| {
        event["user"]["username"] == user && !matches!(event["verb"].as_str(), Some("get" | "list" | "watch"))
    });
    // A review is a question that is asked with a POST.
    let by_user = by_user.filter(|event| {
        !event["objectRef"]["resource"].as_str().is_some_and(|resource| {
            resource.ends_with("reviews") || resource == "leases" || resource == "events"
        })
    });
    Ok(by_user
        .map(|event| format!("{} {}", event["verb"], event["requestURI"]))
        .collect())
}
