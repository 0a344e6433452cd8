//! Deletion (what must be seen 5): everything goes, waits for a gateway that is down, or is left on purpose.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::DeleteParams;
use mcp_fleet_e2e::apim::{Action, Down, Fault, Plane};
use mcp_fleet_e2e::install::Ready;
use serde_json::json;

use crate::Test;
use crate::place::Place;
use crate::world::{World, until, until_within};

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "deletion::a_deleted_server_leaves_nothing_in_api_management_or_in_the_cluster",
            server,
        ),
        Test::new(
            "deletion::a_deleted_namespace_leaves_nothing_in_api_management",
            namespace,
        ),
        Test::new(
            "deletion::a_deleted_access_takes_product_subscription_and_secret_with_it",
            access,
        ),
        Test::new(
            "deletion::with_the_gateway_down_deletion_waits_says_so_and_finishes_later",
            gateway_down,
        )
        .alone(),
        Test::new("deletion::orphan_leaves_api_management_as_it_is", orphan),
        Test::new(
            "deletion::orphan_helps_an_object_that_is_already_being_deleted",
            orphan_late,
        ),
        Test::new(
            "deletion::a_server_created_again_takes_over_what_its_former_life_left",
            takes_over,
        ),
        Test::new("deletion::switching_the_gateway_off_deregisters", switched_off),
    ]
}

async fn nothing_left(place: &Place) -> Result<()> {
    until("an end of everything in API Management", async || {
        let left = place.documents().await?;
        Ok(if left.is_empty() { Ok(()) } else { Err(left) })
    })
    .await
}

async fn server(world: Arc<World>) -> Result<()> {
    world
        .with_place("gone", async |place| {
            place.create_ready("weather", json!({"replicas": 2})).await?;
            ensure!(
                place.documents().await?.len() >= 8,
                "backend, API, five operations, policy, subscription: {:?}",
                place.documents().await?
            );
            place.delete("weather").await?;
            place.server_gone("weather").await?;
            ensure!(
                place.documents().await?.is_empty(),
                "nothing is left when the object is gone: {:?}",
                place.documents().await?
            );
            Ok(())
        })
        .await
}

async fn namespace(world: Arc<World>) -> Result<()> {
    world
        .clone()
        .with_place("space", async |place| {
            place.create_ready("weather", json!({})).await?;
            place.access("agents", &["weather"]).await?;
            let namespaces: Api<Namespace> = Api::all(world.client());
            namespaces
                .delete(&place.namespace, &DeleteParams::default())
                .await?;
            until("the end of the namespace", async || {
                Ok(namespaces
                    .get_opt(&place.namespace)
                    .await?
                    .map_or(Ok(()), |namespace| Err(namespace.status)))
            })
            .await?;
            ensure!(
                place.documents().await?.is_empty(),
                "nothing is left: {:?}",
                place.documents().await?
            );
            Ok(())
        })
        .await
}

async fn access(world: Arc<World>) -> Result<()> {
    world
        .with_place("revoked", async |place| {
            place.create_ready("weather", json!({})).await?;
            place.access("agents", &["weather"]).await?;
            place
                .accesses()
                .delete("agents", &DeleteParams::default())
                .await?;
            let accesses = place.accesses();
            until("the end of the access", async || {
                let access = accesses.get_opt("agents").await?;
                Ok(access.map_or(Ok(()), |access| Err(access.troubles())))
            })
            .await?;
            let left = place.documents().await?;
            ensure!(
                !left.iter().any(|path| path.starts_with("products/")),
                "no product: {left:?}"
            );
            let subscriptions = left.iter().filter(|path| path.starts_with("subscriptions/"));
            ensure!(
                subscriptions.count() <= 1,
                "no subscription but the probe's: {left:?}"
            );
            let secrets = place.api::<k8s_openapi::api::core::v1::Secret>();
            until("the end of the Secret", async || {
                Ok(secrets
                    .get_opt("agents-mcp")
                    .await?
                    .map_or(Ok(()), |_| Err("still there")))
            })
            .await?;
            place.ready("weather").await?;
            Ok(())
        })
        .await
}

async fn gateway_down(world: Arc<World>) -> Result<()> {
    world
        .clone()
        .with_place("down", async |place| {
            place.create_ready("weather", json!({})).await?;
            world
                .control()
                .down(Down {
                    arm: true,
                    token: true,
                    gateway: true,
                })
                .await?;
            place.delete("weather").await?;
            let said = says_deleting(place).await;
            let documents = place.documents().await;
            world.control().down(Down::default()).await?;
            let message = said?;
            ensure!(!message.is_empty(), "the status says why it waits");
            ensure!(!documents?.is_empty(), "what is registered is still there");
            place.server_gone("weather").await?;
            ensure!(
                place.documents().await?.is_empty(),
                "nothing is left: {:?}",
                place.documents().await?
            );
            Ok(())
        })
        .await
}

/// Waits until a server that is being deleted says that it is, and why it is not gone.
async fn says_deleting(place: &Place) -> Result<String> {
    let servers = place.servers();
    until_within(
        Duration::from_mins(1),
        "a status that says why deletion waits",
        async || {
            let server = servers.get("weather").await?;
            let registered = server
                .condition("Registered")
                .filter(|registered| registered.status != "True");
            let deleting = server.metadata.deletion_timestamp.is_some();
            Ok(match registered {
                Some(registered) if deleting && !server.is_ready() => {
                    Ok(format!("{}: {}", registered.reason, registered.message))
                }
                _ => Err(server.status),
            })
        },
    )
    .await
}

async fn orphan(world: Arc<World>) -> Result<()> {
    world
        .clone()
        .with_place("orphan", async |place| {
            place
                .create_ready("weather", json!({"gateway": {"managementPolicy": "Orphan"}}))
                .await?;
            let (before, since) = (place.documents().await?, world.now().await?);
            place.delete("weather").await?;
            place.server_gone("weather").await?;
            ensure!(place.documents().await? == before, "everything is as it was");
            ensure!(
                place.writes(since).await?.is_empty(),
                "nothing was written: {:?}",
                place.writes(since).await?
            );
            // Not to be left behind for other trials: the next owner of the name takes it over and removes it.
            place.create_ready("weather", json!({})).await?;
            Ok(())
        })
        .await
}

async fn orphan_late(world: Arc<World>) -> Result<()> {
    world
        .clone()
        .with_place("late", async |place| {
            place.create_ready("weather", json!({})).await?;
            let before = place.documents().await?;
            let cut = Fault {
                plane: Plane::Arm,
                method: None,
                path: Some(place.arm_part()),
                skip: 0,
                count: None,
                action: Action::CutBefore,
            };
            world.control().fault(&cut).await?;
            place.delete("weather").await?;
            says_deleting(place).await?;
            place
                .patch(
                    "weather",
                    json!({"spec": {"gateway": {"managementPolicy": "Orphan"}}}),
                )
                .await?;
            place.server_gone("weather").await?;
            ensure!(place.documents().await? == before, "everything is as it was");
            Ok(())
        })
        .await
}

async fn takes_over(world: Arc<World>) -> Result<()> {
    world
        .with_place("again", async |place| {
            place
                .create_ready("weather", json!({"gateway": {"managementPolicy": "Orphan"}}))
                .await?;
            let before = place.documents().await?;
            place.delete("weather").await?;
            place.server_gone("weather").await?;
            place.create_ready("weather", json!({})).await?;
            ensure!(
                place.documents().await? == before,
                "the same documents, none twice"
            );
            place.delete("weather").await?;
            place.server_gone("weather").await?;
            nothing_left(place).await
        })
        .await
}

async fn switched_off(world: Arc<World>) -> Result<()> {
    world
        .with_place("off", async |place| {
            place.create_ready("weather", json!({})).await?;
            let server = place
                .change("weather", json!({"spec": {"gateway": {"enabled": false}}}))
                .await?;
            nothing_left(place).await?;
            let registered = server.status.and_then(|status| status.gateway);
            ensure!(
                registered.is_none(),
                "the status names no registration: {registered:?}"
            );
            Ok(())
        })
        .await
}
