//! The parent's side of a local cluster: start its keeper, and the ways in.
//!
//! In: the machine and the tools. Out: a running cluster, or the keeper's reason why not.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::keeper::{Plan, Report};
use super::layout::{Folder, From, NAME_PREFIX};
use super::namespace::Namespace;
use super::sandbox::network_namespace;
use super::tools::{self, Tools};
use super::{prerequisites, teardown};
use crate::progress::Progress;

/// The binary that knows the subcommand.
const PROGRAM: &str = "mcp-fleet-e2e";
pub(crate) const KEEPER_COMMAND: &str = "cluster-keeper";
const STOP_LIMIT: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub(crate) struct Local {
    keeper: Child,
    /// Closing it is the order to stop.
    orders: ChildStdin,
    pub(crate) folder: Folder,
    pub(crate) tools: Tools,
    node_pid: u32,
    outside_pid: u32,
    pub(crate) inside: Namespace,
    pub(crate) outside: Namespace,
}

impl Local {
    pub(crate) async fn start(progress: &Progress) -> Result<Self> {
        tokio::task::spawn_blocking(prerequisites::check).await??;
        let tools = tools::build(progress).await?;
        for name in teardown::sweep().await? {
            progress.say(format_args!("removed what was left of cluster {name}"));
        }
        let name = format!("{NAME_PREFIX}{:08x}", rand::random::<u32>());
        let plan = Plan { name, tools };
        let mut keeper = Command::new(keeper_program()?)
            .arg(KEEPER_COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to start the cluster's keeper")?;
        let mut orders = keeper.stdin.take().context("failed to talk to the keeper")?;
        let reports = keeper.stdout.take().context("failed to listen to the keeper")?;
        orders
            .write_all(format!("{}\n", serde_json::to_string(&plan)?).as_bytes())
            .await?;

        let mut reports = BufReader::new(reports).lines();
        let (node_pid, outside_pid) = until_ready(&mut reports, progress).await?;
        tokio::spawn(tell(reports, progress.clone()));
        Ok(Self {
            keeper,
            orders,
            folder: Folder::of(&plan.name),
            tools: plan.tools,
            node_pid,
            outside_pid,
            inside: Namespace::enter(network_namespace(node_pid))?,
            outside: Namespace::enter(network_namespace(outside_pid))?,
        })
    }

    pub(crate) fn command(&self, from: From, program: &OsStr) -> Command {
        let outside = from == From::Outside;
        let pid = if outside { self.outside_pid } else { self.node_pid };
        let resolver = self.folder.config(if outside {
            "resolv-outside.conf"
        } else {
            "resolv.conf"
        });
        let hosts = if outside {
            self.folder.hosts()
        } else {
            PathBuf::new()
        };
        // A mount namespace per command: the host's own files stay as they are, and its folders are all there.
        let script = r#"mount --bind "$1" "$(readlink -f /etc/resolv.conf)" && { [ -z "$2" ] || mount --bind "$2" /etc/hosts; } && shift 2 && exec "$@""#;
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", network_namespace(pid).display()));
        command.args(["--", "unshare", "--mount", "--", "sh", "-c", script, "sh"]);
        command
            .arg(resolver)
            .arg(hosts)
            .arg(program)
            .env("KUBECONFIG", self.folder.kubeconfig(from))
            .kill_on_drop(true);
        for variable in [
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
            "http_proxy",
            "https_proxy",
            "all_proxy",
        ] {
            command.env_remove(variable);
        }
        command
    }

    /// `ctr` on the node.
    pub(crate) fn containerd_client(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "--target",
            &self.node_pid.to_string(),
            "--mount",
            "--net",
            "--pid",
            "--ipc",
            "--",
        ]);
        command.arg(self.tools.containerd.join("ctr"));
        command
    }

    /// A command on the host, since the archive may be in a folder that the node does not see.
    pub(crate) fn image_load_template(&self) -> String {
        format!(
            "{} --address /proc/{}/root/run/containerd/containerd.sock --namespace {} images import {{}}",
            self.tools.containerd.join("ctr").display(),
            self.node_pid,
            super::images::NAMESPACE
        )
    }

    pub(crate) async fn stop(self) -> Result<()> {
        let Self {
            mut keeper,
            orders,
            inside,
            outside,
            ..
        } = self;
        drop((orders, inside, outside));
        let status = tokio::time::timeout(STOP_LIMIT, keeper.wait()).await;
        match status.context("failed to stop the cluster: its keeper still works on it")?? {
            status if status.success() => Ok(()),
            status => bail!("failed to stop the cluster: its keeper ended with {status}"),
        }
    }
}

async fn until_ready(reports: &mut Lines<BufReader<ChildStdout>>, progress: &Progress) -> Result<(u32, u32)> {
    let mut failure = None;
    while let Some(line) = reports.next_line().await? {
        match serde_json::from_str(&line)
            .with_context(|| format!("failed to understand the keeper: {line}"))?
        {
            Report::Progress(text) | Report::Lost(text) => progress.say(text),
            Report::Ready {
                node_pid,
                outside_pid,
            } => return Ok((node_pid, outside_pid)),
            Report::Failed(reason) => failure = Some(reason),
        }
    }
    bail!(
        "failed to start the cluster: {}",
        failure.as_deref().unwrap_or("its keeper ended without a word")
    )
}

/// Passes on what the keeper says after the start, to the end of its life.
async fn tell(mut reports: Lines<BufReader<ChildStdout>>, progress: Progress) {
    while let Ok(Some(line)) = reports.next_line().await {
        match serde_json::from_str(&line) {
            Ok(Report::Lost(text)) => progress.say(format_args!("the cluster lost a component: {text}")),
            Ok(Report::Progress(text) | Report::Failed(text)) => progress.say(text),
            Ok(Report::Ready { .. }) | Err(_) => {}
        }
    }
}

/// Tests and benchmarks are programs of their own; cargo puts them into `deps` beside the binary.
fn keeper_program() -> Result<PathBuf> {
    let own = std::env::current_exe().context("failed to find the own program")?;
    let folders = own.ancestors().skip(1).take(2);
    let mut candidates = folders.map(|folder| folder.join(PROGRAM));
    candidates.find(|candidate| candidate.is_file()).with_context(|| {
        format!(
            "failed to find {PROGRAM} beside {}: build it first (cargo build -p {PROGRAM})",
            own.display()
        )
    })
}
