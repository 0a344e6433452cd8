//! Benchmarks: the budgets of docs/performance.md, measured. In: flags. Out: a table on standard output, and JSON in a file when asked.
//!
//! Machines differ, so a run compares everything in itself: ratios and counts are what to read, not seconds.

pub mod control_group;
pub mod fleet;
pub mod process;
pub mod statistics;
pub mod table;
pub mod weather;

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// The weather server beside a bare handler and other MCP servers: requests/s, latency, memory, start, streams, sessions
    Weather(weather::Options),
    /// The operator in a cluster: time to Ready, writes to ARM and Kubernetes, memory
    Fleet(fleet::Options),
    /// The bare handler; started by `bench weather`
    #[command(hide = true)]
    Bare(weather::bare::Options),
    /// The same tools on plain rmcp
    #[command(hide = true)]
    Rmcp(weather::rmcp_server::Options),
    /// Load on one server; started by `bench weather`
    #[command(hide = true)]
    Load(weather::load::Options),
    /// Open SSE streams on one server; started by `bench weather`
    #[command(hide = true)]
    Streams(weather::streams::Options),
    /// Open and close SSE sessions on one server; started by `bench weather`
    #[command(hide = true)]
    Churn(weather::streams::ChurnOptions),
}

pub async fn run(command: Command) -> Result<()> {
    match command {
        Command::Weather(options) => weather::run(options).await,
        Command::Fleet(options) => fleet::run(options).await,
        Command::Bare(options) => weather::bare::run(options).await,
        Command::Rmcp(options) => weather::rmcp_server::run(options).await,
        Command::Load(options) => weather::load::run(options).await,
        Command::Streams(options) => weather::streams::run(options).await,
        Command::Churn(options) => weather::streams::churn(options).await,
    }
}

/// Everything that was measured, for a program to read.
fn write_json(path: Option<&Path>, report: &impl Serialize) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(report)?;
    std::fs::write(path, text + "\n").with_context(|| format!("failed to write {}", path.display()))
}
