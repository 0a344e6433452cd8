//! Updates, as a pipeline waits for them: `kubectl wait` succeeds when the new version serves and no other, and fails when
//! it does not come up, however often that is tried (issue 8, what must be seen 5).

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::ListParams;
use mcp_fleet_e2e::install::Ready;
use serde_json::{Value, json};

use crate::Test;
use crate::agents::echo_spec;
use crate::place::Place;
use crate::world::{World, until};

/// Servers side by side, and changes of each: together the number of runs.
const SERVERS: usize = 5;
const ROUNDS: usize = 5;
/// What a broken version is waited for. It would never come.
const BROKEN: &str = "localhost:1/none/at-all:2";

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "rollouts::kubectl_wait_believes_a_new_version_when_it_serves_and_a_broken_one_never",
            waits,
        ),
        Test::new(
            "rollouts::a_broken_image_leaves_the_former_version_available_and_says_stalled",
            broken_image,
        ),
        Test::new("rollouts::zero_replicas_are_said_plainly", zero),
        Test::new(
            "rollouts::more_pods_than_there_is_room_for_are_no_outage",
            no_room,
        ),
    ]
}

/// 50 runs: every round of a server is one good update and one broken one.
async fn waits(world: Arc<World>) -> Result<()> {
    world
        .with_place("rollouts", async |place| {
            try_join_all((0..SERVERS).map(|number| rounds(place, format!("server-{number}"))))
                .await
                .map(drop)
        })
        .await
}

async fn rounds(place: &Place, name: String) -> Result<()> {
    place.create_ready(&name, echo_spec()).await?;
    let image = echo_spec()["image"].clone();
    for round in 1..=ROUNDS {
        let version = round.to_string();
        let good = json!({"spec": {"image": image, "env": [{"name": "ROUND", "value": version}]}});
        place.patch(&name, good).await?;
        wait(place, &name, "Ready", 60)
            .await
            .with_context(|| format!("{name}, round {round}: a good version"))?;
        // At this very moment, and not a while later.
        let served = versions(place, &name).await?;
        ensure!(
            !served.is_empty() && served.iter().all(|one| *one == version),
            "{name}, round {round}: believed while {served:?} serve"
        );
        place.patch(&name, json!({"spec": {"image": BROKEN}})).await?;
        let limit = if round == 1 { 60 } else { 15 };
        ensure!(
            wait(place, &name, "Ready", limit).await.is_err(),
            "{name}, round {round}: a version that cannot be pulled was believed"
        );
    }
    Ok(())
}

/// The documented command.
async fn wait(place: &Place, name: &str, condition: &str, seconds: u32) -> Result<String> {
    let kubectl = place.world.kubectl();
    let (condition, limit) = (
        format!("--for=condition={condition}"),
        format!("--timeout={seconds}s"),
    );
    let server = format!("mcps/{name}");
    kubectl
        .run(["wait", &condition, &limit, &server, "-n", &place.namespace])
        .await
}

/// What the ready pods of a server have in ROUND; pods on their way out get no calls any more.
async fn versions(place: &Place, name: &str) -> Result<Vec<String>> {
    let selector = ListParams::default().labels(&format!("mcpfleet.dev/server={name}"));
    let pods = place.api::<Pod>().list(&selector).await?;
    let ready = pods.items.into_iter().filter(|pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        pod.metadata.deletion_timestamp.is_none()
            && conditions.is_some_and(|conditions| {
                conditions
                    .iter()
                    .any(|condition| condition.type_ == "Ready" && condition.status == "True")
            })
    });
    Ok(ready
        .filter_map(|pod| pod.spec)
        .flat_map(|spec| spec.containers)
        .filter(|container| container.name == "mcp")
        .map(|container| {
            let round = container
                .env
                .into_iter()
                .flatten()
                .find(|env| env.name == "ROUND");
            round.and_then(|env| env.value).unwrap_or_default()
        })
        .collect())
}

async fn broken_image(world: Arc<World>) -> Result<()> {
    world
        .with_place("broken-image", async |place| {
            let before = place.create_ready("weather", echo_spec()).await?;
            place.patch("weather", json!({"spec": {"image": BROKEN}})).await?;
            let message = place
                .condition("weather", "Ready", "False", "ImagePullFailed")
                .await?;
            ensure!(message.contains(BROKEN), "what to change: {message}");
            let server = place.servers().get("weather").await?;
            let of = |type_: &str| server.condition(type_).context("a condition that is there");
            ensure!(
                of("Available")?.status == "True",
                "the former version serves: {:?}",
                server.status
            );
            ensure!(
                of("Registered")?.status == "True",
                "and is in the gateway: {:?}",
                server.status
            );
            ensure!(
                of("Verified")?.observed_generation == before.metadata.generation,
                "the new version was verified by nobody: {:?}",
                server.status
            );
            wait(place, "weather", "Available", 10).await?;
            // The registry is not there at all, which might pass; a deadline ends that. Meanwhile it is under way.
            let marks = ["Reconciling", "Stalled"].map(|type_| server.condition(type_).is_some());
            ensure!(
                marks.iter().filter(|there| **there).count() == 1,
                "one of the two: {:?}",
                server.status
            );
            let events = place.api::<Event>().list(&ListParams::default()).await?;
            ensure!(
                events.items.iter().any(|event| {
                    event.involved_object.kind.as_deref() == Some("McpServer")
                        && event.reason.as_deref() == Some("ImagePullFailed")
                }),
                "an Event tells of it"
            );
            place
                .change("weather", json!({"spec": {"image": echo_spec()["image"]}}))
                .await?;
            let server = place.servers().get("weather").await?;
            ensure!(
                ["Reconciling", "Stalled"]
                    .iter()
                    .all(|type_| server.condition(type_).is_none()),
                "nothing is left of it: {:?}",
                server.status
            );
            Ok(())
        })
        .await
}

async fn zero(world: Arc<World>) -> Result<()> {
    world
        .with_place("zero", async |place| {
            place.create_ready("weather", echo_spec()).await?;
            place.patch("weather", json!({"spec": {"replicas": 0}})).await?;
            place
                .condition("weather", "Ready", "False", "ScaledToZero")
                .await?;
            let shown = until("0/0 in the column", async || {
                let table = place
                    .world
                    .kubectl()
                    .run(["get", "mcps", "-n", &place.namespace])
                    .await?;
                Ok(if table.contains("0/0") { Ok(()) } else { Err(table) })
            });
            shown.await?;
            let server = place.servers().get("weather").await?;
            ensure!(
                ["Reconciling", "Stalled"]
                    .iter()
                    .all(|type_| server.condition(type_).is_none()),
                "neither under way nor stuck: {:?}",
                server.status
            );
            ensure!(
                server
                    .condition("Registered")
                    .is_some_and(|found| found.status == "True"),
                "what was registered stays"
            );
            place
                .change("weather", json!({"spec": {"replicas": 1}}))
                .await
                .map(drop)
        })
        .await
}

async fn no_room(world: Arc<World>) -> Result<()> {
    world
        .with_place("no-room", async |place| {
            let spread: Value = json!({"podTemplate": {"affinity": {"podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "kubernetes.io/hostname",
                    "labelSelector": {"matchLabels": {"mcpfleet.dev/server": "weather"}}}]}}}});
            let mut spec = echo_spec();
            if let (Value::Object(spec), Value::Object(more)) = (&mut spec, spread) {
                spec.extend(more);
            }
            place.create_ready("weather", spec).await?;
            // Far more than there are nodes.
            place.patch("weather", json!({"spec": {"replicas": 40}})).await?;
            let words = until("the words for the pods that find no node", async || {
                let server = place.servers().get("weather").await?;
                let available = server
                    .condition("Available")
                    .filter(|found| found.status == "True");
                let told = available.filter(|found| found.message.contains("no node takes the pods"));
                Ok(told.map(|found| found.message).ok_or_else(|| server.troubles()))
            })
            .await?;
            ensure!(words.contains("some pods serve"), "{words}");
            wait(place, "weather", "Ready", 30).await?;
            wait(place, "weather", "Available", 10).await.map(drop)
        })
        .await
}
