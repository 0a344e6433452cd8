//! `mcp-fleet-e2e nws-replay`: the weather replay as a process of its own, such as a pod.
//! In: flags and environment. Out: a replay that serves until the process is told to end.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use super::{Options, Replay};

#[derive(Args, Debug)]
pub struct Arguments {
    /// Address to listen on (plain HTTP)
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// Milliseconds added to every answer
    #[arg(long, env = "DELAY_MILLIS", default_value_t = 0)]
    delay_millis: u64,
    /// Share of requests that fail with 500, from 0 to 1
    #[arg(long, env = "ERROR_RATE", default_value_t = 0.0)]
    error_rate: f64,
}

/// Serves until SIGTERM or SIGINT.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments {
        listen,
        delay_millis,
        error_rate,
    } = arguments;
    let replay = Replay::start(Options {
        listen,
        delay: Duration::from_millis(delay_millis),
        error_rate,
    })
    .await?;
    tracing::info!(url = replay.url, "the weather replay is up");
    crate::commands::interrupted().await
}
