//! The weather server's benchmark. In: flags. Out: requests/s, latency, memory and start beside a bare axum handler, which is
//! the most that a server of this kind can do, and beside what people would use instead.
//!
//! programs -> weather replay -> start each system -> stateless calls -> the same at a fixed rate -> handshakes, all in rounds that
//! take turns -> starts -> SSE streams and sessions of the weather server -> report
//!
//! Server and load have a core each; whatever is measured is measured in one run, on the same cores, with the same weather.

pub mod bare;
mod call;
mod chart;
mod chunks;
mod connection;
mod figures;
mod handshake;
pub mod load;
mod pace;
mod programs;
mod report;
pub mod rmcp_server;
mod sessions;
mod sse;
mod starts;
pub mod streams;
mod system;
mod systems;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use self::figures::{Comparison, Facts, Rounds, fastest};
use self::programs::Programs;
use self::report::{FixedRate, Report};
use self::system::{Load, System, Work};
use self::systems::{BARE, FASTMCP, FIXTURE, PYTHON, RMCP, SETTINGS, Setup, WEATHER};
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
    /// Calls that are due in a second where latency is measured at a fixed rate
    #[arg(long, default_value_t = 10_000)]
    rate: u32,
    /// Cargo profile of everything that is measured
    #[arg(long, default_value = "release")]
    profile: String,
    /// Take mcp-weather, mcp-weather-conformance and mcp-fleet-e2e from this folder instead of building them
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Core of the servers
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Core of the load
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// SSE streams to hold open on the weather server; 0 for none, and no calls on a thousand of them either
    #[arg(long, default_value_t = 5000)]
    streams: usize,
    /// SSE sessions to open and close on the weather server, after 5000 to warm up; 0 for none
    #[arg(long, default_value_t = 200_000)]
    sessions: usize,
    /// Leave out the servers on Python and Node.js, which need the package indexes the first time
    #[arg(long)]
    without_slow: bool,
    /// Write everything that was measured to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Draw requests per second into this SVG file
    #[arg(long)]
    chart: Option<PathBuf>,
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
    let setup = Setup {
        programs,
        nws_base_url: replay.url.clone(),
        server_core: options.server_core,
        load_core: options.load_core,
        folder: folder.path().to_owned(),
    };
    let systems = setup.start_all(!options.without_slow, &progress).await?;
    let stateless = take_turns(&options, &setup, &systems, Work::Calls, &progress).await?;
    let paced = take_turns(
        &options,
        &setup,
        &systems,
        Work::CallsAtRate(options.rate),
        &progress,
    )
    .await?;
    let handshakes = take_turns(&options, &setup, &systems, Work::Handshakes, &progress).await?;
    let mut facts = Vec::new();
    for system in systems {
        facts.push(Facts::of(&system)?);
        system.process.end().await?;
    }
    // Without Python, plain rmcp is what is left of what people would use instead.
    let best_of_others = fastest(&handshakes, &[PYTHON, FASTMCP]).unwrap_or(RMCP);
    let (mut streams, mut round_trips, mut churn) = (None, None, None);
    let starts = starts::measure(&setup, options.rounds, &progress).await?;
    if options.streams > 0 {
        streams = Some(sessions::hold(&setup, options.streams, &progress).await?);
        let trips = sessions::round_trips(&setup, options.rounds, options.seconds, &progress);
        round_trips = Some(trips.await?);
    }
    if options.sessions > 0 {
        churn = Some(sessions::churn(&setup, options.sessions, &progress).await?);
    }
    let report = Report {
        profile: options.profile.clone(),
        connections: options.connections,
        seconds_per_round: options.seconds,
        rounds: options.rounds,
        settings: SETTINGS,
        systems: facts,
        stateless: Comparison::with(BARE, stateless)?,
        fixed_rate: FixedRate {
            requests_per_second: options.rate,
            compared: Comparison::with(BARE, paced)?,
        },
        handshake: Comparison::with(best_of_others, handshakes)?,
        starts,
        streams,
        round_trips,
        churn,
    };
    super::write_json(options.json.as_deref(), &report)?;
    if let Some(path) = &options.chart {
        let svg = chart::svg(&report.stateless, &report.handshake);
        std::fs::write(path, svg).with_context(|| format!("failed to write {}", path.display()))?;
    }
    println!("\n{}", report.text());
    Ok(())
}

/// Rounds of one kind of work on every system that it is for, taking turns.
async fn take_turns(
    options: &Options,
    setup: &Setup,
    systems: &[System],
    work: Work,
    progress: &Progress,
) -> Result<Vec<Rounds>> {
    let takes_part = |name: &str| match work {
        Work::Calls => name != FIXTURE,
        Work::CallsAtRate(_) => [BARE, WEATHER].contains(&name),
        Work::Handshakes => name != BARE,
    };
    let systems: Vec<_> = systems.iter().filter(|system| takes_part(system.name)).collect();
    let load = Load {
        core: options.load_core,
        connections: options.connections,
        seconds: options.seconds,
        work,
    };
    let mut all: Vec<_> = systems
        .iter()
        .map(|system| Rounds {
            name: system.name,
            rounds: Vec::new(),
        })
        .collect();
    for round in 1..=options.rounds {
        let step = progress.start(format_args!("{work:?}, round {round} of {}", options.rounds));
        for (system, own) in systems.iter().zip(&mut all) {
            own.rounds.push(system.load(&setup.programs, load).await?);
        }
        step.done();
    }
    Ok(all)
}
