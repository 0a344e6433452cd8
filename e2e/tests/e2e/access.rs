//! Access: consent that is withdrawn closes the door in whatever state the consumer's object is, keys are renewed without a
//! refused call, and servers are selected by their labels.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use mcp_fleet_crds::McpAccess;
use mcp_fleet_e2e::demo::call::Agent;
use mcp_fleet_e2e::install::Ready;
use reqwest::{Method, StatusCode};
use serde_json::{Value as Json, json};

use crate::Test;
use crate::agents::echo_spec;
use crate::place::{Place, api_path, entry, gateway_url};
use crate::world::{World, until, until_within};

/// One pass: the operator hears of it at once, and the gateway takes a change over within seconds.
const ONE_PASS: Duration = Duration::from_secs(20);

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "access::withdrawn_consent_closes_the_door_in_every_hindered_state",
            withdrawn,
        ),
        Test::new(
            "access::a_rotation_refuses_no_call_and_ends_the_former_key",
            rotation,
        ),
        Test::new(
            "access::a_key_made_anew_in_api_management_reaches_the_secret",
            made_anew,
        ),
        Test::new("access::servers_come_and_go_by_their_labels", selector),
        Test::new("access::an_api_that_is_made_anew_gets_its_links_back", relinked),
    ]
}

/// Makes a server that lets `namespace` in.
async fn consenting(owner: &Place, namespace: &str) -> Result<String> {
    let mut spec = echo_spec();
    spec["gateway"] = json!({"access": {"namespaces": ["Same", namespace]}});
    gateway_url(&owner.create_ready("weather", spec).await?)
}

async fn change(place: &Place, name: &str, change: Json) -> Result<()> {
    let accesses = place.accesses();
    accesses
        .patch(name, &PatchParams::default(), &Patch::Merge(change))
        .await?;
    Ok(())
}

async fn create(place: &Place, name: &str, spec: Json) -> Result<()> {
    let object = json!({
        "apiVersion": "mcpfleet.dev/v1alpha1", "kind": "McpAccess",
        "metadata": {"name": name, "namespace": place.namespace},
        "spec": spec,
    });
    let accesses = place.accesses();
    accesses
        .create(&PostParams::default(), &serde_json::from_value(object)?)
        .await?;
    Ok(())
}

/// An access of one place to the server of another, and an agent with its key.
async fn granted(world: &World, owner: &Place, consumer: &Place, url: &str) -> Result<Agent> {
    create(
        consumer,
        "bot",
        json!({"servers": [{"name": "weather", "namespace": owner.namespace}]}),
    )
    .await?;
    consumer.access_ready("bot").await?;
    let agent = world.agent(url, Some(&key(consumer, "bot-mcp").await?))?;
    answers(&agent, StatusCode::OK).await?;
    Ok(agent)
}

async fn key(place: &Place, secret: &str) -> Result<String> {
    let secrets: Api<Secret> = place.api();
    entry(&secrets.get(secret).await?, "APIM_SUBSCRIPTION_KEY")
}

async fn status(agent: &Agent) -> Result<StatusCode> {
    Ok(agent
        .request("tools/list", None, json!({}))
        .send()
        .await?
        .status())
}

/// Waits until the gateway answers this.
async fn answers(agent: &Agent, wanted: StatusCode) -> Result<()> {
    until_within(ONE_PASS, &format!("the gateway to answer {wanted}"), async || {
        let status = status(agent).await?;
        Ok(if status == wanted { Ok(()) } else { Err(status) })
    })
    .await
}

/// Each state is one that the consumer can bring about alone.
async fn hinder(state: &str, consumer: &Place) -> Result<()> {
    match state {
        "a planted Secret" => {
            let secrets: Api<Secret> = consumer.api();
            let object = json!({
                "metadata": {"name": "theirs", "namespace": consumer.namespace}, "stringData": {"a": "b"},
            });
            secrets
                .create(&PostParams::default(), &serde_json::from_value(object)?)
                .await?;
            change(consumer, "bot", json!({"spec": {"secretName": "theirs"}})).await
        }
        "a server that is not there" => {
            let mut servers = consumer.accesses().get("bot").await?.spec.servers;
            servers.push(serde_json::from_value(json!({"name": "absent"}))?);
            change(consumer, "bot", json!({"spec": {"servers": servers}})).await
        }
        "the claim taken off, and the Secret deleted" => {
            let claim = json!({"metadata": {"annotations": {"mcpfleet.dev/claim": null}}});
            change(consumer, "bot", claim).await?;
            let secrets: Api<Secret> = consumer.api();
            secrets.delete("bot-mcp", &DeleteParams::default()).await?;
            Ok(())
        }
        _ => Ok(()),
    }
}

async fn withdrawn(world: Arc<World>) -> Result<()> {
    for state in [
        "nothing is in the way",
        "a planted Secret",
        "a server that is not there",
        "the claim taken off, and the Secret deleted",
    ] {
        world
            .with_place("owner", async |owner| {
                world
                    .with_place("consumer", async |consumer| {
                        let url = consenting(owner, &consumer.namespace).await?;
                        let agent = granted(&world, owner, consumer, &url).await?;
                        hinder(state, consumer).await?;
                        let consent = json!({"spec": {"gateway": {"access": {"namespaces": ["Same"]}}}});
                        owner.patch("weather", consent).await?;
                        answers(&agent, StatusCode::UNAUTHORIZED).await.context(state)?;
                        let access = until("the line that is missing", async || {
                            let access = consumer.accesses().get("bot").await?;
                            let told = access.troubles().contains("below spec.gateway.access.namespaces");
                            Ok(if told { Ok(access) } else { Err(access.troubles()) })
                        })
                        .await?;
                        ensure!(
                            access.status.as_ref().and_then(|status| status.server_count) == Some(0),
                            "{state}: {:?}",
                            access.status
                        );
                        Ok(())
                    })
                    .await
            })
            .await?;
    }
    Ok(())
}

async fn access_with(place: &Place, what: &str, wanted: impl Fn(&McpAccess) -> bool) -> Result<McpAccess> {
    let accesses = place.accesses();
    until(what, async || {
        let access = accesses.get("agents").await?;
        Ok(if wanted(&access) {
            Ok(access)
        } else {
            Err(format!("{:?}", access.status))
        })
    })
    .await
}

async fn rotation(world: Arc<World>) -> Result<()> {
    world
        .clone()
        .with_place("rotation", async |place| {
            let url = gateway_url(&place.create_ready("weather", echo_spec()).await?)?;
            place.access("agents", &["weather"]).await?;
            let first = key(place, "agents-mcp").await?;
            let former = world.agent(&url, Some(&first))?;
            answers(&former, StatusCode::OK).await?;

            // A client that reads the Secret again every second, as a mounted file would show it, and calls all the time.
            let stop = Arc::new(AtomicBool::new(false));
            let calls = Arc::new(AtomicU32::new(0));
            let caller = async {
                let mut agent = former.clone();
                let mut read = std::time::Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    if read.elapsed() > Duration::from_secs(1) {
                        agent = world.agent(&url, Some(&key(place, "agents-mcp").await?))?;
                        read = std::time::Instant::now();
                    }
                    let status = status(&agent).await?;
                    ensure!(status == StatusCode::OK, "a call was refused: {status}");
                    calls.fetch_add(1, Ordering::Relaxed);
                    // Fewer than the thousand a minute that a subscription may make.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                anyhow::Ok(())
            };
            let rotating = async {
                let wanted = json!({"spec": {"rotate": "1", "rotationGraceSeconds": 10}});
                change(place, "agents", wanted).await?;
                let moved = access_with(place, "the other key", |access| {
                    let key = access.status.as_ref().and_then(|status| status.key.as_ref());
                    key.is_some_and(|key| key.rotate.as_deref() == Some("1"))
                })
                .await?;
                ensure!(moved.is_ready(), "{}", moved.troubles());
                ensure!(
                    key(place, "agents-mcp").await? != first,
                    "the Secret has another key"
                );
                ensure!(
                    status(&former).await? == StatusCode::OK,
                    "the former one works for a while"
                );
                access_with(place, "the end of the former key", |access| {
                    let key = access.status.as_ref().and_then(|status| status.key.as_ref());
                    key.is_some_and(|key| key.former_ends.is_none())
                })
                .await?;
                answers(&former, StatusCode::UNAUTHORIZED).await?;
                stop.store(true, Ordering::Relaxed);
                anyhow::Ok(())
            };
            let ended = async {
                let result = rotating.await;
                stop.store(true, Ordering::Relaxed);
                result
            };
            let (served, rotated) = tokio::join!(caller, ended);
            rotated?;
            served?;
            ensure!(
                calls.load(Ordering::Relaxed) > 50,
                "{calls:?} calls were made meanwhile"
            );
            Ok(())
        })
        .await
}

async fn made_anew(world: Arc<World>) -> Result<()> {
    world
        .clone()
        .with_place("anew", async |place| {
            place.create_ready("weather", echo_spec()).await?;
            place.access("agents", &["weather"]).await?;
            let first = key(place, "agents-mcp").await?;
            let access = place.accesses().get("agents").await?;
            let id = access
                .status
                .and_then(|status| status.gateway)
                .and_then(|gateway| gateway.subscription_id)
                .context("a subscription")?;
            let name = id.rsplit('/').next().unwrap_or_default();
            let path = format!("subscriptions/{name}/regeneratePrimaryKey");
            world.arm(Method::POST, &path, Some(json!({}))).await?;
            until("the new key in the Secret", async || {
                let now = key(place, "agents-mcp").await?;
                Ok(if now == first {
                    Err("the former one")
                } else {
                    Ok(())
                })
            })
            .await?;
            let arguments = [
                "get",
                "events",
                "-n",
                &place.namespace,
                "-o",
                "jsonpath={.items[*].reason}",
            ];
            until("the Event that tells of it", async || {
                let reasons = world.kubectl().run(arguments).await?;
                Ok(if reasons.contains("KeyReplaced") {
                    Ok(())
                } else {
                    Err(reasons)
                })
            })
            .await?;
            Ok(())
        })
        .await
}

async fn selector(world: Arc<World>) -> Result<()> {
    world
        .clone()
        .with_place("selected", async |place| {
            let urls = [
                gateway_url(&place.create_ready("one", echo_spec()).await?)?,
                gateway_url(&place.create_ready("two", echo_spec()).await?)?,
            ];
            let label = |value: &str| json!({"metadata": {"labels": {"audience": value}}});
            place.patch("one", label("agents")).await?;
            create(
                place,
                "agents",
                json!({"selector": {"matchLabels": {"audience": "agents"}}}),
            )
            .await?;
            place.access_ready("agents").await?;
            let key = key(place, "agents-mcp").await?;
            let [one, two] = [
                world.agent(&urls[0], Some(&key))?,
                world.agent(&urls[1], Some(&key))?,
            ];
            answers(&one, StatusCode::OK).await?;
            ensure!(
                status(&two).await? == StatusCode::UNAUTHORIZED,
                "two has no label"
            );
            place.patch("two", label("agents")).await?;
            answers(&two, StatusCode::OK).await?;
            place.patch("one", label("others")).await?;
            answers(&one, StatusCode::UNAUTHORIZED).await?;
            let printed = world
                .kubectl()
                .run(["get", "mcpaccess", "agents", "-n", &place.namespace])
                .await?;
            ensure!(printed.contains("SERVERS"), "{printed}");
            Ok(())
        })
        .await
}

async fn relinked(world: Arc<World>) -> Result<()> {
    world
        .clone()
        .with_place("relinked", async |place| {
            let server = place.create_ready("weather", echo_spec()).await?;
            let secret = place.access("agents", &["weather"]).await?;
            let agent = world.agent(
                &gateway_url(&server)?,
                Some(&entry(&secret, "APIM_SUBSCRIPTION_KEY")?),
            )?;
            answers(&agent, StatusCode::OK).await?;
            let since = world.now().await?;
            world.arm(Method::DELETE, &api_path(&server)?, None).await?;
            // The server's own look finds it; the link comes with it, and not with the access's own look.
            until("the link to be made again", async || {
                let writes = place.writes(since).await?;
                // The access may have looked in between, and have found no API to link.
                let at = |wanted: &str| writes.iter().rposition(|write| write == wanted);
                let (api, link) = (at("PUT apis/*"), at("PUT products/*/apis/*"));
                Ok(match (api, link) {
                    (Some(api), Some(link)) if api < link => Ok(()),
                    _ => Err(writes),
                })
            })
            .await?;
            answers(&agent, StatusCode::OK).await
        })
        .await
}
