//! Images that people have, with real pods: a volume that can be written, one path for both probes, a slow start, containers before
//! and beside, a changed Secret, an autoscaler, and hosts of one's own.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use mcp_fleet_e2e::install::STAND_IN_IMAGE;
use serde_json::{Value, json};

use crate::Test;
use crate::place::Place;
use crate::world::{World, until};

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "any_image::containers_before_and_beside_run_restricted",
            containers,
        ),
        Test::new("any_image::a_changed_secret_replaces_the_pods", changed_secret),
        Test::new(
            "any_image::an_autoscaler_has_its_way_until_it_is_gone",
            autoscaled,
        ),
        Test::new("any_image::a_changed_strategy_is_taken", strategy),
        Test::new("any_image::hosts_of_ones_own_are_served_beside_ours", hosts),
        Test::new(
            "any_image::what_others_add_to_a_deployment_costs_no_write",
            additions,
        ),
    ]
}

fn test_server(additions: Value) -> Value {
    let mut spec = json!({"image": STAND_IN_IMAGE, "args": ["test-server", "--mode", "echo"], "replicas": 1});
    if let (Some(members), Value::Object(additions)) = (spec.as_object_mut(), additions) {
        members.extend(additions);
    }
    spec
}

/// The namespace enforces the restricted Pod Security Standard, so pods that run are restricted.
async fn containers(world: Arc<World>) -> Result<()> {
    world
        .with_place("beside", async |place| {
            let container = |name: &str, port: &str| {
                json!({"name": name, "image": STAND_IN_IMAGE, "args": ["test-server", "--mode", "html", "--port", port],
                    "volumeMounts": [{"name": "shared", "mountPath": "/shared"}]})
            };
            let spec = test_server(json!({
                "preStopSeconds": 1, "health": {"startupSeconds": 120},
                "extraPorts": [{"name": "beside", "port": 8090}],
                "podTemplate": {
                    "securityContext": {"runAsUser": 1234, "runAsGroup": 1234, "fsGroup": 1234},
                    "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["elsewhere.example"]}],
                    "volumes": [{"name": "shared", "emptyDir": {}}],
                    "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
                    "sidecars": [container("beside", "8090")],
                },
            }));
            place.create_ready("notes", spec).await?;
            let pods = place.api::<Pod>().list(&ListParams::default()).await?;
            let pod = pods.items.first().context("a pod")?;
            let status = pod.status.clone().context("a status")?;
            let beside = status.init_container_statuses.unwrap_or_default();
            ensure!(
                beside.len() == 1 && beside[0].started == Some(true),
                "the sidecar runs: {beside:?}"
            );
            let user = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref()?.run_as_user);
            ensure!(user == Some(1234), "as the user that was asked for");
            Ok(())
        })
        .await
}

async fn revision(place: &Place, name: &str) -> Result<String> {
    let deployment = place.api::<Deployment>().get(name).await?;
    let revision = deployment
        .annotations()
        .get("deployment.kubernetes.io/revision")
        .cloned();
    revision.context("a revision")
}

async fn changed_secret(world: Arc<World>) -> Result<()> {
    world
        .with_place("secret", async |place| {
            let secrets = place.api::<Secret>();
            let secret = json!({"metadata": {"name": "orders"}, "stringData": {"url": "one"}});
            secrets
                .create(&PostParams::default(), &serde_json::from_value(secret)?)
                .await?;
            let env =
                json!([{"name": "URL", "valueFrom": {"secretKeyRef": {"name": "orders", "key": "url"}}}]);
            place
                .create_ready("orders", test_server(json!({"env": env})))
                .await?;
            let before = revision(place, "orders").await?;
            let labels = json!({"metadata": {"labels": {"a": "b"}}});
            secrets
                .patch("orders", &PatchParams::default(), &Patch::Merge(labels))
                .await?;
            let change = json!({"stringData": {"url": "two"}});
            secrets
                .patch("orders", &PatchParams::default(), &Patch::Merge(change))
                .await?;
            until("another revision", async || {
                let now = revision(place, "orders").await?;
                Ok(if now == before { Err(now) } else { Ok(()) })
            })
            .await?;
            place.ready("orders").await?;
            let after: u32 = revision(place, "orders").await?.parse()?;
            ensure!(
                after == before.parse::<u32>()? + 1,
                "the content counts, and no label: {after}"
            );
            Ok(())
        })
        .await
}

async fn autoscaled(world: Arc<World>) -> Result<()> {
    world
        .with_place("scaled", async |place| {
            place.create_ready("weather", test_server(json!({}))).await?;
            let autoscalers = place.api::<HorizontalPodAutoscaler>();
            let autoscaler = json!({"metadata": {"name": "weather"}, "spec": {"minReplicas": 2, "maxReplicas": 2,
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "weather"}}});
            autoscalers.create(&PostParams::default(), &serde_json::from_value(autoscaler)?).await?;
            let deployments = place.api::<Deployment>();
            let replicas = async |wanted: i32| {
                until(&format!("{wanted} replicas"), async || {
                    let deployment = deployments.get("weather").await?;
                    let now = deployment.spec.and_then(|spec| spec.replicas);
                    Ok(if now == Some(wanted) { Ok(()) } else { Err(format!("{now:?}")) })
                })
                .await
            };
            replicas(2).await?;
            let touch = json!({"metadata": {"annotations": {"touched": "yes"}}});
            place.patch("weather", touch).await?;
            place.ready("weather").await?;
            replicas(2).await?;
            autoscalers.delete("weather", &DeleteParams::default()).await?;
            replicas(1).await
        })
        .await
}

/// Kubernetes refuses the one's numbers beside the other.
async fn strategy(world: Arc<World>) -> Result<()> {
    world
        .with_place("strategy", async |place| {
            place.create_ready("weather", test_server(json!({}))).await?;
            for wanted in ["Recreate", "RollingUpdate"] {
                place
                    .change("weather", json!({"spec": {"strategy": wanted}}))
                    .await?;
                let deployments = place.api::<Deployment>();
                until(&format!("strategy {wanted}"), async || {
                    let spec = deployments.get("weather").await?.spec;
                    let now = spec.and_then(|spec| spec.strategy?.type_);
                    Ok(if now.as_deref() == Some(wanted) {
                        Ok(())
                    } else {
                        Err(format!("{now:?}"))
                    })
                })
                .await?;
            }
            Ok(())
        })
        .await
}

async fn hosts(world: Arc<World>) -> Result<()> {
    world
        .with_place("hosts", async |place| {
            // With a list that replaced ours, the operator itself would be refused.
            let env = json!([{"name": "ALLOWED_HOSTS", "value": "mcp.example.com"}]);
            place.create_ready("weather", json!({"env": env})).await?;
            Ok(())
        })
        .await
}

/// As a cloud adds resources that nobody asked for.
async fn additions(world: Arc<World>) -> Result<()> {
    world
        .with_place("added", async |place| {
            place.create_ready("weather", test_server(json!({}))).await?;
            let deployments = place.api::<Deployment>();
            let amount = json!({"ephemeral-storage": "1Gi"});
            let change = json!({"spec": {"template": {"spec": {"containers": [{"name": "mcp", "resources": {"requests": amount, "limits": amount}}]}}}});
            let parameters = PatchParams {
                field_manager: Some("autopilot".to_owned()),
                ..PatchParams::default()
            };
            let changed = deployments.patch("weather", &parameters, &Patch::Strategic(change)).await?;
            place.ready("weather").await?;
            let touch = json!({"metadata": {"annotations": {"touched": "yes"}}});
            place.patch("weather", touch).await?;
            place.ready("weather").await?;
            let after = deployments.get("weather").await?;
            ensure!(
                after.metadata.generation == changed.metadata.generation,
                "the operator has written nothing: {:?}",
                after.spec
            );
            Ok(())
        })
        .await
}
