//! Crashes (what must be seen 6): the operator as a process, ended without warning at random moments and after each of its requests to
//! API Management. The end state is right each time, nothing is registered twice, nothing is left behind.
//!
//! The operator of the chart rests meanwhile; the process has its rights, its sign-in and its lease, a short one.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use mcp_fleet_e2e::apim::{Action, Fault, Plane};
use mcp_fleet_e2e::install::{ARM_HOST, LOGIN_HOST, OPERATOR_NAMESPACE, PORT, Ready, WEATHER_IMAGE};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::process::Child;

use crate::Test;
use crate::place::Place;
use crate::world::{CLIENT_ID, TENANT, World, until};

const PROCESS: &str = "the operator runs as a process in the network of a local cluster";
/// Kills of the random test: half of them during a create, half during a delete.
const KILLS: usize = 20;
/// Servers at a time, so that a kill meets several at different steps.
const SERVERS: usize = 3;
/// Repeats a random test: its seed.
const SEED_VARIABLE: &str = "MCP_FLEET_SEED";

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "crashes::killed_at_20_random_moments_of_create_and_delete",
            at_random,
        )
        .alone()
        .local(PROCESS),
        Test::new(
            "crashes::cut_off_after_each_request_of_a_create_an_update_and_a_delete",
            after_each_request,
        )
        .alone()
        .local(PROCESS),
    ]
}

/// The operator as a process.
struct Operator {
    world: Arc<World>,
    token: PathBuf,
    log: PathBuf,
    process: Option<Child>,
    starts: usize,
}

impl Operator {
    /// Lets the chart's operator rest and takes its place.
    async fn take_over(world: &Arc<World>, name: &str) -> Result<Self> {
        let kubectl = world.kubectl();
        kubectl
            .run([
                "scale",
                "deployment",
                "mcp-fleet-operator",
                "-n",
                OPERATOR_NAMESPACE,
                "--replicas=0",
            ])
            .await?;
        let pods: Api<Pod> = Api::namespaced(world.client(), OPERATOR_NAMESPACE);
        until("the end of the chart's operator", async || {
            let left = pods.list(&ListParams::default()).await?.items.len();
            Ok(if left == 0 { Ok(()) } else { Err(left) })
        })
        .await?;
        let token = world.installed.folder().join(format!("{name}.token"));
        std::fs::write(&token, world.federated_token().await?)?;
        let log = world.installed.folder().join(format!("{name}.log"));
        Ok(Self {
            world: world.clone(),
            token,
            log,
            process: None,
            starts: 0,
        })
    }

    fn start(&mut self) -> Result<()> {
        self.starts += 1;
        let mut command = self
            .world
            .cluster
            .command(&self.world.installed.programs.operator)?;
        let weather = json!([{"name": "NWS_BASE_URL", "value": "http://api.noaa.svc.cluster.local:8080"}]);
        let settings = [
            ("POD_NAMESPACE", OPERATOR_NAMESPACE.to_owned()),
            ("POD_NAME", format!("process-{}", self.starts)),
            ("LEASE_SECONDS", "3".to_owned()),
            ("HTTP_ADDRESS", "127.0.0.1:18080".to_owned()),
            ("DRIFT_SECONDS", "15".to_owned()),
            ("SERVER_ACCESS", "direct".to_owned()),
            ("WEATHER_IMAGE", WEATHER_IMAGE.to_owned()),
            ("WEATHER_ENV", weather.to_string()),
            ("AZURE_TENANT_ID", TENANT.to_owned()),
            ("AZURE_CLIENT_ID", CLIENT_ID.to_owned()),
            ("AZURE_FEDERATED_TOKEN_FILE", self.token.display().to_string()),
            ("AZURE_AUTHORITY_HOST", format!("https://{LOGIN_HOST}:{PORT}")),
            (
                "AZURE_RESOURCE_MANAGER_ENDPOINT",
                format!("https://{ARM_HOST}:{PORT}"),
            ),
            (
                "AZURE_RESOURCE_MANAGER_AUDIENCE",
                "https://management.azure.com".to_owned(),
            ),
            (
                "EXTRA_CA_FILE",
                self.world.installed.authority().display().to_string(),
            ),
        ];
        let log = File::options().create(true).append(true).open(&self.log)?;
        command.envs(settings).stdout(log.try_clone()?).stderr(log);
        self.process = Some(command.spawn().context("failed to start the operator")?);
        Ok(())
    }

    /// SIGKILL: nothing of it runs any more when this returns.
    async fn kill(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the operator does not run")?;
        if let Some(status) = process.try_wait()? {
            anyhow::bail!(
                "the operator ended by itself with {status}: {}",
                self.last_words()
            );
        }
        process.kill().await.context("failed to kill the operator")
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Gives the place back to the chart's operator.
    async fn hand_back(mut self) -> Result<()> {
        if self.process.is_some() {
            self.kill().await?;
        }
        let kubectl = self.world.kubectl();
        kubectl
            .run([
                "scale",
                "deployment",
                "mcp-fleet-operator",
                "-n",
                OPERATOR_NAMESPACE,
                "--replicas=1",
            ])
            .await?;
        kubectl
            .run([
                "rollout",
                "status",
                "deployment",
                "mcp-fleet-operator",
                "-n",
                OPERATOR_NAMESPACE,
                "--timeout=120s",
            ])
            .await
            .map(drop)
    }
}

/// Runs a test with the operator as a process; the chart's operator is back afterwards, whatever came of it.
async fn with_operator(
    world: &Arc<World>,
    name: &str,
    test: impl AsyncFnOnce(&Place, &mut Operator) -> Result<()>,
) -> Result<()> {
    let mut operator = Operator::take_over(world, name).await?;
    let result = world
        .with_place(name, async |place| test(place, &mut operator).await)
        .await;
    let result = result.with_context(|| operator.last_words());
    world.control().clear_faults().await?;
    operator.hand_back().await?;
    result
}

async fn at_random(world: Arc<World>) -> Result<()> {
    let seed = std::env::var(SEED_VARIABLE)
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(rand::random::<u64>);
    world.progress.say(format_args!(
        "the random kills have seed {seed}: {SEED_VARIABLE}={seed} repeats them"
    ));
    let result = with_operator(&world, "killed", async |place, operator| {
        let mut random = StdRng::seed_from_u64(seed);
        let names: Vec<_> = (0..SERVERS).map(|number| format!("server-{number}")).collect();
        operator.start()?;
        for _ in 0..KILLS / 2 {
            for name in &names {
                place.create(name, json!({})).await?;
            }
            kill_within(operator, random.random_range(0..4000)).await?;
            for name in &names {
                place.ready(name).await?;
            }
            registered_once(place, &names).await?;
            for name in &names {
                place.delete(name).await?;
            }
            kill_within(operator, random.random_range(0..2000)).await?;
            for name in &names {
                place.server_gone(name).await?;
            }
            nothing_left(place).await?;
        }
        Ok(())
    })
    .await;
    result.with_context(|| format!("with {SEED_VARIABLE}={seed}"))
}

/// The one sleep of these tests: a moment to be killed at is a time, not a condition.
async fn kill_within(operator: &mut Operator, milliseconds: u64) -> Result<()> {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    operator.kill().await?;
    operator.start()
}

/// One backend, one API with its policy and operations, one subscription for each server, and nothing else.
async fn registered_once(place: &Place, names: &[String]) -> Result<()> {
    let documents = place.documents().await?;
    for name in names {
        let part = format!("{}{name}-", place.arm_part());
        let ours: Vec<_> = documents.iter().filter(|path| path.contains(&part)).collect();
        let count = |kind: &str, depth: usize| {
            ours.iter()
                .filter(|path| path.starts_with(kind) && path.matches('/').count() == depth)
                .count()
        };
        let counts = [
            count("backends/", 1),
            count("apis/", 1),
            count("subscriptions/", 1),
        ];
        ensure!(counts == [1, 1, 1], "{name} is registered once: {ours:?}");
        ensure!(
            ours.iter()
                .filter(|path| path.ends_with("/policies/policy"))
                .count()
                == 1,
            "{name} has one policy: {ours:?}"
        );
        ensure!(
            ours.iter().filter(|path| path.contains("/operations/")).count() == 6,
            "{name} has six operations: {ours:?}"
        );
        ensure!(ours.len() == 10, "{name} has nothing else: {ours:?}");
    }
    Ok(())
}

async fn nothing_left(place: &Place) -> Result<()> {
    let left = place.documents().await?;
    ensure!(left.is_empty(), "nothing is left behind: {left:?}");
    Ok(())
}

/// For each k there is a server whose k-th request is the last that gets through. All of them meet their cut under one operator, which is
/// then killed; the next one finds them all.
async fn after_each_request(world: Arc<World>) -> Result<()> {
    with_operator(&world, "cut", async |place, operator| {
        operator.start()?;
        let changed = json!({"spec": {"gateway": {"path": "", "rateLimit": {"calls": 33}}}});
        let (create, update, delete) = count_requests(place, &changed).await?;
        world.progress.say(format_args!(
            "requests to cut after: {create} of a create, {update} of an update, {delete} of a delete"
        ));

        // A server whose number is higher than there are requests goes through undisturbed.
        let names: Vec<_> = (1..=create.max(update).max(delete))
            .map(|k| format!("server-{k}"))
            .collect();
        let since = cut_each(place, &names).await?;
        for name in &names {
            place.create(name, json!({})).await?;
        }
        all_cut(place, operator, &names, since).await?;
        for name in &names {
            place.ready(name).await?;
        }
        registered_once(place, &names).await?;

        let since = cut_each(place, &names).await?;
        for name in &names {
            place.patch(name, with_path(&changed, place, name)).await?;
        }
        all_cut(place, operator, &names, since).await?;
        for name in &names {
            place.ready(name).await?;
        }
        updated_all(place, &names).await?;
        registered_once(place, &names).await?;

        let since = cut_each(place, &names).await?;
        for name in &names {
            place.delete(name).await?;
        }
        all_cut(place, operator, &names, since).await?;
        for name in &names {
            place.server_gone(name).await?;
        }
        nothing_left(place).await
    })
    .await
}

fn with_path(change: &Value, place: &Place, name: &str) -> Value {
    let mut change = change.clone();
    change["spec"]["gateway"]["path"] = json!(format!("demo/{}/moved-{name}", place.namespace));
    change
}

/// How many requests a whole create, update and delete make when nobody disturbs them.
async fn count_requests(place: &Place, change: &Value) -> Result<(usize, usize, usize)> {
    let world = &place.world;
    let count = async |since: u64| {
        Ok::<_, anyhow::Error>(world.arm_requests(since, &part(place, "model")).await?.len())
    };
    let since = world.now().await?;
    place.create_ready("model", json!({})).await?;
    let create = count(since).await?;
    let since = world.now().await?;
    place.change("model", with_path(change, place, "model")).await?;
    let update = count(since).await?;
    let since = world.now().await?;
    place.delete("model").await?;
    place.server_gone("model").await?;
    let delete = count(since).await?;
    ensure!(
        create >= 4 && update >= 2 && delete >= 2,
        "a life has requests: {create}, {update}, {delete}"
    );
    Ok((create, update, delete))
}

/// Part of every path of one server; a dash ends the name, so that server 1 is not server 10.
fn part(place: &Place, name: &str) -> String {
    format!("{}{name}-", place.arm_part())
}

/// Server k: its k-th request is done, but the answer is lost; what comes after is not even done. Answers where the journal stands.
async fn cut_each(place: &Place, names: &[String]) -> Result<u64> {
    let control = place.world.control();
    control.clear_faults().await?;
    for (index, name) in names.iter().enumerate() {
        let index = u64::try_from(index)?;
        let fault = |skip, count, action| Fault {
            plane: Plane::Arm,
            method: None,
            path: Some(part(place, name)),
            skip,
            count,
            action,
        };
        control.fault(&fault(index, Some(1), Action::CutAfter)).await?;
        control.fault(&fault(index + 1, None, Action::CutBefore)).await?;
    }
    place.world.now().await
}

/// Waits until each server met its cut, then ends the operator, lets requests through again, and starts the next operator. Polls of a long
/// operation differ in number, so a server may be through before its cut.
async fn all_cut(place: &Place, operator: &mut Operator, names: &[String], since: u64) -> Result<()> {
    let world = &place.world;
    let servers = place.servers();
    until("a cut for each server", async || {
        let mut waiting = Vec::new();
        for name in names {
            let requests = world.arm_requests(since, &part(place, name)).await?;
            let met = requests.iter().any(|request| request.status.is_none());
            if !met
                && servers
                    .get_opt(name)
                    .await?
                    .is_some_and(|server| !server.is_ready())
            {
                waiting.push((name.clone(), requests.len()));
            }
        }
        Ok(if waiting.is_empty() { Ok(()) } else { Err(waiting) })
    })
    .await?;
    operator.kill().await?;
    world.control().clear_faults().await?;
    operator.start()
}

async fn updated_all(place: &Place, names: &[String]) -> Result<()> {
    for name in names {
        let documents = place.world.control().documents().await?;
        let ours = |kind: &str| {
            documents.iter().find(|document| {
                let path = document["path"].as_str().unwrap_or_default();
                path.starts_with(kind)
                    && path.contains(&part(place, name))
                    && (kind != "apis/" || path.matches('/').count() == 1)
            })
        };
        let api = ours("apis/").context("an API")?;
        ensure!(
            api["properties"]["path"]
                .as_str()
                .unwrap_or_default()
                .ends_with(&format!("moved-{name}")),
            "{name} has its new path: {api}"
        );
        let policy = documents.iter().find(|document| {
            document["path"]
                .as_str()
                .is_some_and(|path| path.contains(&part(place, name)) && path.ends_with("/policies/policy"))
        });
        ensure!(
            policy.is_some_and(|policy| policy.to_string().contains("33")),
            "{name} has its new limit"
        );
    }
    Ok(())
}
