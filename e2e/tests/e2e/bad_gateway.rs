//! Gateways and services that refuse (what must be seen 7): the status says what to change, nothing half made is left, and what passes
//! by itself is waited for.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use mcp_fleet_crds::{McpAccess, McpGateway};
use mcp_fleet_e2e::apim::{Action, Fault, Plane};
use mcp_fleet_e2e::install::Ready;
use reqwest::Method;
use serde_json::{Value, json};

use crate::Test;
use crate::place::{Place, api_path};
use crate::world::{CLUSTER_ID, RESOURCE_GROUP, SERVICE, SUBSCRIPTION, World, gone, until};

pub fn tests() -> Vec<Test> {
    let mut tests = vec![
        Test::new("bad_gateway::a_gateway_that_is_missing", missing),
        Test::new(
            "bad_gateway::a_gateway_that_does_not_allow_the_namespace",
            not_allowed,
        ),
        Test::new("bad_gateway::a_gateway_whose_credential_is_refused", credential),
        Test::new("bad_gateway::a_path_outside_the_prefix", outside_prefix),
        Test::new("bad_gateway::a_path_that_another_server_has", taken_by_server),
        Test::new("bad_gateway::a_path_that_another_api_has", taken_by_api),
        Test::new("bad_gateway::an_api_of_the_same_id_that_is_not_ours", foreign_api),
        Test::new("bad_gateway::a_policy_that_the_service_refuses", refused_policy),
        Test::new("bad_gateway::an_access_without_consent", no_consent),
    ];
    for (name, action) in passing_faults() {
        tests.push(Test::new(
            format!("bad_gateway::{name}_is_waited_for_and_nothing_is_made_twice"),
            move |world| passes(world, action),
        ));
    }
    tests
}

/// Everything that a service answers now and then, and that goes away.
fn passing_faults() -> Vec<(&'static str, Action)> {
    let answer = |status: u16, code: &str, message: &str, headers: &[(&str, &str)]| Action::Answer {
        status,
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        body: Some(json!({"error": {"code": code, "message": message, "details": null}})),
    };
    vec![
        (
            "a_429_with_retry_after",
            answer(
                429,
                "SubscriptionRequestsThrottled",
                "Number of requests exceeded the limit.",
                &[("Retry-After", "2")],
            ),
        ),
        (
            "a_409_in_progress",
            answer(
                409,
                "PessimisticConcurrencyConflict",
                "Operation on the API is in progress",
                &[],
            ),
        ),
        (
            "a_412",
            answer(
                412,
                "PreconditionFailed",
                "The specified ETag does not match.",
                &[],
            ),
        ),
        (
            "a_500",
            answer(
                500,
                "InternalServerError",
                "Request processing failed due to internal error.",
                &[],
            ),
        ),
        ("a_hang", Action::Hang),
        ("a_connection_cut_before_the_request", Action::CutBefore),
        ("a_connection_cut_after_the_request", Action::CutAfter),
    ]
}

async fn nothing_registered(place: &Place) -> Result<()> {
    let documents = place.documents().await?;
    ensure!(documents.is_empty(), "nothing is registered: {documents:?}");
    Ok(())
}

/// The first three writes of a create meet the fault: backend, API and policy.
async fn passes(world: Arc<World>, action: Action) -> Result<()> {
    world
        .clone()
        .with_place("fault", async |place| {
            let kinds: &[&str] = match action {
                // Each hang costs a time limit of the client.
                Action::Hang => &["apis/[^/]*\\?"],
                _ => &["backends/", "apis/[^/]*\\?", "policies/"],
            };
            for kind in kinds {
                let path =
                    format!("{kind}.*").replace("backends/", &format!("backends/{}", place.arm_part()));
                let path = path
                    .replace("apis/[^/]*", &format!("apis/{}[^/]*", place.arm_part()))
                    .replace("policies/", &format!("{}[^/]*/policies/", place.arm_part()));
                let fault = Fault {
                    plane: Plane::Arm,
                    method: Some("PUT".to_owned()),
                    path: Some(path),
                    skip: 0,
                    count: Some(1),
                    action: action.clone(),
                };
                world.control().fault(&fault).await?;
            }
            let since = world.now().await?;
            let server = place.create_ready("weather", json!({})).await?;
            let met = world.arm_requests(since, &place.arm_part()).await?;
            ensure!(
                met.iter()
                    .any(|entry| entry.status.is_none_or(|status| status >= 400 && status != 404)),
                "the fault was met: {met:?}"
            );
            let documents = place.documents().await?;
            let count = |kind: &str| {
                documents
                    .iter()
                    .filter(|path| path.starts_with(kind) && path.matches('/').count() == 1)
                    .count()
            };
            ensure!(
                (count("backends/"), count("apis/"), count("subscriptions/")) == (1, 1, 1),
                "one of each: {documents:?}"
            );
            ensure!(
                documents.contains(&format!("{}/policies/policy", api_path(&server)?)),
                "with its policy: {documents:?}"
            );
            place.delete("weather").await?;
            place.server_gone("weather").await?;
            nothing_registered(place).await
        })
        .await
}

async fn missing(world: Arc<World>) -> Result<()> {
    world
        .clone()
        .with_place("missing", async |place| {
            place
                .create(
                    "weather",
                    json!({"gateway": {"name": format!("{}-gateway", place.namespace)}}),
                )
                .await?;
            let message = place
                .condition("weather", "Accepted", "False", "GatewayNotFound")
                .await?;
            ensure!(
                message.contains("create it") && message.contains("gateway.name"),
                "what to change: {message}"
            );
            nothing_registered(place).await?;
            // And it goes on by itself when the gateway comes.
            let gateway = gateway(&world, &format!("{}-gateway", place.namespace), json!({})).await?;
            let result = place.ready("weather").await.map(drop);
            place.delete("weather").await?;
            place.server_gone("weather").await?;
            remove(&world, &gateway).await?;
            result
        })
        .await
}

/// A gateway beside the default one, to the same service.
async fn gateway(world: &World, name: &str, more: Value) -> Result<String> {
    let mut spec = json!({
        "clusterId": CLUSTER_ID,
        "apim": {"subscriptionId": SUBSCRIPTION, "resourceGroup": RESOURCE_GROUP, "serviceName": SERVICE},
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        match (spec.get_mut(name), value) {
            (Some(Value::Object(own)), Value::Object(more)) => own.extend(more.clone()),
            _ => spec[name] = value.clone(),
        }
    }
    let object = json!({"apiVersion": "mcpfleet.dev/v1alpha1", "kind": "McpGateway", "metadata": {"name": name}, "spec": spec});
    Api::<McpGateway>::all(world.client())
        .create(&PostParams::default(), &serde_json::from_value(object)?)
        .await?;
    Ok(name.to_owned())
}

async fn remove(world: &World, gateway: &str) -> Result<()> {
    Api::<McpGateway>::all(world.client())
        .delete(gateway, &DeleteParams::default())
        .await
        .map(drop)
        .or_else(gone)
}

async fn not_allowed(world: Arc<World>) -> Result<()> {
    world
        .clone()
        .with_place("refused", async |place| {
            let gateway = gateway(
                &world,
                &place.namespace,
                json!({"allowedNamespaces": ["somewhere-else"]}),
            )
            .await?;
            place
                .create("weather", json!({"gateway": {"name": gateway}}))
                .await?;
            let message = place
                .condition("weather", "Accepted", "False", "GatewayNotAllowed")
                .await;
            let registered = nothing_registered(place).await;
            remove(&world, &gateway).await?;
            let message = message?;
            ensure!(
                message.contains("allowedNamespaces") && message.contains(&place.namespace),
                "what to change: {message}"
            );
            registered
        })
        .await
}

async fn credential(world: Arc<World>) -> Result<()> {
    world
        .clone()
        .with_place("credential", async |place| {
            let wrong = json!({"apim": {"credential": {"workloadIdentity": {"clientId": "00000000-0000-0000-0000-0000000000ff"}}}});
            let gateway = gateway(&world, &place.namespace, wrong).await?;
            let gateways: Api<McpGateway> = Api::all(world.client());
            let said = until("a gateway that says that its credential is refused", async || {
                let found = gateways.get(&gateway).await?;
                let ready = found.condition("Ready").filter(|ready| ready.status == "False" && ready.reason != "Pending");
                Ok(ready.map(|ready| (ready.reason, ready.message)).ok_or(found.status))
            })
            .await;
            place.create("weather", json!({"gateway": {"name": gateway}})).await?;
            let waits = place.condition("weather", "Accepted", "False", "GatewayNotReady").await;
            let registered = nothing_registered(place).await;
            place.delete("weather").await?;
            place.server_gone("weather").await?;
            remove(&world, &gateway).await?;
            let (reason, message) = said?;
            ensure!(reason == "AuthenticationFailed", "the reason: {reason}: {message}");
            ensure!(message.contains("AADSTS"), "what Entra said: {message}");
            ensure!(waits?.contains(&gateway), "the server names the gateway");
            registered
        })
        .await
}

async fn outside_prefix(world: Arc<World>) -> Result<()> {
    world
        .with_place("outside", async |place| {
            place
                .create("weather", json!({"gateway": {"path": "payments/cards"}}))
                .await?;
            let message = place
                .condition("weather", "Accepted", "False", "PathNotAllowed")
                .await?;
            ensure!(
                message.contains("choose a path below demo/"),
                "what to change: {message}"
            );
            nothing_registered(place).await
        })
        .await
}

async fn taken_by_server(world: Arc<World>) -> Result<()> {
    world
        .with_place("taken", async |place| {
            let path = format!("demo/{}/shared", place.namespace);
            place
                .create_ready("first", json!({"gateway": {"path": path}}))
                .await?;
            let before = place.documents().await?;
            place.create("second", json!({"gateway": {"path": path}})).await?;
            let servers = place.servers();
            let message = until("a conflict", async || {
                let server = servers.get("second").await?;
                let ready = server
                    .condition("Ready")
                    .filter(|ready| ready.reason == "Conflict");
                Ok(ready.map(|ready| ready.message).ok_or_else(|| server.troubles()))
            })
            .await?;
            ensure!(
                message.contains("first") && message.contains("gateway.path"),
                "who has it and what to change: {message}"
            );
            ensure!(place.documents().await? == before, "the second is not registered");
            place.ready("first").await?;
            // It gets the path when the first lets go of it.
            place.delete("first").await?;
            place.ready("second").await?;
            Ok(())
        })
        .await
}

/// An API that somebody else made.
async fn other_api(world: &World, id: &str, path: &str) -> Result<()> {
    let body = json!({"properties": {"displayName": format!("Payments {id}"), "path": path, "protocols": ["https"], "serviceUrl": "https://payments.example.com"}});
    world.arm(Method::PUT, &format!("apis/{id}"), Some(body)).await?;
    until("the other API", async || {
        Ok(world
            .control()
            .document(&format!("apis/{id}"))
            .await?
            .ok_or("not yet"))
    })
    .await?;
    Ok(())
}

async fn taken_by_api(world: Arc<World>) -> Result<()> {
    world.with_place("occupied", path_taken).await
}

/// A conflict as long as the other API is there.
pub async fn path_taken(place: &Place) -> Result<()> {
    let world = &place.world;
    let path = format!("demo/{}/weather", place.namespace);
    let id = format!("payments-{}", place.namespace);
    other_api(world, &id, &path).await?;
    place.create("weather", json!({})).await?;
    let message = place
        .condition("weather", "Registered", "False", "Conflict")
        .await?;
    ensure!(message.contains(&path), "the path: {message}");
    nothing_registered(place).await?;
    world.arm(Method::DELETE, &format!("apis/{id}"), None).await?;
    place.ready("weather").await.map(drop)
}

/// The id is known before: it is made of names.
async fn foreign_api(world: Arc<World>) -> Result<()> {
    world
        .clone()
        .with_place("foreign", async |place| {
            place
                .create_ready("weather", json!({"gateway": {"managementPolicy": "Manage"}}))
                .await?;
            let api = api_path(&place.servers().get("weather").await?)?;
            let id = api.trim_start_matches("apis/").to_owned();
            place.delete("weather").await?;
            place.server_gone("weather").await?;
            other_api(&world, &id, &format!("elsewhere/{}", place.namespace)).await?;
            let (before, since) = (
                world.control().document(&api).await?.context("the other API")?,
                world.now().await?,
            );
            place.create("weather", json!({})).await?;
            let message = place
                .condition("weather", "Registered", "False", "Conflict")
                .await?;
            ensure!(message.contains(&id), "which API: {message}");
            place.delete("weather").await?;
            place.server_gone("weather").await?;
            ensure!(
                world.control().document(&api).await? == Some(before),
                "the other API is as it was"
            );
            let writes = place.writes(since).await?;
            ensure!(writes.is_empty(), "nothing was written: {writes:?}");
            world.arm(Method::DELETE, &api, None).await.map(drop)
        })
        .await
}

async fn refused_policy(world: Arc<World>) -> Result<()> {
    world
        .clone()
        .with_place("policy", async |place| {
            let body = json!({"error": {"code": "ValidationError", "message": "One or more fields contain incorrect values:", "details": [
                {"code": "ValidationError", "target": "rate-limit", "message": "Error in element 'rate-limit' on line 4, column 6: calls is too large."}]}});
            let fault = Fault {
                plane: Plane::Arm,
                method: Some("PUT".to_owned()),
                path: Some(format!("{}.*/policies/policy", place.arm_part())),
                skip: 0,
                count: None,
                action: Action::Answer { status: 400, headers: [].into(), body: Some(body) },
            };
            world.control().fault(&fault).await?;
            place.create("weather", json!({})).await?;
            let message = place.condition("weather", "Registered", "False", "Refused").await?;
            ensure!(message.contains("rate-limit") && message.contains("calls is too large"), "what the service said: {message}");
            // The half-made API leads nowhere: no policy, no backend behind it, and no key for it.
            let api = place.documents().await?.into_iter().find(|path| path.starts_with("apis/") && path.matches('/').count() == 1);
            if let Some(api) = api {
                let document = world.control().document(&api).await?.context("the API")?;
                ensure!(document["properties"]["serviceUrl"].as_str().unwrap_or_default().is_empty(), "no way past the policy: {document}");
            }
            place.delete("weather").await?;
            place.server_gone("weather").await?;
            nothing_registered(place).await
        })
        .await
}

async fn no_consent(world: Arc<World>) -> Result<()> {
    world
        .clone()
        .with_place("owner", async |owner| {
            owner.create_ready("weather", json!({})).await?;
            world
                .clone()
                .with_place("stranger", async |stranger| {
                    let object = json!({
                        "apiVersion": "mcpfleet.dev/v1alpha1", "kind": "McpAccess",
                        "metadata": {"name": "agents", "namespace": stranger.namespace},
                        "spec": {"servers": [{"name": "weather", "namespace": owner.namespace}]},
                    });
                    let accesses: Api<McpAccess> = stranger.accesses();
                    accesses
                        .create(&PostParams::default(), &serde_json::from_value(object)?)
                        .await?;
                    let message = until("an access that is not ready", async || {
                        let access = accesses.get("agents").await?;
                        let refused = access
                            .condition("Ready")
                            .filter(|ready| ready.status == "False" && ready.reason != "Pending");
                        Ok(refused.map(|ready| ready.message).ok_or(access.status))
                    })
                    .await?;
                    ensure!(
                        message.contains(&format!("namespaces: [Same, {}]", stranger.namespace))
                            && message.contains("weather"),
                        "what to change: {message}"
                    );
                    ensure!(
                        stranger.documents().await?.is_empty(),
                        "nothing was made in API Management: {:?}",
                        stranger.documents().await?
                    );
                    let secrets = stranger
                        .api::<k8s_openapi::api::core::v1::Secret>()
                        .list(&ListParams::default())
                        .await?;
                    ensure!(
                        secrets.items.is_empty(),
                        "no Secret: {:?}",
                        secrets
                            .items
                            .iter()
                            .map(ResourceExt::name_any)
                            .collect::<Vec<_>>()
                    );
                    // With consent it goes on by itself.
                    let consent =
                        json!({"spec": {"gateway": {"access": {"namespaces": [stranger.namespace]}}}});
                    owner
                        .servers()
                        .patch("weather", &PatchParams::default(), &Patch::Merge(consent))
                        .await?;
                    stranger.access_ready("agents").await?;
                    Ok(())
                })
                .await
        })
        .await
}
