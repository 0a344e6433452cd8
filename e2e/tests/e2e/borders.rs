//! Borders (what must be seen 2): two teams, one gateway, and what one of them tries against the other's live server
//! while a client calls it throughout; and that nothing is open to addresses that nobody named.
//!
//! Gateways of their own for the service that there is: what one of them allows is nothing to the other trials.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Service;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use mcp_fleet_crds::{McpAccess, McpGateway};
use mcp_fleet_e2e::demo::call::Agent;
use mcp_fleet_e2e::install::{Ready, STAND_IN_IMAGE};
use serde_json::{Value as Json, json};

use crate::Test;
use crate::place::{Place, api_path, balancer_url, entry, gateway_url};
use crate::world::{RESOURCE_GROUP, SERVICE, SUBSCRIPTION, World, gone, until};

const PAUSE: Duration = Duration::from_millis(200);

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "borders::an_attackers_namespace_changes_nothing_for_its_victim",
            attack,
        ),
        Test::new(
            "borders::a_claim_that_a_tenant_wrote_holds_no_gateway",
            forged_claim,
        ),
        Test::new("borders::a_tier_without_addresses_opens_nothing", no_addresses).alone(),
        Test::new(
            "borders::switching_the_gateway_off_closes_the_load_balancer",
            switched_off,
        ),
        Test::new(
            "borders::a_leave_that_is_withdrawn_closes_what_it_opened",
            withdrawn,
        ),
    ]
}

/// A McpGateway for the one service, gone afterwards. Its servers go first, with their namespaces.
struct Gateway {
    world: Arc<World>,
    name: String,
}

impl Gateway {
    async fn make(world: &Arc<World>, allow: Json) -> Result<Self> {
        let name = format!("b{:06x}", rand::random::<u32>() & 0x00ff_ffff);
        let object = json!({"apiVersion": "mcpfleet.dev/v1alpha1", "kind": "McpGateway", "metadata": {"name": name},
            "spec": {"clusterId": name, "allow": allow,
                "apim": {"subscriptionId": SUBSCRIPTION, "resourceGroup": RESOURCE_GROUP, "serviceName": SERVICE}}});
        let gateways: Api<McpGateway> = Api::all(world.client());
        gateways
            .create(&PostParams::default(), &serde_json::from_value(object)?)
            .await?;
        Ok(Self {
            world: world.clone(),
            name,
        })
    }

    fn api(&self) -> Api<McpGateway> {
        Api::all(self.world.client())
    }

    async fn ready(&self) -> Result<McpGateway> {
        until(&format!("McpGateway {} to be Ready", self.name), async || {
            let gateway = self.api().get(&self.name).await?;
            Ok(if gateway.is_ready() {
                Ok(gateway)
            } else {
                Err(gateway.troubles())
            })
        })
        .await
    }

    async fn patch(&self, change: Json) -> Result<()> {
        self.api()
            .patch(&self.name, &PatchParams::default(), &Patch::Merge(change))
            .await?;
        Ok(())
    }

    async fn delete(&self) -> Result<()> {
        self.api()
            .delete(&self.name, &DeleteParams::default())
            .await
            .map(drop)
            .or_else(gone)
    }

    /// A server's `spec.gateway` in it, with more.
    fn with(&self, more: Json) -> Json {
        let mut registration = more;
        registration["name"] = json!(self.name);
        registration
    }
}

async fn with_gateway<T>(
    world: &Arc<World>,
    allow: Json,
    test: impl AsyncFnOnce(&Gateway) -> Result<T>,
) -> Result<T> {
    let gateway = Gateway::make(world, allow).await?;
    let result = match gateway.ready().await {
        Ok(_) => test(&gateway).await,
        Err(error) => Err(error),
    };
    gateway.delete().await?;
    result
}

async fn service(place: &Place, name: &str) -> Result<Service> {
    Ok(place.api::<Service>().get(name).await?)
}

fn type_of(service: &Service) -> &str {
    let spec = service.spec.as_ref();
    spec.and_then(|spec| spec.type_.as_deref()).unwrap_or_default()
}

/// Open to everybody.
fn is_open(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    let ranges = spec.and_then(|spec| spec.load_balancer_source_ranges.as_ref());
    type_of(service) == "LoadBalancer" && ranges.is_none_or(Vec::is_empty)
}

/// Calls again and again until `done`; the first call that fails is the error. How many there were.
async fn calls(agent: &Agent, done: &AtomicBool) -> Result<u32> {
    let mut count = 0;
    while !done.load(Ordering::Relaxed) {
        let text = agent
            .tool("get_alerts", json!({"state": "WA"}))
            .await
            .with_context(|| format!("call {count} of the victim's client"))?;
        ensure!(!text.is_empty(), "call {count} has an answer");
        count += 1;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(count)
}

/// One attempt: a spec, the condition's reason, and what the message must name.
struct Attempt {
    spec: Json,
    reason: &'static str,
    words: String,
}

fn attempts(gateway: &Gateway, victim: &Place, address: &str) -> Vec<Attempt> {
    let path = format!("{}/{}/ledger", gateway.name, victim.namespace);
    let rule = |name: &str| format!("McpGateway {} spec.allow.{name}", gateway.name);
    let attempt = |spec: Json, reason, words: String| Attempt { spec, reason, words };
    let at = |more: Json| json!({"gateway": gateway.with(more)});
    let any = json!({"service": {"sources": ["Any"]}, "gateway": gateway.with(json!({}))});
    let with = |member: &str, value: Json| {
        let mut spec = at(json!({}));
        spec[member] = value;
        spec
    };
    let pip = json!({"annotations": {"service.beta.kubernetes.io/azure-pip-name": "ledger-ip"}});
    let unconfined =
        json!({"annotations": {"container.apparmor.security.beta.kubernetes.io/mcp": "unconfined"}});
    let reach_in = json!({
        "gateway": gateway.with(json!({"path": format!("{path}/messages"), "subscriptionRequired": false})),
        "transports": {"sse": {"path": "/events", "messagesPath": "/{session_id}"}},
    });
    vec![
        attempt(at(json!({"path": path})), "PathNotAllowed", rule("anyPath")),
        attempt(
            at(json!({"path": path.to_uppercase()})),
            "PathNotAllowed",
            rule("anyPath"),
        ),
        attempt(
            at(json!({"path": format!("{path}/mcp")})),
            "PathNotAllowed",
            rule("anyPath"),
        ),
        attempt(reach_in, "PathNotAllowed", rule("anyPath")),
        attempt(
            at(json!({"path": format!("{}/{}", gateway.name, victim.namespace)})),
            "PathNotAllowed",
            rule("anyPath"),
        ),
        attempt(
            at(json!({"subscriptionRequired": false})),
            "AnonymousNotAllowed",
            rule("anonymous"),
        ),
        attempt(
            at(json!({"cors": {"allowedOrigins": ["*"]}})),
            "WildcardCorsNotAllowed",
            rule("wildcardCors"),
        ),
        attempt(
            at(json!({"backendUrl": address})),
            "BackendUrlNotAllowed",
            rule("backendUrl"),
        ),
        attempt(
            at(json!({"managementPolicy": "Orphan"})),
            "OrphanNotAllowed",
            rule("orphan"),
        ),
        attempt(any, "AnySourceNotAllowed", rule("anySource")),
        attempt(
            json!({"service": {"type": "LoadBalancer"}, "gateway": gateway.with(json!({"enabled": false}))}),
            "NoSourceAddresses",
            "service.sources names CIDRs".to_owned(),
        ),
        attempt(
            with("serviceAccountName", json!("cluster-admin")),
            "ServiceAccountNotAllowed",
            rule("serviceAccounts"),
        ),
        attempt(
            with("service", pip),
            "ServiceAnnotationNotAllowed",
            rule("serviceAnnotations"),
        ),
        attempt(with("podTemplate", unconfined), "Invalid", "apparmor".to_owned()),
    ]
}

async fn attack(world: Arc<World>) -> Result<()> {
    with_gateway(&world.clone(), json!({}), async |gateway| {
        world
            .clone()
            .with_place("victim", async |victim| {
                let spec = json!({"replicas": 2, "gateway": gateway.with(json!({}))});
                let server = victim.create_ready("ledger", spec).await?;
                let key = entry(
                    &victim.access("agents", &["ledger"]).await?,
                    "APIM_SUBSCRIPTION_KEY",
                )?;
                let (url, api) = (gateway_url(&server)?, api_path(&server)?);
                let agent = world.agent(&url, Some(&key))?;
                let since = world.control().gateway_requests(u64::MAX).await?.last;
                let before = world.control().document(&api).await?;
                ensure!(before.is_some(), "the victim's API is there");
                let done = AtomicBool::new(false);
                let attacking = async {
                    let result = world
                        .clone()
                        .with_place("attacker", async |attacker| {
                            assault(gateway, victim, attacker, &balancer_url(&server)?, &api).await
                        })
                        .await;
                    done.store(true, Ordering::Relaxed);
                    result
                };
                let (called, attacked) = tokio::join!(calls(&agent, &done), attacking);
                attacked?;
                ensure!(called? > 10, "the client called throughout");
                ensure!(
                    world.control().document(&api).await? == before,
                    "the victim's API is as it was"
                );
                only_the_victim_was_called(&world, since, &url, &api, &balancer_url(&server)?).await?;
                victim.ready("ledger").await.map(drop)
            })
            .await
    })
    .await
}

async fn assault(
    gateway: &Gateway,
    victim: &Place,
    attacker: &Place,
    address: &str,
    api: &str,
) -> Result<()> {
    for (index, attempt) in attempts(gateway, victim, address).into_iter().enumerate() {
        let Attempt {
            mut spec,
            reason,
            words,
        } = attempt;
        let name = format!("attempt-{index}");
        // Only what is refused matters, and pods take time.
        spec["replicas"] = json!(0);
        attacker.create(&name, spec.clone()).await?;
        let message = attacker
            .condition(&name, "Accepted", "False", reason)
            .await
            .with_context(|| spec.to_string())?;
        ensure!(
            message.contains(&words),
            "{spec} should be refused with {words:?}: {message}"
        );
        let exposed = service(attacker, &name).await?;
        ensure!(!is_open(&exposed), "{spec} opens nothing");
        attacker.delete(&name).await?;
    }
    aimed_claim(gateway, attacker, api).await?;
    uninvited(victim, attacker).await
}

/// A claim with the victim's ids aims no DELETE: neither at once nor when its object goes.
async fn aimed_claim(gateway: &Gateway, attacker: &Place, api: &str) -> Result<()> {
    let off = json!({"replicas": 0, "gateway": gateway.with(json!({"enabled": false}))});
    let server = attacker.create("thief", off).await?;
    forge(attacker, "thief", &server.uid().unwrap_or_default(), gateway, api).await?;
    attacker
        .condition("thief", "Accepted", "True", "Accepted")
        .await?;
    attacker.delete("thief").await?;
    attacker.server_gone("thief").await?;
    let left = attacker.world.control().document(api).await?;
    ensure!(left.is_some(), "the victim's API is still there");
    Ok(())
}

async fn forge(place: &Place, name: &str, uid: &str, gateway: &Gateway, api: &str) -> Result<()> {
    let service = format!(
        "/subscriptions/{SUBSCRIPTION}/resourceGroups/{RESOURCE_GROUP}/providers/Microsoft.ApiManagement/service/{SERVICE}"
    );
    let id = api.trim_start_matches("apis/");
    let claim = json!({"uid": uid, "gateway": gateway.name, "service": service, "api": format!("{service}/apis/{id}"),
        "backend": format!("{service}/backends/{id}"), "subscription": format!("{service}/subscriptions/{id}")});
    let change = json!({"metadata": {"annotations": {"mcpfleet.dev/claim": claim.to_string()}}});
    place.patch(name, change).await.map(drop)
}

/// Who was not invited gets no key.
async fn uninvited(victim: &Place, attacker: &Place) -> Result<()> {
    let object = json!({"apiVersion": "mcpfleet.dev/v1alpha1", "kind": "McpAccess",
        "metadata": {"name": "thief", "namespace": attacker.namespace},
        "spec": {"servers": [{"name": "ledger", "namespace": victim.namespace}]}});
    let accesses: Api<McpAccess> = attacker.accesses();
    accesses
        .create(&PostParams::default(), &serde_json::from_value(object)?)
        .await?;
    until("the refusal of McpAccess thief", async || {
        let access = accesses.get("thief").await?;
        let refused = access
            .condition("Accepted")
            .is_some_and(|accepted| accepted.reason == "NoConsent");
        Ok(if refused { Ok(()) } else { Err(access.troubles()) })
    })
    .await?;
    accesses.delete("thief", &DeleteParams::default()).await?;
    Ok(())
}

/// Every call to the victim's address went to its API, and from there to its own load balancer.
async fn only_the_victim_was_called(
    world: &World,
    since: u64,
    url: &str,
    api: &str,
    balancer: &str,
) -> Result<()> {
    let path = url::Url::parse(url)?.path().to_owned();
    let id = api.trim_start_matches("apis/");
    let backend = balancer.trim_end_matches("/mcp");
    let calls = world.control().gateway_requests(since).await?.requests;
    let calls: Vec<_> = calls
        .into_iter()
        .filter(|call| call.path.starts_with(&path))
        .collect();
    ensure!(!calls.is_empty(), "the client's calls are in the journal");
    for call in calls {
        ensure!(
            call.api.as_deref() == Some(id),
            "a call went to another API: {call:?}"
        );
        let forwarded = call.forwarded_to.clone().unwrap_or_default();
        ensure!(forwarded.starts_with(backend), "a call went elsewhere: {call:?}");
    }
    Ok(())
}

/// Neither a claim with true names nor one with false ones, in a namespace that the gateway does not allow.
async fn forged_claim(world: Arc<World>) -> Result<()> {
    let gateway = Gateway::make(&world, json!({})).await?;
    gateway
        .patch(json!({"spec": {"allowedNamespaces": ["nobody"]}}))
        .await?;
    gateway.ready().await?;
    world
        .clone()
        .with_place("forger", async |place| {
            let spec = json!({"replicas": 0, "gateway": {"enabled": false}});
            let server = place.create("weather", spec).await?;
            let uid = server.uid().unwrap_or_default();
            forge(place, "weather", &uid, &gateway, "apis/anything").await?;
            gateway.delete().await?;
            until("the end of the McpGateway", async || {
                // Again and again, as somebody would who wants it to stay.
                forge(place, "weather", &uid, &gateway, "apis/anything").await?;
                let left = gateway.api().get_opt(&gateway.name).await?;
                Ok(left.map_or(Ok(()), |left| Err(left.troubles())))
            })
            .await
        })
        .await
}

/// The switch is the service's, so all gateways are told: nothing else runs meanwhile, and what was known before comes back.
async fn no_addresses(world: Arc<World>) -> Result<()> {
    let before = addresses(&world, "contoso").await?;
    world.control().set(json!({"withoutAddresses": true})).await?;
    let result = match Gateway::make(&world, json!({})).await {
        Ok(gateway) => {
            let result = v2_tier(&world, &gateway, &before).await;
            gateway.delete().await.and(result)
        }
        Err(error) => Err(error),
    };
    world.control().set(json!({"withoutAddresses": false})).await?;
    until("contoso to have its addresses again", async || {
        let now = addresses(&world, "contoso").await?;
        Ok(if now == before { Ok(()) } else { Err(now) })
    })
    .await?;
    result
}

async fn addresses(world: &World, gateway: &str) -> Result<Vec<String>> {
    let gateways: Api<McpGateway> = Api::all(world.client());
    let status = gateways.get(gateway).await?.status.unwrap_or_default();
    Ok(status.source_addresses)
}

async fn v2_tier(world: &Arc<World>, gateway: &Gateway, real: &[String]) -> Result<()> {
    let status = gateway.ready().await?.status.unwrap_or_default();
    ensure!(status.source_addresses.is_empty(), "no addresses: {status:?}");
    let ranges: Vec<_> = real.iter().map(|address| format!("{address}/32")).collect();
    world
        .clone()
        .with_place("v2", async |place| {
            // The bundled image guards itself, so its load balancer may be open to all.
            place
                .create("guarded", json!({"gateway": gateway.with(json!({}))}))
                .await?;
            let own = json!({"image": STAND_IN_IMAGE, "args": ["test-server", "--mode", "echo"], "gateway": gateway.with(json!({}))});
            place.create("weather", own).await?;
            let message = place
                .condition("weather", "Accepted", "False", "NoSourceAddresses")
                .await?;
            for words in ["apim.sourceRanges", "service.sources", "allow.anySource"] {
                ensure!(message.contains(words), "{words}: {message}");
            }
            place
                .condition("weather", "Available", "True", "Available")
                .await?;
            ensure!(
                type_of(&service(place, "weather").await?) == "ClusterIP",
                "nothing is open"
            );
            place.ready("guarded").await?;
            ensure!(
                is_open(&service(place, "guarded").await?),
                "open, since it guards itself"
            );
            // The first of the ways out.
            gateway
                .patch(json!({"spec": {"apim": {"sourceRanges": ranges}}}))
                .await?;
            place.ready("weather").await?;
            ensure!(!is_open(&service(place, "weather").await?), "only to the gateway");
            Ok(())
        })
        .await
}

async fn switched_off(world: Arc<World>) -> Result<()> {
    world
        .with_place("closes", async |place| {
            place.create_ready("weather", json!({})).await?;
            place
                .patch("weather", json!({"spec": {"gateway": {"enabled": false}}}))
                .await?;
            until("the load balancer to be gone", async || {
                let service = service(place, "weather").await?;
                ensure!(!is_open(&service), "open for a moment: {service:?}");
                Ok(match type_of(&service) {
                    "ClusterIP" => Ok(()),
                    other => Err(other.to_owned()),
                })
            })
            .await?;
            let documents = place.documents().await?;
            ensure!(
                documents.is_empty(),
                "the address was given up after the API: {documents:?}"
            );
            place.ready("weather").await.map(drop)
        })
        .await
}

async fn withdrawn(world: Arc<World>) -> Result<()> {
    with_gateway(&world.clone(), json!({"anySource": true}), async |gateway| {
        world
            .with_place("leave", async |place| {
                let spec = json!({"service": {"sources": ["Any"]}, "gateway": gateway.with(json!({}))});
                let server = place.create_ready("weather", spec).await?;
                let api = api_path(&server)?;
                ensure!(is_open(&service(place, "weather").await?), "open, as was allowed");
                gateway
                    .patch(json!({"spec": {"allow": {"anySource": false}}}))
                    .await?;
                let message = place
                    .condition("weather", "Registered", "False", "AnySourceNotAllowed")
                    .await?;
                ensure!(message.contains("spec.allow.anySource"), "the rule: {message}");
                until("the Service to be closed", async || {
                    let service = service(place, "weather").await?;
                    Ok(match type_of(&service) {
                        "ClusterIP" => Ok(()),
                        other => Err(other.to_owned()),
                    })
                })
                .await?;
                ensure!(
                    place.world.control().document(&api).await?.is_none(),
                    "nothing is published that leads nowhere"
                );
                Ok(())
            })
            .await
    })
    .await
}
