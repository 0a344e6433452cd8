//! The weather server's benchmark. In: flags. Out: requests/s, latency, memory and start beside a bare axum handler, which is
//! the most that a server of this kind can do, and FastMCP, which is what most people would use instead.
//!
//! programs -> weather replay -> start each system -> rounds, taking turns -> streams -> report
//!
//! The work: one tools/call of revision 2026-07-28 with a cached answer, on kept connections; server and load on a core each.

pub mod bare;
mod call;
pub mod load;
mod programs;
mod report;
pub mod rmcp_server;
pub mod streams;
mod system;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncBufReadExt, BufReader};

use self::programs::Programs;
use self::report::{Report, Streams};
use self::system::{Load, Round, System, free_port};
use super::process::{Memory, on_core};
use crate::nws::{self, Replay};
use crate::progress::Progress;

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Rounds of load on each system, taking turns; medians are reported
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of one round that count
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Connections, each with one call at a time
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Cargo profile of everything that is measured
    #[arg(long, default_value = "release")]
    profile: String,
    /// Take mcp-weather and mcp-fleet-e2e from this folder instead of building them
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Core of the servers
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Core of the load
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// SSE streams to open on the weather server; 0 for none
    #[arg(long, default_value_t = 5000)]
    streams: usize,
    /// Leave FastMCP out, which needs Python and its package index the first time
    #[arg(long)]
    without_fastmcp: bool,
    /// Write everything that was measured to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

pub async fn run(options: Options) -> Result<()> {
    let progress = Progress::new();
    ensure!(
        std::thread::available_parallelism()?.get() >= 2,
        "the benchmark needs two cores, one for the server and one for the load"
    );
    let programs = match &options.programs {
        Some(folder) => Programs::of(folder),
        None => programs::build(&options.profile, &progress).await?,
    };
    let folder = tempfile::tempdir()?;
    let replay = Replay::start(nws::Options::default()).await?;
    let systems = start(&options, &programs, &replay.url, folder.path(), &progress).await?;

    let load = Load {
        core: options.load_core,
        connections: options.connections,
        seconds: options.seconds,
    };
    let mut rounds: Vec<Vec<Round>> = vec![Vec::new(); systems.len()];
    for round in 1..=options.rounds {
        let step = progress.start(format_args!("round {round} of {}", options.rounds));
        for (system, rounds) in systems.iter().zip(&mut rounds) {
            rounds.push(system.load(&programs, load).await?);
        }
        step.done();
    }
    let mut measured = Vec::new();
    for (system, rounds) in systems.into_iter().zip(rounds) {
        measured.push(report::measured(&system, rounds)?);
        system.process.end().await?;
    }
    let streams = match options.streams {
        0 => None,
        count => Some(open_streams(&options, &programs, &replay.url, folder.path(), count, &progress).await?),
    };
    let report = Report::of(&options.profile, load, measured, streams)?;
    super::write_json(options.json.as_deref(), &report)?;
    println!("\n{}", report.text());
    Ok(())
}

/// Starts all systems; the bare handler gives the weather server's answer, byte for byte.
async fn start(
    options: &Options,
    programs: &Programs,
    base_url: &str,
    folder: &Path,
    progress: &Progress,
) -> Result<Vec<System>> {
    let python = if options.without_fastmcp {
        None
    } else {
        Some(programs::python(progress).await?)
    };
    let step = progress.start("starting the systems");
    let weather = start_weather(options, programs, base_url, folder).await?;
    let answer = folder.join("answer");
    std::fs::write(&answer, &weather.answer)?;

    let port = free_port()?;
    let mut bare = on_core(options.server_core, &programs.e2e);
    bare.args(["bench", "bare", "--port", &port.to_string(), "--answer"])
        .arg(&answer);
    let bare = System::start(report::BARE, port, bare, folder).await?;
    ensure!(
        bare.answer == weather.answer,
        "the bare handler must answer the same bytes"
    );

    let mut systems = vec![bare, weather];
    if let Some(python) = python {
        let port = free_port()?;
        let mut fastmcp = on_core(options.server_core, python);
        fastmcp
            .arg(programs::fastmcp_server())
            .env("PORT", port.to_string())
            .env("NWS_BASE_URL", base_url);
        systems.push(System::start(report::FASTMCP, port, fastmcp, folder).await?);
    }
    step.done();
    Ok(systems)
}

async fn start_weather(
    options: &Options,
    programs: &Programs,
    base_url: &str,
    folder: &Path,
) -> Result<System> {
    let port = free_port()?;
    let mut weather = on_core(options.server_core, &programs.weather);
    weather
        .env("PORT", port.to_string())
        .env("METRICS_PORT", free_port()?.to_string())
        .env("NWS_BASE_URL", base_url)
        // The check stays on; what is measured is how fast answers are, not how many are allowed.
        .env("TOOL_CALLS_PER_MINUTE", "100000000")
        .env("RUST_LOG", "info");
    System::start(report::WEATHER, port, weather, folder).await
}

/// A weather server of its own, so that its memory is that of the streams alone.
async fn open_streams(
    options: &Options,
    programs: &Programs,
    base_url: &str,
    folder: &Path,
    count: usize,
    progress: &Progress,
) -> Result<Streams> {
    let step = progress.start(format_args!("opening {count} SSE streams"));
    let weather = start_weather(options, programs, base_url, folder).await?;
    let mut clients = on_core(options.load_core, &programs.e2e)
        .args(["bench", "streams"])
        .args(["--address", &weather.address.to_string()])
        .args(["--count", &count.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("failed to start the streams")?;
    let output = clients.stdout.take().context("failed to listen to the streams")?;
    let line = BufReader::new(output).lines().next_line().await?;
    ensure!(
        line.as_deref() == Some(streams::OPEN),
        "failed to open {count} streams; each needs a file on either side (ulimit -n)"
    );
    let Memory { now, .. } = weather.process.memory()?;
    clients.kill().await?;
    weather.process.end().await?;
    step.done();
    Ok(Streams { count, rss_kib: now })
}
