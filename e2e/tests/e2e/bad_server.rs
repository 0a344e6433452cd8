//! Servers that do not work (what must be seen 7): the status says why and what to change, and nothing half made is left.

use std::sync::Arc;

use anyhow::{Result, ensure};
use mcp_fleet_e2e::install::STAND_IN_IMAGE;
use serde_json::{Value, json};

use crate::Test;
use crate::place::Place;
use crate::world::World;

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("bad_server::an_image_that_cannot_be_pulled", unpullable),
        Test::new("bad_server::a_pod_that_crashes", crashing),
        Test::new("bad_server::a_server_that_answers_http_but_not_mcp", not_mcp),
        Test::new(
            "bad_server::sse_whose_endpoint_leaves_the_path_of_the_api",
            sse_outside,
        ),
        Test::new("bad_server::sessions_that_replicas_do_not_share", sessions),
        Test::new(
            "bad_server::an_unready_workload_keeps_its_registration",
            keeps_registration,
        ),
    ]
}

fn test_server(mode: &str, replicas: u32, additions: Value) -> Value {
    let mut spec =
        json!({"image": STAND_IN_IMAGE, "args": ["test-server", "--mode", mode], "replicas": replicas});
    if let (Some(members), Value::Object(additions)) = (spec.as_object_mut(), additions) {
        members.extend(additions);
    }
    spec
}

async fn nothing_registered(place: &Place) -> Result<()> {
    let documents = place.documents().await?;
    ensure!(documents.is_empty(), "nothing is registered: {documents:?}");
    Ok(())
}

async fn unpullable(world: Arc<World>) -> Result<()> {
    world
        .with_place("pull", async |place| {
            place
                .create("broken", json!({"image": "localhost:1/none/at-all:1"}))
                .await?;
            let message = place
                .condition("broken", "Available", "False", "ImagePullFailed")
                .await?;
            ensure!(
                message.contains("localhost:1/none/at-all:1") && message.contains("image"),
                "the image and what to check: {message}"
            );
            place
                .condition("broken", "Ready", "False", "ImagePullFailed")
                .await?;
            nothing_registered(place).await
        })
        .await
}

async fn crashing(world: Arc<World>) -> Result<()> {
    world
        .with_place("crash", async |place| {
            place.create("broken", test_server("crash", 1, json!({}))).await?;
            let message = place
                .condition("broken", "Available", "False", "CrashLoop")
                .await?;
            ensure!(message.contains("log"), "where to look: {message}");
            nothing_registered(place).await
        })
        .await
}

async fn not_mcp(world: Arc<World>) -> Result<()> {
    world
        .with_place("html", async |place| {
            place.create("broken", test_server("html", 1, json!({}))).await?;
            let message = place.condition("broken", "Verified", "False", "NotMcp").await?;
            ensure!(
                message.len() > 20,
                "what was answered and what to change: {message}"
            );
            Ok(())
        })
        .await
}

async fn sse_outside(world: Arc<World>) -> Result<()> {
    world
        .with_place("sse", async |place| {
            let transports =
                json!({"transports": {"sse": {"path": "/sse", "messagesPath": "/messages/{session_id}"}}});
            place
                .create("broken", test_server("sse-outside", 1, transports))
                .await?;
            let message = place
                .condition("broken", "Verified", "False", "SseEndpointOutsidePath")
                .await?;
            ensure!(
                message.contains("/messages/"),
                "the endpoint that was sent: {message}"
            );
            Ok(())
        })
        .await
}

async fn sessions(world: Arc<World>) -> Result<()> {
    world
        .with_place("sessions", async |place| {
            place
                .create("broken", test_server("sessions", 2, json!({})))
                .await?;
            let message = place
                .condition("broken", "Verified", "False", "SessionsNotShared")
                .await?;
            ensure!(message.contains("replicas"), "one replica would do: {message}");
            place.change("broken", json!({"spec": {"replicas": 1}})).await?;
            Ok(())
        })
        .await
}

async fn keeps_registration(world: Arc<World>) -> Result<()> {
    world
        .clone()
        .with_place("unready", async |place| {
            place.create_ready("weather", json!({})).await?;
            let (before, since) = (place.documents().await?, world.now().await?);
            place.patch("weather", json!({"spec": {"image": "localhost:1/none/at-all:1", "transports": {"streamableHttp": {}, "sse": {}}}})).await?;
            // The former version serves on, so it is Ready that says so.
            place.condition("weather", "Ready", "False", "ImagePullFailed").await?;
            ensure!(place.documents().await? == before, "everything is still registered");
            let writes = place.writes(since).await?;
            ensure!(!writes.iter().any(|write| write.starts_with("DELETE")), "nothing was deleted: {writes:?}");
            Ok(())
        })
        .await
}
