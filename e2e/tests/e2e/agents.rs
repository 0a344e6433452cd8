//! What agents see (what must be seen 2): the official SDKs through the gateway and through the load balancer, and who is refused.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use mcp_fleet_crds::McpServer;
use mcp_fleet_e2e::clients::{Report, Sdk, Visit, WAYS, Way};
use mcp_fleet_e2e::cluster::{OUTSIDE_ADDRESSES, Side};
use serde_json::{Value, json};

use crate::Test;
use crate::place::{balancer_url, entry, gateway_url};
use crate::world::World;

/// Calls a minute in the trial of the limit: fewer than a verification makes, which must not hinder it.
const CALLS: usize = 5;
const OUTSIDE: &str = "the clients run in the network outside of a local cluster";
pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for (sdk, sdk_name) in [(Sdk::Python, "python"), (Sdk::TypeScript, "typescript")] {
        for way in WAYS {
            let name = format!(
                "agents::{sdk_name}_calls_both_tools_through_the_gateway_over_{}",
                way.name
            );
            tests.push(Test::new(name, move |world| through_gateway(world, sdk, way)).local(OUTSIDE));
        }
        let name = format!("agents::{sdk_name}_calls_both_tools_through_the_load_balancer_every_way");
        tests.push(Test::new(name, move |world| through_balancer(world, sdk)).local(OUTSIDE));
    }
    tests.extend([
        Test::new(
            "agents::the_load_balancer_refuses_who_is_not_among_the_sources",
            other_sources,
        )
        .local(OUTSIDE),
        Test::new("agents::mcp_inspector_lists_and_calls_the_tools", inspector).local(OUTSIDE),
        Test::new(
            "agents::without_a_key_or_with_a_wrong_one_the_gateway_answers_401",
            without_key,
        ),
        Test::new(
            "agents::above_the_limit_the_gateway_answers_429_with_retry_after",
            above_limit,
        ),
        Test::new("agents::the_key_never_reaches_the_server", key_stays),
        Test::new(
            "agents::the_server_is_told_who_calls_whatever_the_caller_says",
            who_calls,
        ),
    ]);
    tests
}

async fn through_gateway(world: Arc<World>, sdk: Sdk, way: Way) -> Result<()> {
    let secret = Api::<Secret>::namespaced(world.client(), "tools")
        .get("agents-mcp")
        .await?;
    let key = entry(&secret, "APIM_SUBSCRIPTION_KEY")?;
    let server = Api::<McpServer>::namespaced(world.client(), "tools")
        .get("weather")
        .await?;
    let url = way.endpoint(&gateway_url(&server)?);
    let report = visit(&world, sdk, way, &url, Some(&key)).await?;
    report.check(way)
}

async fn through_balancer(world: Arc<World>, sdk: Sdk) -> Result<()> {
    let sources = json!([format!("{}/32", OUTSIDE_ADDRESSES[0])]);
    world
        .clone()
        .with_place("direct", async |place| {
            let spec = json!({"replicas": 2, "service": {"sources": sources}, "gateway": {"enabled": false}});
            let server = place.create_ready("weather", spec).await?;
            for way in WAYS {
                let url = way.endpoint(&balancer_url(&server)?);
                let called = visit(&world, sdk, way, &url, None).await;
                called.and_then(|report| report.check(way)).context(way.name)?;
            }
            Ok(())
        })
        .await
}

async fn visit(world: &World, sdk: Sdk, way: Way, url: &str, key: Option<&str>) -> Result<Report> {
    let authority = world.installed.authority();
    let visit = Visit {
        sdk,
        url,
        way,
        key,
        authority: Some(&authority),
    };
    let start = |program: &Path| world.cluster.outside_command(program);
    world.clients.call(&start, visit).await
}

async fn inspector(world: Arc<World>) -> Result<()> {
    let secret = Api::<Secret>::namespaced(world.client(), "tools")
        .get("agents-mcp")
        .await?;
    let key = entry(&secret, "APIM_SUBSCRIPTION_KEY")?;
    let server = Api::<McpServer>::namespaced(world.client(), "tools")
        .get("weather")
        .await?;
    let url = gateway_url(&server)?;
    let authority = world.installed.authority();
    let start = |program: &Path| {
        let mut command = world.cluster.outside_command(program)?;
        command.env("NODE_EXTRA_CA_CERTS", &authority);
        Ok(command)
    };
    let header = format!("Ocp-Apim-Subscription-Key: {key}");
    let at = ["--transport", "http", "--server-url", &url, "--header", &header];
    let inspect = async |rest: &[&str]| {
        let arguments: Vec<_> = at.iter().chain(rest).map(OsString::from).collect();
        world.clients.inspect(&start, &arguments).await
    };
    let listed = inspect(&["--method", "tools/list"]).await?;
    ensure!(
        listed["tools"].as_array().is_some_and(|tools| tools.len() == 2),
        "both tools: {listed}"
    );
    let call = ["--method", "tools/call", "--tool-name", "get_alerts"];
    let called = inspect(&[&call[..], &["--tool-arg", "state=WA"]].concat()).await?;
    ensure!(
        called["content"][0]["text"]
            .as_str()
            .is_some_and(|text| !text.is_empty()),
        "an answer: {called}"
    );
    Ok(())
}

/// The example's sources are the gateway's addresses alone; a server that lets one outside address in refuses another.
async fn other_sources(world: Arc<World>) -> Result<()> {
    let weather = Api::<McpServer>::namespaced(world.client(), "tools")
        .get("weather")
        .await?;
    let url = balancer_url(&weather)?;
    for source in OUTSIDE_ADDRESSES {
        ensure!(
            from_outside(&world, &url, source.into()).await.is_err(),
            "{source} is not the gateway"
        );
    }
    world
        .clone()
        .with_place("sources", async |place| {
            let spec = json!({"service": {"sources": ["198.51.100.7/32"]}, "gateway": {"enabled": false}});
            let url = balancer_url(&place.create_ready("weather", spec).await?)?;
            let allowed = from_outside(&world, &url, OUTSIDE_ADDRESSES[1].into()).await?;
            ensure!(allowed > 0, "the named source gets an answer");
            ensure!(
                from_outside(&world, &url, OUTSIDE_ADDRESSES[0].into())
                    .await
                    .is_err(),
                "another one gets none"
            );
            Ok(())
        })
        .await
}

/// Status of a GET from one of the outside addresses.
async fn from_outside(world: &World, url: &str, source: IpAddr) -> Result<u16> {
    let url = url.to_owned();
    let client = reqwest::Client::builder()
        .no_proxy()
        .local_address(source)
        .connect_timeout(Duration::from_secs(2))
        .timeout(Duration::from_secs(5));
    let client = client.build()?;
    let task = world
        .cluster
        .runtime(Side::Outside)?
        .spawn(async move { client.get(url).send().await });
    Ok(task.await??.status().as_u16())
}

async fn without_key(world: Arc<World>) -> Result<()> {
    let server = Api::<McpServer>::namespaced(world.client(), "tools")
        .get("weather")
        .await?;
    let url = gateway_url(&server)?;
    for key in [None, Some("00000000000000000000000000000000")] {
        let answer = world
            .agent(&url, key)?
            .request("tools/list", None, json!({}))
            .send()
            .await?;
        ensure!(
            answer.status() == 401,
            "401 with key {key:?}, not {}",
            answer.status()
        );
        let body: Value = answer.json().await?;
        ensure!(
            body["message"]
                .as_str()
                .is_some_and(|message| message.contains("subscription key")),
            "the answer says why: {body}"
        );
    }
    Ok(())
}

async fn above_limit(world: Arc<World>) -> Result<()> {
    world
        .clone()
        .with_place("limit", async |place| {
            let spec = json!({"gateway": {"rateLimit": {"calls": CALLS, "renewalSeconds": 60}}});
            let server = place.create_ready("weather", spec).await?;
            let key = entry(
                &place.access("agents", &["weather"]).await?,
                "APIM_SUBSCRIPTION_KEY",
            )?;
            let agent = world.agent(&gateway_url(&server)?, Some(&key))?;
            for call in 1..=CALLS {
                let status = agent
                    .request("tools/list", None, json!({}))
                    .send()
                    .await?
                    .status();
                ensure!(status == 200, "call {call} of {CALLS} is answered, not {status}");
            }
            let answer = agent.request("tools/list", None, json!({})).send().await?;
            ensure!(
                answer.status() == 429,
                "one call more is refused, not {}",
                answer.status()
            );
            let wait = answer
                .headers()
                .get("Retry-After")
                .context("Retry-After")?
                .to_str()?
                .parse::<u32>()?;
            ensure!((1..=60).contains(&wait), "Retry-After within the period: {wait}");
            Ok(())
        })
        .await
}

/// In the header and in the query, the two places where the gateway takes a key.
async fn key_stays(world: Arc<World>) -> Result<()> {
    world
        .clone()
        .with_place("echo", async |place| {
            let server = place.create_ready("echo", echo_spec()).await?;
            let key = entry(&place.access("agents", &["echo"]).await?, "APIM_SUBSCRIPTION_KEY")?;
            let url = gateway_url(&server)?;
            let in_header = told(&world.agent(&url, Some(&key))?).await?;
            ensure!(
                !in_header.to_lowercase().contains("subscription-key") && !in_header.contains(&key),
                "not from the header: {in_header}"
            );
            let in_query = told(&world.agent(&format!("{url}?subscription-key={key}&kept=1"), None)?).await?;
            ensure!(
                in_query.contains("kept=1"),
                "other parameters reach the server: {in_query}"
            );
            ensure!(
                !in_query.to_lowercase().contains("subscription-key") && !in_query.contains(&key),
                "not from the query: {in_query}"
            );
            let requests = world.control().gateway_requests(0).await?.requests;
            let forwarded = requests.iter().filter(|entry| entry.forwarded_to.is_some());
            for request in forwarded {
                ensure!(
                    !request.key_forwarded,
                    "no request of any trial was forwarded with a key: {request:?}"
                );
            }
            Ok(())
        })
        .await
}

/// The caller's word for it is overwritten with the name of its subscription.
async fn who_calls(world: Arc<World>) -> Result<()> {
    world
        .clone()
        .with_place("who", async |place| {
            let server = place.create_ready("echo", echo_spec()).await?;
            let key = entry(&place.access("agents", &["echo"]).await?, "APIM_SUBSCRIPTION_KEY")?;
            let told = told(&world.agent(&gateway_url(&server)?, Some(&key))?).await?;
            let told: Value = serde_json::from_str(&told)?;
            let who = told["headers"]["x-mcp-caller"].as_str().unwrap_or_default();
            ensure!(
                who.contains(&format!("{}-agents-", place.namespace)),
                "the subscription of the McpAccess: {told}"
            );
            Ok(())
        })
        .await
}

/// Who a caller says that it is.
const FORGED: &str = "somebody-else";

/// What the echo server says that reached it.
pub async fn told(agent: &mcp_fleet_e2e::demo::call::Agent) -> Result<String> {
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "headers", "arguments": {}}});
    let mut request = agent
        .client
        .post(&agent.url)
        .json(&message)
        .header("Accept", "application/json, text/event-stream")
        .header("X-Mcp-Caller", FORGED);
    if let Some(key) = &agent.key {
        request = request.header("Ocp-Apim-Subscription-Key", key);
    }
    let answer = request.send().await?;
    if !answer.status().is_success() {
        bail!(
            "the echo server answered {}: {}",
            answer.status(),
            answer.text().await?
        );
    }
    let answer: Value = answer.json().await?;
    Ok(answer["result"]["content"][0]["text"]
        .as_str()
        .context("a text")?
        .to_owned())
}

/// A foreign image: the test server, which tells what reaches it.
pub fn echo_spec() -> Value {
    json!({
        "image": mcp_fleet_e2e::install::STAND_IN_IMAGE,
        "args": ["test-server", "--mode", "echo"],
    })
}
