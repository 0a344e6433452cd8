//! Weather servers as processes: a program and its settings go in, a server that listens comes out, and what it has logged.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;

/// Long enough for a busy machine; a wait ends as soon as its condition holds.
pub const LIMIT: Duration = Duration::from_mins(1);
/// Another process may take a port that was free a moment ago.
const ATTEMPTS: usize = 5;

/// A running server. It is killed when this is dropped.
#[derive(Debug)]
pub struct Server {
    pub address: SocketAddr,
    child: Child,
    log: watch::Receiver<Vec<String>>,
}

impl Server {
    /// Starts it on ports that the system chooses, and waits until it listens.
    pub async fn start(program: &Path, settings: &[(&str, String)]) -> Result<Self> {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PORT", "0")
            .env("METRICS_PORT", "0")
            .env("BIND_ADDRESS", "127.0.0.1")
            .envs(settings.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .with_context(|| format!("failed to start {}", program.display()))?;
        let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let (written, log) = watch::channel(Vec::new());
        tokio::spawn(collect(lines, written));
        let address = wait(&log, "where it listens", address).await?;
        Ok(Self { address, child, log })
    }

    /// Of /mcp.
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// Waits until it has logged this.
    pub async fn logged(&self, text: &str) -> Result<()> {
        let find = |lines: &[String]| lines.iter().any(|line| line.contains(text)).then_some(());
        wait(&self.log, text, find).await
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.child.id().context("the server has ended")?;
        Ok(kill(Pid::from_raw(i32::try_from(pid)?), signal)?)
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        Ok(timeout(LIMIT, self.child.wait())
            .await
            .context("the server does not end")??)
    }
}

/// Waits until something is found in the log.
async fn wait<T>(
    log: &watch::Receiver<Vec<String>>,
    what: &str,
    find: impl Fn(&[String]) -> Option<T>,
) -> Result<T> {
    let mut growing = log.clone();
    let found = match timeout(LIMIT, growing.wait_for(|lines| find(lines).is_some())).await {
        Ok(Ok(lines)) => find(&lines),
        Ok(Err(_)) | Err(_) => None,
    };
    found.with_context(|| format!("the server did not log {what}: {:?}", log.borrow()))
}

async fn collect(
    mut lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
    written: watch::Sender<Vec<String>>,
) {
    while let Ok(Some(line)) = lines.next_line().await {
        written.send_modify(|lines| lines.push(line));
    }
}

/// The public port, which the log names for each of its routes.
fn address(lines: &[String]) -> Option<SocketAddr> {
    lines.iter().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        let public = line["message"] == "listening" && line["route"] == "POST /mcp";
        line["address"].as_str().filter(|_| public)?.parse().ok()
    })
}

/// Two replicas that share a key, as the kubelet mounts it.
#[derive(Debug)]
pub struct Replicas {
    pub servers: Vec<Server>,
    key: Key,
}

impl Replicas {
    pub async fn start(program: &Path, nws: &str, settings: &[(&str, String)]) -> Result<Self> {
        let key = Key::make()?;
        let mut failure = None;
        for _ in 0..ATTEMPTS {
            match start_two(program, nws, settings, &key.file()).await {
                Ok(servers) => return Ok(Self { servers, key }),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.context("no attempt")?).context("failed to start two replicas")
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(|server| server.address).collect()
    }

    pub fn rotate_key(&self) -> Result<()> {
        self.key.rotate()
    }
}

async fn start_two(
    program: &Path,
    nws: &str,
    settings: &[(&str, String)],
    key: &Path,
) -> Result<Vec<Server>> {
    let peer_port = free_on_both().await?.to_string();
    let mut servers = Vec::new();
    for address in ADDRESSES {
        let mut all = vec![
            ("NWS_BASE_URL", nws.to_owned()),
            ("BIND_ADDRESS", address.to_owned()),
            ("POD_IP", address.to_owned()),
            ("PEER_PORT", peer_port.clone()),
            ("REPLICA_KEY_FILE", key.display().to_string()),
        ];
        all.extend(settings.iter().cloned());
        servers.push(Server::start(program, &all).await?);
    }
    Ok(servers)
}

/// A pod has an address of its own; so has a replica here.
const ADDRESSES: [&str; 2] = ["127.0.0.1", "127.0.0.2"];

/// Replicas reach each other on the same port, so it must be free on both addresses.
async fn free_on_both() -> Result<u16> {
    for _ in 0..100 {
        let first = TcpListener::bind((ADDRESSES[0], 0)).await?;
        let port = first.local_addr()?.port();
        if TcpListener::bind((ADDRESSES[1], port)).await.is_ok() {
            return Ok(port);
        }
    }
    bail!("no port is free on both addresses")
}

/// A folder like a mounted Secret: files behind a link, which is replaced as a whole.
#[derive(Debug)]
struct Key {
    folder: TempDir,
}

impl Key {
    fn make() -> Result<Self> {
        let key = Self {
            folder: tempfile::tempdir()?,
        };
        let path = key.folder.path();
        fs::create_dir(path.join("first"))?;
        fs::write(path.join("first/current"), "o".repeat(32))?;
        symlink("first", path.join("data"))?;
        Ok(key)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("data/current")
    }

    fn rotate(&self) -> Result<()> {
        let path = self.folder.path();
        fs::create_dir(path.join("second"))?;
        fs::write(path.join("second/current"), "n".repeat(32))?;
        fs::write(path.join("second/previous"), "o".repeat(32))?;
        symlink("second", path.join("changed"))?;
        Ok(fs::rename(path.join("changed"), path.join("data"))?)
    }
}
