//! Step 4 of the local cluster: namespaces of its own, so that no packet, mount or process can leave it.
//!
//! In: the cluster's folder. Out: the node (process, mount, network, host-name and IPC namespaces, held by its process 1) and
//! the outside (a network namespace at the other end of the node's only cable). When their keeper dies, however it dies,
//! the kernel ends both and everything in them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};

use super::layout::{
    Folder, LOAD_BALANCER_RANGE, NODE_ADDRESS, NODE_NAME, OUTSIDE_ADDRESS, OUTSIDE_SECOND_ADDRESS, POD_RANGE,
};
use super::waiting::wait_until;

/// The namespaces and the processes that hold them open.
#[derive(Debug)]
pub(crate) struct Sandbox {
    node: Child,
    outside: Child,
    /// Process 1 of the node, as the host numbers it.
    pub(crate) node_pid: u32,
    pub(crate) outside_pid: u32,
}

impl Sandbox {
    /// `holder` is a program that does nothing and collects orphans: pause.
    pub(crate) async fn start(folder: &Folder, holder: &Path) -> Result<Self> {
        let mut node = tied_to_us("unshare");
        node.args([
            "--mount",
            "--pid",
            "--net",
            "--uts",
            "--ipc",
            "--fork",
            "--kill-child=KILL",
            "--mount-proc",
        ]);
        let node = node
            .arg(holder)
            .spawn()
            .context("failed to make the node's namespaces")?;
        let mut outside = tied_to_us("unshare");
        let outside = outside
            .arg("--net")
            .arg(holder)
            .spawn()
            .context("failed to make the outside namespace")?;

        let parent = node.id().context("failed to make the node's namespaces")?;
        let outside_pid = outside.id().context("failed to make the outside namespace")?;
        let limit = Duration::from_secs(10);
        let node_pid = wait_until(limit, "the node's namespaces", async || {
            Ok(child_running(parent, holder))
        })
        .await?;
        wait_until(limit, "the outside namespace", async || {
            Ok(runs(outside_pid, holder).then_some(()))
        })
        .await?;
        let sandbox = Self {
            node,
            outside,
            node_pid,
            outside_pid,
        };
        sandbox.set_up_mounts(folder).await?;
        sandbox.set_up_network().await?;
        Ok(sandbox)
    }

    /// A command on the node: all of its namespaces, and ended with this process.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = tied_to_us("nsenter");
        let target = self.node_pid.to_string();
        command.args([
            "--target", &target, "--mount", "--net", "--pid", "--uts", "--ipc", "--",
        ]);
        command.arg(program);
        command
    }

    /// The default paths of every component are the cluster's own, so nothing is shared with the host or another cluster.
    async fn set_up_mounts(&self, folder: &Folder) -> Result<()> {
        for path in [folder.var_lib(), folder.logs()] {
            fs::create_dir_all(&path).with_context(|| format!("failed to make {}", path.display()))?;
        }
        // Shared, as volumes with mount propagation ask for it; the namespace is cut off from the host's mounts already.
        let script = r#"set -e
            mount --make-rshared /
            mount --bind "$1" /var/lib
            mount --bind "$2" /var/log
            mount -t tmpfs -o mode=755 tmpfs /run
            hostname "$3""#;
        let mut command = self.command("sh");
        command
            .args(["-c", script, "sh"])
            .arg(folder.var_lib())
            .arg(folder.logs())
            .arg(NODE_NAME);
        run(command).await.context("failed to set up the node's mounts")
    }

    async fn set_up_network(&self) -> Result<()> {
        let node = self.node_pid.to_string();
        let outside = self.outside_pid.to_string();
        let script = format!(
            "set -e
            ip link set lo up
            ip link add eth0 type veth peer name eth0 netns {outside}
            ip address add {NODE_ADDRESS}/24 dev eth0
            ip link set eth0 up
            ip route add default via {OUTSIDE_ADDRESS}
            echo 1 > /proc/sys/net/ipv4/ip_forward"
        );
        run(in_network_of(&node, &script))
            .await
            .context("failed to set up the node's network")?;
        // Pods are routed, not masqueraded: a server outside sees which pod calls it.
        let script = format!(
            "set -e
            ip link set lo up
            ip address add {OUTSIDE_SECOND_ADDRESS}/32 dev lo
            ip address add {OUTSIDE_ADDRESS}/24 dev eth0
            ip link set eth0 up
            ip route add {LOAD_BALANCER_RANGE} via {NODE_ADDRESS}
            ip route add {POD_RANGE} via {NODE_ADDRESS}"
        );
        run(in_network_of(&outside, &script))
            .await
            .context("failed to set up the outside network")
    }

    /// Ends every process on the node and outside.
    pub(crate) async fn stop(mut self) -> Result<()> {
        // The kernel ends a process namespace with its process 1, and unshare ends with its child.
        kill(self.node_pid)?;
        self.outside
            .kill()
            .await
            .context("failed to end the outside namespace")?;
        match tokio::time::timeout(Duration::from_secs(20), self.node.wait()).await {
            Ok(status) => status.map(drop).context("failed to end the node's namespaces"),
            Err(_) => bail!("failed to end the node's namespaces within 20 s"),
        }
    }
}

/// The network namespace of a process, as a file that setns and nsenter take.
pub(crate) fn network_namespace(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/net"))
}

fn kill(pid: u32) -> Result<()> {
    use nix::sys::signal::{Signal, kill};
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid)?);
    match kill(pid, Signal::SIGKILL) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("failed to end process {pid}")),
    }
}

/// A command that the kernel ends when the thread that started it ends, so even a killed keeper leaves no process.
fn tied_to_us(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn in_network_of(pid: &str, script: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--target", pid, "--net", "--", "sh", "-c", script]);
    command
}

async fn run(mut command: Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .await?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// The child of `parent` that already runs `program`.
fn child_running(parent: u32, program: &Path) -> Option<u32> {
    let children = fs::read_dir("/proc")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    children
        .into_iter()
        .find(|&pid| parent_of(pid) == Some(parent) && runs(pid, program))
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything (proc(5)).
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(1)?.parse().ok()
}

fn runs(pid: u32, program: &Path) -> bool {
    let same = || Some(fs::read_link(format!("/proc/{pid}/exe")).ok()? == fs::canonicalize(program).ok()?);
    same().unwrap_or(false)
}
