//! The keeper: the process that owns a local cluster, so that the cluster never outlives the one who asked for it.
//!
//! In, on standard input: one line with the plan, then nothing until the end of input, which is the order to stop (it comes even when
//! the parent is killed). Out, on standard output: a report per line. It is in a session of its own: Ctrl-C does not reach it.

use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::{Api, Client};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::components::Components;
use super::layout::{BASE, Folder, From, NODE_NAME};
use super::namespace::Namespace;
use super::sandbox::{Sandbox, network_namespace};
use super::tools::Tools;
use super::{client_of, configuration, dns, forward, images, load_balancer, packages, pki, teardown};
use crate::progress::Progress;

/// What the parent orders.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) tools: Tools,
}

/// What the keeper says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    Progress(String),
    /// Process ids that hold the node's and the outside network.
    Ready {
        node_pid: u32,
        outside_pid: u32,
    },
    /// The cluster did not start; it is being removed.
    Failed(String),
    /// A component ended by itself.
    Lost(String),
}

impl Report {
    fn send(&self) {
        let mut output = std::io::stdout().lock();
        // No one may be there to read it any more.
        let _ = serde_json::to_string(self).map(|line| writeln!(output, "{line}"));
    }
}

/// The whole life of a cluster.
pub fn main() -> ExitCode {
    match on_this_thread() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            Report::Failed(format!("{error:#}")).send();
            ExitCode::FAILURE
        }
    }
}

/// Processes are tied to the thread that starts them, so all of it happens on the first one.
fn on_this_thread() -> Result<()> {
    nix::unistd::setsid().context("failed to make a session")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(keep());
    // A read of standard input may still be under way and would be waited for.
    runtime.shutdown_background();
    result
}

async fn keep() -> Result<()> {
    let mut input = BufReader::new(tokio::io::stdin());
    let mut line = String::new();
    input
        .read_line(&mut line)
        .await
        .context("failed to read the plan")?;
    if line.is_empty() {
        return Ok(());
    }
    let plan: Plan = serde_json::from_str(&line).context("failed to read the plan")?;
    let folder = Folder::of(&plan.name);
    fs::create_dir_all(BASE).with_context(|| format!("failed to make {BASE}"))?;
    let lock = File::create(folder.lock()).context("failed to make the lock file")?;
    lock.lock().context("failed to take the lock")?;

    let mut sandbox = None;
    let result = tokio::select! {
        result = run(&plan, &folder, &mut sandbox) => result,
        result = order_to_stop(input) => result,
    };
    keep_logs(&folder);
    if let Some(sandbox) = sandbox {
        sandbox.stop().await?;
    }
    teardown::remove(&plan.name).await?;
    result
}

async fn order_to_stop(mut input: impl tokio::io::AsyncRead + Unpin) -> Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut hung_up = signal(SignalKind::hangup())?;
    let mut ignored = [0; 64];
    loop {
        tokio::select! {
            // An unreadable input is as good as a closed one.
            count = input.read(&mut ignored) => if count.unwrap_or(0) == 0 { return Ok(()) },
            _ = terminated.recv() => return Ok(()),
            _ = interrupted.recv() => return Ok(()),
            _ = hung_up.recv() => return Ok(()),
        }
    }
}

/// Brings the cluster up and serves it; ends only with an error or by being dropped.
async fn run(plan: &Plan, folder: &Folder, held: &mut Option<Sandbox>) -> Result<()> {
    let progress = Progress::to(|line| Report::Progress(line.to_owned()).send());
    let tools = &plan.tools;

    let step = progress.start("making keys and namespaces");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .context("failed to listen on the host")?;
    fs::create_dir_all(folder.path())?;
    dns::write_first_hosts(folder)?;
    pki::write(folder, listener.local_addr()?.port())?;
    let runc = packages::find_program("runc").context("failed to find runc")?;
    configuration::write(&plan.name, folder, tools, &runc)?;
    teardown::make_cgroups(&plan.name)?;
    let sandbox = held.insert(Sandbox::start(folder, &tools.images.join("pause")).await?);
    let node = Namespace::enter(network_namespace(sandbox.node_pid))?;
    step.done();

    let mut components = Components::new(sandbox, folder, tools);
    let step = progress.start("starting etcd, kube-apiserver and containerd");
    components.start_etcd()?;
    components.start_api_server()?;
    components.start_containerd().await?;
    images::load_own(sandbox, tools).await?;
    tokio::spawn(serve_api(listener, node.handle().clone()));
    let client = client_of(&folder.kubeconfig(From::Host)).await?;
    components
        .wait("the API server", async || {
            Ok(is_ready(&client).await.then_some(()))
        })
        .await?;
    step.done();

    let step = progress.start("starting controllers, scheduler, kubelet and kube-proxy");
    components.start_controllers()?;
    components.start_node()?;
    dns::start(&client).await?;
    let nodes: Api<Node> = Api::all(client.clone());
    components
        .wait("the node to be Ready", async || {
            Ok(node_ready(&nodes).await.then_some(()))
        })
        .await?;
    step.done();

    let step = progress.start("waiting for cluster DNS");
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "kube-system");
    components
        .wait("cluster DNS to be available", async || {
            Ok(dns_available(&deployments).await.then_some(()))
        })
        .await?;
    // The API server refuses pods in a namespace that has no default service account yet.
    let accounts: Api<ServiceAccount> = Api::default_namespaced(client.clone());
    components
        .wait("the default service account", async || {
            Ok(accounts.get("default").await.ok())
        })
        .await?;
    step.done();

    Report::Ready {
        node_pid: sandbox.node_pid,
        outside_pid: sandbox.outside_pid,
    }
    .send();
    tokio::select! {
        result = load_balancer::serve(client) => result,
        () = watch(&mut components) => bail!("failed to watch the components"),
    }
}

/// The host's way to the API server: bytes only, the certificate is the API server's own.
async fn serve_api(listener: TcpListener, node: tokio::runtime::Handle) {
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, 6443));
    while let Ok((connection, _)) = listener.accept().await {
        let node = node.clone();
        tokio::spawn(async move { forward::relay(connection, server, &node).await });
    }
}

async fn is_ready(client: &Client) -> bool {
    let Ok(request) = http::Request::get("/readyz").body(Vec::new()) else {
        return false;
    };
    client.request_text(request).await.is_ok_and(|text| text == "ok")
}

async fn node_ready(nodes: &Api<Node>) -> bool {
    let Ok(node) = nodes.get(NODE_NAME).await else {
        return false;
    };
    let conditions = node
        .status
        .and_then(|status| status.conditions)
        .unwrap_or_default();
    conditions
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

async fn dns_available(deployments: &Api<Deployment>) -> bool {
    let deployment = deployments.get("coredns").await.ok();
    deployment
        .and_then(|deployment| deployment.status?.available_replicas)
        .unwrap_or(0)
        > 0
}

/// Says once that a component has ended by itself, and goes on: what is left may tell why.
async fn watch(components: &mut Components<'_>) {
    let mut said = false;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if !said && let Some(ended) = components.ended() {
            Report::Lost(ended).send();
            said = true;
        }
    }
}

/// With MCP_FLEET_LOGS, a folder, the components' logs outlive the cluster.
fn keep_logs(folder: &Folder) {
    let Some(to) = std::env::var_os("MCP_FLEET_LOGS") else {
        return;
    };
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(folder.logs())
        .arg(to)
        .status();
    if !copied.is_ok_and(|status| status.success()) {
        Report::Progress("failed to copy the logs to MCP_FLEET_LOGS".to_owned()).send();
    }
}
