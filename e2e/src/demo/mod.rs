//! The demo: the main job from nothing, in front of a person's eyes.
//!
//! In: a machine, or with MCP_FLEET_KUBECONFIG a cluster. Out: a summary on standard output and everything running until Ctrl-C,
//! then nothing left; with `--exit` it ends by itself, with an error when anything is not as it should be. The line:
//!
//! cluster -> install -> examples -> Ready -> calls -> check -> summary -> wait -> removal

pub mod call;
mod check;
mod outcome;
mod summary;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use mcp_fleet_crds::{McpAccess, McpGateway, McpServer};
use serde_json::json;

use self::call::Agent;
use self::outcome::{Calls, Outcome, Took};
use crate::cluster::{Cluster, KUBECONFIG_VARIABLE};
use crate::commands::interrupted;
use crate::install::{
    self, ACCESS, GATEWAY, GATEWAY_HOST, Installed, PORT, Settings, WEATHER, wait_for_ready,
};
use crate::progress::Progress;

const NAMESPACE: &str = "tools";
const SERVER: &str = "weather";
const GATEWAY_NAME: &str = "contoso";
const ACCESS_NAME: &str = "agents";
const SECRET: &str = "agents-mcp";
const LIMIT: Duration = Duration::from_mins(3);

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Do it all, check it, and end
    #[arg(long)]
    pub exit: bool,
}

pub async fn run(options: Options) -> Result<()> {
    let progress = Progress::new();
    if std::env::var_os(KUBECONFIG_VARIABLE).is_none_or(|path| path.is_empty()) {
        progress.say("needed: Linux, root, Rust, Go 1.26 and a C compiler; the Debian packages runc and nftables are installed if missing");
    }
    let cluster = tokio::select! {
        cluster = Cluster::start(&progress) => cluster?,
        result = interrupted() => return result,
    };
    let mut installed = None;
    let result = tokio::select! {
        result = present(&cluster, &mut installed, &options, &progress) => result,
        result = interrupted() => result,
    };
    let removed = take_down(cluster, installed, &progress).await;
    // The first error is the one that explains the second.
    result.and(removed)
}

/// Everything up to the end that a person or `--exit` chooses.
async fn present(
    cluster: &Cluster,
    installed: &mut Option<Installed>,
    options: &Options,
    progress: &Progress,
) -> Result<()> {
    let cluster_took = progress.elapsed();
    let settings = Settings {
        gateway_port: Some(free_port()?),
        values: Vec::new(),
    };
    let installed = installed.insert(install::install(cluster, &settings, progress).await?);
    let installed_took = progress.elapsed();

    let step =
        progress.start("applying examples/gateway.yaml, weather.yaml and access.yaml until they are Ready");
    for example in [GATEWAY, WEATHER, ACCESS] {
        example.apply(cluster).await?;
    }
    let client = cluster.client();
    wait_for_ready::<McpGateway>(cluster, &Api::all(client.clone()), GATEWAY_NAME, LIMIT, progress).await?;
    let server = wait_for_ready::<McpServer>(
        cluster,
        &Api::namespaced(client.clone(), NAMESPACE),
        SERVER,
        LIMIT,
        progress,
    )
    .await?;
    wait_for_ready::<McpAccess>(
        cluster,
        &Api::namespaced(client, NAMESPACE),
        ACCESS_NAME,
        LIMIT,
        progress,
    )
    .await?;
    let ready_took = step.done();

    let calls = call_tools(cluster, installed, &server, progress).await?;
    let took = Took {
        cluster: cluster_took,
        install: installed_took.saturating_sub(cluster_took),
        ready: ready_took,
        all: progress.elapsed(),
    };
    let outcome = Outcome::collect(cluster, installed, calls, took).await?;
    check::check(&outcome)?;
    print!("{}", summary::text(&outcome, summary::Style::of_stdout()));
    if options.exit {
        check::commands_work(&outcome, cluster, progress).await?;
        return Ok(());
    }
    println!("Ctrl-C ends it and leaves nothing behind.");
    interrupted().await
}

/// The port that Azure's gateway has everywhere here, or another one where it is taken.
fn free_port() -> Result<u16> {
    let preferred = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let listener = TcpListener::bind(preferred).or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    Ok(listener
        .context("failed to find a free port on 127.0.0.1")?
        .local_addr()?
        .port())
}

/// What an agent does: take URL and key from the Secret, list the tools, call both.
async fn call_tools(
    cluster: &Cluster,
    installed: &Installed,
    server: &McpServer,
    progress: &Progress,
) -> Result<Calls> {
    let step = progress.start("calling both tools through the gateway with the key of the Secret");
    let secrets: Api<Secret> = Api::namespaced(cluster.client(), NAMESPACE);
    let data = secrets
        .get(SECRET)
        .await
        .context("failed to read the Secret with the key")?
        .data
        .unwrap_or_default();
    let key = data
        .get("APIM_SUBSCRIPTION_KEY")
        .context("failed to find APIM_SUBSCRIPTION_KEY in the Secret")?;
    let status = server.status.as_ref().context("failed to find a status")?;
    let url = status
        .endpoints
        .as_ref()
        .and_then(|endpoints| endpoints.gateway.clone())
        .context("failed to find the gateway's URL in the status")?;
    let agent = Agent {
        client: call::client(&installed.authority(), GATEWAY_HOST, installed.gateway)?,
        url,
        key: Some(String::from_utf8(key.0.clone()).context("failed to read the key")?),
    };
    let tools = agent.tools().await?;
    let alerts = agent.tool("get_alerts", json!({"state": "WA"})).await?;
    let forecast = agent
        .tool("get_forecast", json!({"latitude": 47.603, "longitude": -122.33}))
        .await?;
    let without_key = Agent {
        key: None,
        ..agent.clone()
    }
    .request("tools/list", None, json!({}))
    .send()
    .await?
    .status()
    .as_u16();
    step.done();
    Ok(Calls {
        url: agent.url,
        tools,
        alerts,
        forecast,
        without_key,
    })
}

/// A cluster of our own goes as a whole; from another one only what was put there.
async fn take_down(cluster: Cluster, installed: Option<Installed>, progress: &Progress) -> Result<()> {
    if !cluster.is_local() {
        return match &installed {
            Some(installed) => install::remove(&cluster, installed, progress).await,
            None => Ok(()),
        };
    }
    let step = progress.start("removing the cluster");
    cluster.stop().await?;
    step.done();
    Ok(())
}
