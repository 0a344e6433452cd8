//! Servers whose answers would hurt an operator that reads them without care, beside healthy ones: the operator, in the
//! memory that its chart gives it, never restarts; each hostile server is told what is wrong with it; the healthy ones are
//! Ready in time, also when the operator starts anew and looks at all of them at once.
//!
//! `MCP_FLEET_HOSTILE` and `MCP_FLEET_HEALTHY` say how many of each.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use mcp_fleet_e2e::install::{OPERATOR_NAMESPACE, Ready, STAND_IN_IMAGE};
use serde_json::{Value, json};

use crate::Test;
use crate::place::Place;
use crate::world::{World, until};

/// The mode of the test server, and the reasons with which its server may be refused; none where it is taken.
const TRICKS: [(&str, &[&str]); 9] = [
    ("huge", &["AnswerTooLarge"]),
    ("dense", &["NotMcp"]),
    ("deep", &["NotMcp"]),
    ("endless", &["AnswerTooLarge"]),
    ("events", &["AnswerTooLarge"]),
    ("slow", &["Timeout"]),
    ("cut", &["Unreachable"]),
    ("pages", &["AnswerTooLarge"]),
    ("crowd", &[]),
];

/// What a status may take: a tenth of what etcd takes, and a fleet of them fits into the operator.
const STATUS: usize = 64 * 1024;
/// For healthy servers beside hostile ones; they need some seconds alone.
const IN_TIME: Duration = Duration::from_secs(90);

pub fn tests() -> Vec<Test> {
    vec![
        // It starts the operator anew, and counts its restarts.
        Test::new(
            "hostile_servers::nothing_that_a_server_answers_hurts_the_operator",
            hostile,
        )
        .alone(),
    ]
}

fn count(variable: &str, default: usize) -> Result<usize> {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .with_context(|| format!("{variable} is no number: {text}")),
        Err(_) => Ok(default),
    }
}

async fn hostile(world: Arc<World>) -> Result<()> {
    let (hostile, healthy) = (count("MCP_FLEET_HOSTILE", 20)?, count("MCP_FLEET_HEALTHY", 6)?);
    world
        .clone()
        .with_place("hostile", async |place| {
            let before = Operators::find(&world).await?;
            for number in 0..hostile {
                let (mode, _) = TRICKS[number % TRICKS.len()];
                place.create(&format!("bad-{number}"), test_server(mode)).await?;
            }
            // While the operator looks at the first of them.
            let names: Vec<_> = (0..healthy).map(|number| format!("good-{number}")).collect();
            let started = Instant::now();
            for name in &names {
                place.create(name, test_server("echo")).await?;
            }
            for name in &names {
                place.ready(name).await?;
            }
            let took = started.elapsed();
            ensure!(took < IN_TIME, "the healthy servers took {} s", took.as_secs());
            for number in 0..hostile {
                judged(place, &format!("bad-{number}"), TRICKS[number % TRICKS.len()]).await?;
            }
            before.have_lasted(&world).await?;

            // A new operator has seen none of them and looks at all of them.
            let after = before.begin_anew(&world).await?;
            place.create("late", test_server("echo")).await?;
            let started = Instant::now();
            place.ready("late").await?;
            let took = started.elapsed();
            ensure!(
                took < IN_TIME,
                "a new server took {} s after a restart",
                took.as_secs()
            );
            for name in &names {
                place.ready(name).await?;
            }
            // Long enough for every hostile one to have been looked at again.
            let look = Duration::from_secs(30);
            tokio::time::sleep(look).await;
            after.have_lasted(&world).await
        })
        .await
}

/// Without a gateway: what is tried is the operator's own look.
fn test_server(mode: &str) -> Value {
    let mut spec = json!({"image": STAND_IN_IMAGE, "args": ["test-server", "--mode", mode]});
    if mode != "echo" {
        spec["gateway"] = json!({"enabled": false});
        spec["service"] = json!({"type": "ClusterIP"});
    }
    spec
}

/// Waits until the server is told what it deserves, in few words.
async fn judged(place: &Place, name: &str, (mode, reasons): (&str, &[&str])) -> Result<()> {
    let servers = place.servers();
    until(
        &format!("the judgement of the {mode} server {name}"),
        async || {
            let server = servers.get(name).await?;
            let size = serde_json::to_string(&server.status)?.len();
            ensure!(size < STATUS, "the status of {name} ({mode}) takes {size} bytes");
            let found = server.condition("Verified");
            let judged = found.is_some_and(|found| {
                let told = if reasons.is_empty() {
                    found.status == "True"
                } else {
                    found.status == "False" && reasons.contains(&found.reason.as_str())
                };
                told && found.message.len() < 1_000
            });
            Ok(if judged { Ok(()) } else { Err(server.troubles()) })
        },
    )
    .await
}

/// The operator's pods, and how often each has been restarted.
struct Operators(BTreeSet<(String, i32)>);

impl Operators {
    async fn find(world: &World) -> Result<Self> {
        let pods: Api<Pod> = Api::namespaced(world.client(), OPERATOR_NAMESPACE);
        let ours = ListParams::default().labels("app.kubernetes.io/name=mcp-fleet-operator");
        let found: BTreeSet<_> = pods
            .list(&ours)
            .await?
            .items
            .iter()
            .map(|pod| (pod.name_any(), restarts(pod)))
            .collect();
        ensure!(!found.is_empty(), "the operator has no pod");
        Ok(Self(found))
    }

    async fn have_lasted(&self, world: &World) -> Result<()> {
        let now = Self::find(world).await?;
        ensure!(
            now.0 == self.0,
            "the operator restarted: before {:?}, now {:?}",
            self.0,
            now.0
        );
        Ok(())
    }

    /// Takes its pods away and waits for others that are ready.
    async fn begin_anew(&self, world: &World) -> Result<Self> {
        let pods: Api<Pod> = Api::namespaced(world.client(), OPERATOR_NAMESPACE);
        for (name, _) in &self.0 {
            pods.delete(name, &DeleteParams::default()).await?;
        }
        let list = ListParams::default().labels("app.kubernetes.io/name=mcp-fleet-operator");
        until("another operator", async || {
            let now = pods.list(&list).await?.items;
            let old = now
                .iter()
                .any(|pod| self.0.iter().any(|(name, _)| *name == pod.name_any()));
            let ready = !now.is_empty() && now.iter().all(is_ready);
            Ok(if ready && !old { Ok(()) } else { Err(now.len()) })
        })
        .await?;
        Self::find(world).await
    }
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    statuses
        .into_iter()
        .flatten()
        .map(|status| status.restart_count)
        .sum()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
