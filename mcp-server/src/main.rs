//! The weather server as a process: configuration, log, signals.

use anyhow::Context as _;
use clap::Parser as _;
use mcp_weather::app::App;
use mcp_weather::config::{Config, LogFormat};
use mcp_weather::serve::{Sockets, Times, serve};
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> anyhow::Result<ExitCode> {
    let config = Config::parse();
    let in_cluster = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    if config.check_config {
        App::build(&config)?;
        print!("{}", config.describe(in_cluster));
        return Ok(ExitCode::SUCCESS);
    }
    start_log(&config)?;
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    let finished = runtime.block_on(run(&config, in_cluster))?;
    // What still runs after the grace time is not waited for.
    runtime.shutdown_background();
    Ok(if finished {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn run(config: &Config, in_cluster: bool) -> anyhow::Result<bool> {
    let app = Arc::new(App::build(config)?);
    let address = config.listen_address(in_cluster);
    let sockets = Sockets::bind(config, address, app.replica.forwarder.is_some()).await?;
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let times = Times {
        header: config.header_time,
        drain_delay: config.drain_delay,
        grace: config.grace,
    };
    Ok(serve(app, sockets, times, stop).await)
}

fn start_log(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log_filter).context("failed to read RUST_LOG")?;
    let log = tracing_subscriber::fmt().with_env_filter(filter);
    match config.log_format {
        LogFormat::Json => log.json().flatten_event(true).init(),
        LogFormat::Text => log.init(),
    }
    Ok(())
}
