//! One system under test: a command goes in; it is started, called once and checked. Out: its port, its answer, how long it took.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;

use super::call::{self, Weather};
use super::connection::Connection;
use super::load::Seen;
use super::programs::Programs;
use crate::bench::process::{Memory, Process, on_core};

const START_LIMIT: Duration = Duration::from_mins(1);
const START_POLL: Duration = Duration::from_millis(2);
/// After its first answer a server may still free what only its start needed.
const SETTLE: Duration = Duration::from_secs(2);

/// A system that serves, with what its start showed.
#[derive(Debug)]
pub struct System {
    pub name: &'static str,
    pub process: Process,
    pub address: SocketAddr,
    pub request: PathBuf,
    pub answer: Vec<u8>,
    pub weather: Weather,
    /// From the start of the program to its first answer to the call.
    pub start: Duration,
    pub idle: Memory,
}

/// One round of load on one system.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Round {
    #[serde(flatten)]
    pub seen: Seen,
    /// CPU time of the server per answer, user and kernel; it says more than requests/s when others use the machine too.
    pub cpu_microseconds_per_call: f64,
    /// The same of the load; it must be less than the bare handler's, or the load is what is measured.
    pub load_microseconds_per_call: f64,
    /// Part of its core that the server had; less than 1 when others took some.
    pub busy: f64,
    pub requests_per_second: f64,
}

/// What is done, and how hard.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub core: usize,
    pub connections: usize,
    pub seconds: f64,
    pub work: Work,
}

#[derive(Debug, Clone, Copy)]
pub enum Work {
    /// Stateless calls, each connection as fast as its answers come.
    Calls,
    /// Stateless calls, so many due in a second.
    CallsAtRate(u32),
    /// A handshake and a call, as fast as answers come.
    Handshakes,
}

/// Answers before the counted ones, so that no system pays for its first calls.
const WARM_UP_SECONDS: f64 = 0.5;

impl System {
    pub async fn start(name: &'static str, port: u16, command: Command, folder: &Path) -> Result<Self> {
        let started = Instant::now();
        let mut process = Process::start(name, command, folder)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let request = call::request(port);
        let (answer, weather) = loop {
            if let Ok(mut connection) = Connection::open(address).await {
                let answer = connection.call(&request).await?;
                let weather = call::check(answer.status, answer.body)
                    .with_context(|| format!("{name} gives a wrong answer"))?;
                break (answer.body.to_vec(), weather);
            }
            if process.has_ended()? || started.elapsed() > START_LIMIT {
                let said = std::fs::read_to_string(folder.join(format!("{name}.log"))).unwrap_or_default();
                bail!("{name} does not serve on port {port}: {said}");
            }
            tokio::time::sleep(START_POLL).await;
        };
        let start = started.elapsed();
        tokio::time::sleep(SETTLE).await;
        let file = folder.join(format!("{name}.request"));
        std::fs::write(&file, request)?;
        Ok(Self {
            name,
            idle: process.memory()?,
            process,
            address,
            request: file,
            answer,
            weather,
            start,
        })
    }

    /// Loads it once, by a process of its own on the other core.
    pub async fn load(&self, programs: &Programs, load: Load) -> Result<Round> {
        let before = self.process.cpu_seconds()?;
        let mut command = on_core(load.core, &programs.e2e);
        command
            .args(["bench", "load"])
            .args(["--address", &self.address.to_string()])
            .args(["--connections", &load.connections.to_string()])
            .args(["--seconds", &load.seconds.to_string()])
            .args(["--warm-up", &WARM_UP_SECONDS.to_string()]);
        if let Work::Calls | Work::CallsAtRate(_) = load.work {
            command
                .arg("--request")
                .arg(&self.request)
                .args(["--body-bytes", &self.answer.len().to_string()]);
        }
        if let Work::CallsAtRate(rate) = load.work {
            command.args(["--rate", &rate.to_string()]);
        }
        let output = command
            .output()
            .await
            .context("failed to start the load generator")?;
        ensure!(
            output.status.success(),
            "load on {} failed: {}",
            self.name,
            String::from_utf8_lossy(&output.stderr)
        );
        let cpu = self.process.cpu_seconds()? - before;
        let seen: Seen =
            serde_json::from_slice(&output.stdout).context("failed to read the load's result")?;
        #[expect(clippy::cast_precision_loss, reason = "counts of a few seconds")]
        let requests = seen.requests as f64;
        // The warm-up's answers are not counted; at a steady rate they cost their share of the time.
        let counted = seen.seconds / (seen.seconds + WARM_UP_SECONDS);
        Ok(Round {
            seen,
            cpu_microseconds_per_call: cpu * counted * 1e6 / requests,
            load_microseconds_per_call: seen.load_cpu_seconds * counted * 1e6 / requests,
            busy: cpu / (seen.seconds + WARM_UP_SECONDS),
            requests_per_second: requests / seen.seconds,
        })
    }
}

/// A port that nobody has right now.
pub fn free_port() -> Result<u16> {
    let listener =
        std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("failed to find a free port")?;
    Ok(listener.local_addr()?.port())
}
