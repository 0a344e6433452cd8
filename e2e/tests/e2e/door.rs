//! The secret that only a server and its gateway know: who goes past the gateway is refused, and a rotation refuses nobody.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use http::{Method, Request};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::client::Body;
use mcp_fleet_crds::McpGateway;
use serde_json::{Value, json};

use crate::Test;
use crate::place::{Place, entry, gateway_url};
use crate::world::World;

const GATEWAY: &str = "contoso";
/// Three minutes until the servers have the next one, five until the former one goes, and what the kubelet and the operator take.
const ROTATION: Duration = Duration::from_mins(15);
/// Well below the limit of calls in a minute.
const PAUSE: Duration = Duration::from_millis(500);

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("door::who_goes_past_the_gateway_is_refused", past_the_gateway),
        Test::new(
            "door::another_image_is_sent_the_secret_that_stands_beside_it",
            another_image,
        ),
        Test::new("door::a_rotation_refuses_no_call", rotation),
    ]
}

/// Status of a call to the Service itself, as a pod would send it.
async fn directly(place: &Place, name: &str, secret: Option<&str>) -> Result<u16> {
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    let path = format!(
        "/api/v1/namespaces/{}/services/http:{name}:80/proxy/mcp",
        place.namespace
    );
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("x-mcp-caller", "somebody-else");
    if let Some(secret) = secret {
        request = request.header("x-gateway-secret", secret);
    }
    let answer = place
        .world
        .client()
        .send(request.body(Body::from(message.to_string().into_bytes()))?)
        .await?;
    Ok(answer.status().as_u16())
}

async fn past_the_gateway(world: Arc<World>) -> Result<()> {
    world
        .clone()
        .with_place("door", async |place| {
            let server = place.create_ready("weather", json!({})).await?;
            let key = entry(
                &place.access("agents", &["weather"]).await?,
                "APIM_SUBSCRIPTION_KEY",
            )?;
            let tools = world.agent(&gateway_url(&server)?, Some(&key))?.tools().await?;
            ensure!(tools.len() == 2, "through the gateway: {tools:?}");
            let status = directly(place, "weather", None).await?;
            ensure!(status == 401, "past the gateway: {status}");
            let status = directly(place, "weather", Some("c29tZWJvZHkgZWxzZSdzIHNlY3JldA==")).await?;
            ensure!(status == 401, "with another secret: {status}");
            let secret: Secret = place.api().get("weather-gateway").await?;
            let status = directly(place, "weather", Some(&entry(&secret, "current")?)).await?;
            ensure!(status == 200, "with its own: {status}");

            // One that is no gateway's can be called by anybody in the cluster.
            let spec = json!({"gateway": {"enabled": false}, "service": {"type": "ClusterIP"}});
            place.create_ready("open", spec).await?;
            let status = directly(place, "open", None).await?;
            ensure!(status == 200, "without a gateway: {status}");
            Ok(())
        })
        .await
}

async fn another_image(world: Arc<World>) -> Result<()> {
    world
        .clone()
        .with_place("header", async |place| {
            let mut spec = crate::agents::echo_spec();
            spec["gateway"] = json!({"secretHeader": "X-Notes"});
            let server = place.create_ready("echo", spec).await?;
            let key = entry(&place.access("agents", &["echo"]).await?, "APIM_SUBSCRIPTION_KEY")?;
            let told = crate::agents::told(&world.agent(&gateway_url(&server)?, Some(&key))?).await?;
            let told: Value = serde_json::from_str(&told)?;
            let secret: Secret = place.api().get("echo-gateway").await?;
            ensure!(
                told["headers"]["x-notes"].as_str() == Some(&entry(&secret, "current")?),
                "the secret beside the server reaches it: {told}"
            );
            ensure!(
                told["headers"]["x-mcp-caller-signature"].is_string()
                    && told["headers"]["x-mcp-caller-time"].is_string(),
                "who calls is signed: {told}"
            );
            Ok(())
        })
        .await
}

async fn rotation(world: Arc<World>) -> Result<()> {
    world
        .clone()
        .with_place("rotated", async |place| {
            let server = place.create_ready("weather", json!({"replicas": 2})).await?;
            let key = entry(
                &place.access("agents", &["weather"]).await?,
                "APIM_SUBSCRIPTION_KEY",
            )?;
            let agent = world.agent(&gateway_url(&server)?, Some(&key))?;
            let gateways: Api<McpGateway> = Api::all(world.client());
            let secret = async || -> Result<_> {
                let status = gateways.get(GATEWAY).await?.status;
                status
                    .and_then(|status| status.secret)
                    .context("the gateway has a secret")
            };
            let before = secret().await?.number;
            let change = json!({"spec": {"rotateSecret": place.namespace}});
            gateways
                .patch(GATEWAY, &PatchParams::default(), &Patch::Merge(change))
                .await?;
            let begin = Instant::now();
            let mut calls = 0_u32;
            loop {
                let answer = agent.request("tools/list", None, json!({})).send().await?;
                calls += 1;
                let stage = secret().await?;
                ensure!(
                    answer.status() == 200,
                    "call {calls} was answered {} in {stage:?}",
                    answer.status()
                );
                if stage.number == before + 1 && stage.other.is_none() {
                    break;
                }
                ensure!(
                    begin.elapsed() < ROTATION,
                    "after {ROTATION:?} the rotation is at {stage:?}"
                );
                tokio::time::sleep(PAUSE).await;
            }
            let secret: Secret = place.api().get("weather-gateway").await?;
            ensure!(
                secret
                    .data
                    .as_ref()
                    .is_some_and(|data| !data.contains_key("previous")),
                "the former secret is gone"
            );
            place.ready("weather").await?;
            Ok(())
        })
        .await
}
