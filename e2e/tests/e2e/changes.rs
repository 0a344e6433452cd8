//! Changes (what must be seen 4): each changes exactly what it should, and what others set survives.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use mcp_fleet_e2e::cluster::load_balancer::ADDRESS_ANNOTATION;
use mcp_fleet_e2e::image::write_image;
use mcp_fleet_e2e::install::STAND_IN_IMAGE;
use reqwest::Method;
use serde_json::json;

use crate::Test;
use crate::agents::echo_spec;
use crate::place::{Place, api_path, entry, gateway_url};
use crate::world::{World, until};

const BALANCER: &str = "it moves the address of a load balancer of a local cluster";

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "changes::replicas_image_and_env_change_the_deployment_alone",
            workload,
        ),
        Test::new("changes::the_rate_limit_changes_the_policy_alone", rate_limit),
        Test::new(
            "changes::the_path_changes_the_api_alone_and_reaches_status_and_secret",
            path,
        ),
        Test::new(
            "changes::a_new_load_balancer_address_updates_the_backend_alone",
            address,
        )
        .local(BALANCER),
        Test::new("changes::what_others_set_in_api_management_survives", others),
        Test::new("changes::what_others_change_by_hand_is_repaired", drift),
        Test::new("changes::a_deleted_or_edited_child_is_back_at_once", children),
    ]
}

/// Name and resource version of every child, the Deployment apart.
async fn children_versions(place: &Place) -> Result<BTreeMap<String, String>> {
    let all = ListParams::default();
    let mut versions = BTreeMap::new();
    for service in place.api::<Service>().list(&all).await? {
        versions.insert(
            format!("service {}", service.name_any()),
            service.resource_version().unwrap_or_default(),
        );
    }
    for secret in place.api::<Secret>().list(&all).await? {
        versions.insert(
            format!("secret {}", secret.name_any()),
            secret.resource_version().unwrap_or_default(),
        );
    }
    for map in place.api::<ConfigMap>().list(&all).await? {
        versions.insert(
            format!("config map {}", map.name_any()),
            map.resource_version().unwrap_or_default(),
        );
    }
    Ok(versions)
}

async fn workload(world: Arc<World>) -> Result<()> {
    let other = "localhost/mcp-fleet/stand-in:other";
    let mut image = world
        .installed
        .images()
        .into_iter()
        .find(|image| image.reference() == STAND_IN_IMAGE)
        .context("the image of the test server")?;
    "other".clone_into(&mut image.tag);
    let archive = world.installed.folder().join("other.tar");
    write_image(&image, &archive)?;
    world.cluster.load_image(&archive).await?;
    world
        .clone()
        .with_place("workload", async |place| {
            place.create_ready("weather", echo_spec()).await?;
            let deployments = place.api::<Deployment>();
            let (others, since) = (children_versions(place).await?, world.now().await?);
            for change in [
                json!({"spec": {"replicas": 2}}),
                json!({"spec": {"env": [{"name": "RUST_LOG", "value": "debug"}]}}),
                json!({"spec": {"image": other}}),
            ] {
                let before = deployments.get("weather").await?;
                place.change("weather", change.clone()).await?;
                let after = until("the Deployment to follow", async || {
                    let after = deployments.get("weather").await?;
                    Ok(if after.spec == before.spec {
                        Err("unchanged")
                    } else {
                        Ok(after)
                    })
                })
                .await?;
                let pod = after
                    .spec
                    .and_then(|spec| spec.template.spec)
                    .context("a pod template")?;
                let container = pod.containers.first().context("a container")?;
                match &change["spec"] {
                    spec if spec.get("image").is_some() => ensure!(
                        container.image.as_deref() == Some(other),
                        "the image: {container:?}"
                    ),
                    spec if spec.get("env").is_some() => {
                        let set = container
                            .env
                            .iter()
                            .flatten()
                            .any(|env| env.name == "RUST_LOG" && env.value.as_deref() == Some("debug"));
                        ensure!(set, "the variable: {container:?}");
                    }
                    _ => {}
                }
            }
            place.ready("weather").await?;
            ensure!(
                children_versions(place).await? == others,
                "no other child was written"
            );
            ensure!(
                place.writes(since).await?.is_empty(),
                "nothing was written to API Management: {:?}",
                place.writes(since).await?
            );
            Ok(())
        })
        .await
}

async fn rate_limit(world: Arc<World>) -> Result<()> {
    world
        .clone()
        .with_place("rate", async |place| {
            let server = place.create_ready("weather", json!({})).await?;
            let (others, since) = (children_versions(place).await?, world.now().await?);
            place
                .change(
                    "weather",
                    json!({"spec": {"gateway": {"rateLimit": {"calls": 77, "renewalSeconds": 30}}}}),
                )
                .await?;
            let policy = format!("{}/policies/policy", api_path(&server)?);
            until("the new limit in the policy", async || {
                let policy = world
                    .control()
                    .document(&policy)
                    .await?
                    .context("a policy")?
                    .to_string();
                Ok(
                    if policy.contains("calls=\\\"77\\\"") && policy.contains("renewal-period=\\\"30\\\"") {
                        Ok(())
                    } else {
                        Err(policy)
                    },
                )
            })
            .await?;
            let writes = place.writes(since).await?;
            ensure!(writes == ["PUT apis/*/policies/policy"], "one write: {writes:?}");
            ensure!(children_versions(place).await? == others, "no child was written");
            Ok(())
        })
        .await
}

async fn path(world: Arc<World>) -> Result<()> {
    world
        .clone()
        .with_place("path", async |place| {
            let server = place.create_ready("weather", json!({})).await?;
            place.access("agents", &["weather"]).await?;
            let (old, since) = (gateway_url(&server)?, world.now().await?);
            let wanted = format!("demo/{}/moved", place.namespace);
            let server = place
                .change("weather", json!({"spec": {"gateway": {"path": wanted}}}))
                .await?;
            let url = gateway_url(&server)?;
            ensure!(
                url.ends_with(&format!("/{wanted}/mcp")),
                "the status has the new address: {url}"
            );
            let writes = place.writes(since).await?;
            ensure!(writes == ["PATCH apis/*"], "one write: {writes:?}");
            let secrets = place.api::<Secret>();
            let secret = until("the new address in the Secret", async || {
                let secret = secrets.get("agents-mcp").await?;
                let there = secret
                    .data
                    .iter()
                    .flatten()
                    .any(|(_, value)| String::from_utf8_lossy(&value.0).contains(&wanted));
                Ok(if there { Ok(secret) } else { Err("the old one") })
            })
            .await?;
            let key = entry(&secret, "APIM_SUBSCRIPTION_KEY")?;
            let tools = world.agent(&url, Some(&key))?.tools().await?;
            ensure!(tools.len() == 2, "the tools are at the new address: {tools:?}");
            let status = world
                .agent(&old, Some(&key))?
                .request("tools/list", None, json!({}))
                .send()
                .await?
                .status();
            ensure!(status == 404, "nothing is at the old address: {status}");
            Ok(())
        })
        .await
}

async fn address(world: Arc<World>) -> Result<()> {
    world
        .clone()
        .with_place("address", async |place| {
            let server = place.create_ready("weather", json!({})).await?;
            let key = entry(
                &place.access("agents", &["weather"]).await?,
                "APIM_SUBSCRIPTION_KEY",
            )?;
            let since = world.now().await?;
            let annotation = json!({"metadata": {"annotations": {ADDRESS_ANNOTATION: "203.0.113.252"}}});
            place
                .api::<Service>()
                .patch("weather", &PatchParams::default(), &Patch::Merge(annotation))
                .await?;
            until("the new address in the backend", async || {
                let backends = world.control().documents().await?;
                let ours = backends.iter().filter(|document| {
                    document["path"]
                        .as_str()
                        .is_some_and(|path| path.starts_with("backends/") && path.contains(&place.arm_part()))
                });
                let urls: Vec<_> = ours
                    .map(|document| {
                        document["properties"]["url"]
                            .as_str()
                            .unwrap_or_default()
                            .to_owned()
                    })
                    .collect();
                Ok(
                    if urls == ["http://203.0.113.252:80"] || urls == ["http://203.0.113.252"] {
                        Ok(())
                    } else {
                        Err(urls)
                    },
                )
            })
            .await?;
            place.ready("weather").await?;
            let writes = place.writes(since).await?;
            ensure!(writes == ["PATCH backends/*"], "one write: {writes:?}");
            let tools = world.agent(&gateway_url(&server)?, Some(&key))?.tools().await?;
            ensure!(tools.len() == 2, "calls go to the new address: {tools:?}");
            Ok(())
        })
        .await
}

async fn others(world: Arc<World>) -> Result<()> {
    world
        .clone()
        .with_place("others", async |place| {
            let server = place.create_ready("weather", json!({})).await?;
            place.access("agents", &["weather"]).await?;
            let api = api_path(&server)?;
            let tag = format!("tag-{}", place.namespace);
            world
                .arm(
                    Method::PUT,
                    &format!("tags/{tag}"),
                    Some(json!({"properties": {"displayName": tag}})),
                )
                .await?;
            world.arm(Method::PUT, &format!("{api}/tags/{tag}"), None).await?;
            let product = place
                .documents()
                .await?
                .into_iter()
                .find(|path| path.starts_with("products/") && path.matches('/').count() == 1)
                .context("a product")?;
            let described = world.arm(Method::GET, &product, None).await?;
            let mark = described["properties"]["description"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            let words = format!("Ask the weather team.\n\n{mark}");
            world
                .arm(
                    Method::PATCH,
                    &product,
                    Some(json!({"properties": {"description": words}})),
                )
                .await?;
            let since = world.now().await?;

            place.create_ready("second", json!({})).await?;
            let both = json!({"spec": {"servers": [{"name": "weather"}, {"name": "second"}]}});
            place
                .accesses()
                .patch("agents", &PatchParams::default(), &Patch::Merge(both))
                .await?;
            let accesses = place.accesses();
            until("the second server in the access", async || {
                let access = accesses.get("agents").await?;
                let linked = access
                    .status
                    .as_ref()
                    .is_some_and(|status| status.servers.len() == 2);
                Ok(if linked { Ok(()) } else { Err(access.status) })
            })
            .await?;
            place
                .change(
                    "weather",
                    json!({"spec": {"gateway": {"displayName": "Another name", "rateLimit": {"calls": 9}}}}),
                )
                .await?;
            let api_now = world.arm(Method::GET, &api, None).await?;
            ensure!(
                api_now["properties"]["displayName"] == "Another name",
                "our change was made: {api_now}"
            );
            world
                .arm(Method::GET, &format!("{api}/tags/{tag}"), None)
                .await
                .context("the tag survives")?;
            let product_now = world.arm(Method::GET, &product, None).await?;
            ensure!(
                product_now["properties"]["description"] == json!(words),
                "the description survives: {product_now}"
            );
            let deletions = place.writes(since).await?;
            ensure!(
                !deletions.iter().any(|write| write.starts_with("DELETE")),
                "nothing was deleted: {deletions:?}"
            );
            Ok(())
        })
        .await
}

/// Within two periods of DRIFT_SECONDS.
async fn drift(world: Arc<World>) -> Result<()> {
    world
        .clone()
        .with_place("drift", async |place| {
            let server = place.create_ready("weather", json!({})).await?;
            let (api, since) = (api_path(&server)?, world.now().await?);
            let right = world.arm(Method::GET, &format!("{api}/policies/policy"), None).await?["properties"]["value"].clone();
            let loose = json!({"properties": {"format": "rawxml", "value": "<policies><inbound /><backend><forward-request /></backend><outbound /><on-error /></policies>"}});
            world.arm(Method::PUT, &format!("{api}/policies/policy"), Some(loose)).await?;
            world.arm(Method::PATCH, &api, Some(json!({"properties": {"subscriptionRequired": false}}))).await?;
            until("the repair", async || {
                let policy = world.arm(Method::GET, &format!("{api}/policies/policy"), None).await?["properties"]["value"].clone();
                let needs_key = world.arm(Method::GET, &api, None).await?["properties"]["subscriptionRequired"].clone();
                Ok(if policy == right && needs_key == json!(true) { Ok(()) } else { Err((policy, needs_key)) })
            })
            .await?;
            let writes = place.writes(since).await?;
            ensure!(writes.iter().filter(|write| write.starts_with("PUT apis/*/policies")).count() == 2, "ours and the repair: {writes:?}");
            Ok(())
        })
        .await
}

async fn children(world: Arc<World>) -> Result<()> {
    world
        .clone()
        .with_place("children", async |place| {
            place.create_ready("weather", json!({})).await?;
            let services: Api<Service> = place.api();
            let service = services.get("weather").await?;
            services.delete("weather", &kube::api::DeleteParams::default()).await?;
            until("the deleted Service", async || {
                let again = services.get_opt("weather").await?;
                Ok(again.filter(|again| again.uid() != service.uid()).map(drop).ok_or("not yet"))
            })
            .await?;
            let deployments: Api<Deployment> = place.api();
            let edited = json!({"spec": {"template": {"spec": {"containers": [{"name": "server", "image": "localhost/none:1"}]}}}});
            let container = deployments.get("weather").await?.spec.and_then(|spec| spec.template.spec?.containers.first().cloned()).context("a container")?;
            let mut edited = edited;
            edited["spec"]["template"]["spec"]["containers"][0]["name"] = json!(container.name);
            deployments.patch("weather", &PatchParams::default(), &Patch::Strategic(edited)).await?;
            until("the edited image", async || {
                let now = deployments.get("weather").await?.spec.and_then(|spec| spec.template.spec?.containers.first()?.image.clone());
                Ok(if now == container.image { Ok(()) } else { Err(now) })
            })
            .await?;
            place.ready("weather").await?;
            Ok(())
        })
        .await
}
