//! A server as a process: environment and flags go in, configuration, log, sockets and signals are set up, an exit code comes out.

use crate::app::{App, BuildError};
use crate::config::{Config, LogFormat};
use crate::health_check::{self, HealthCheckError};
use crate::http::mcp::Endpoint;
use crate::open_files::raise_limit;
use crate::serve::{BindError, Sockets, Times, serve};
use crate::vital;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Why the process ends before it serves.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting that only shows when it is used.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A port is taken.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The log's directives.
    #[error("failed to read RUST_LOG")]
    LogFilter(#[from] ParseError),
    /// What stands behind the gate of /mcp.
    #[error("failed to build the endpoint of /mcp")]
    Endpoint(#[source] Box<dyn Error + Send + Sync>),
    /// The server that was asked is not ready.
    #[error(transparent)]
    HealthCheck(#[from] HealthCheckError),
    /// Threads or timers.
    #[error("failed to start the runtime")]
    Runtime(#[source] std::io::Error),
    /// A signal that cannot be listened for.
    #[error("failed to listen for {name}")]
    Signal {
        /// Which.
        name: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

/// Serve as the environment says, with what `endpoint` makes behind the gate of /mcp, until a signal ends it. An exit code
/// other than 0 says that something was cut off.
pub fn run<E: Endpoint, R: Error + Send + Sync + 'static>(
    endpoint: impl FnOnce(&Arc<App>, &Config) -> Result<E, R>,
) -> Result<ExitCode, StartError> {
    let config = Config::read().unwrap_or_else(|error| error.exit());
    let in_cluster = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    if config.check_config {
        log_filter(&config)?;
        App::build(&config)?;
        print!("{}", config.describe(in_cluster));
        return Ok(ExitCode::SUCCESS);
    }
    if config.health_check {
        health_check::ask(config.listen_address(in_cluster), config.metrics_port)?;
        return Ok(ExitCode::SUCCESS);
    }
    start_log(&config)?;
    vital::log_panics();
    let runtime = tokio::runtime::Runtime::new().map_err(StartError::Runtime)?;
    let finished = runtime.block_on(until_stopped(&config, in_cluster, endpoint))?;
    // What still runs after the grace time is not waited for.
    runtime.shutdown_background();
    Ok(if finished {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn until_stopped<E: Endpoint, R: Error + Send + Sync + 'static>(
    config: &Config,
    in_cluster: bool,
    endpoint: impl FnOnce(&Arc<App>, &Config) -> Result<E, R>,
) -> Result<bool, StartError> {
    raise_limit(config.max_connections.saturating_add(config.max_streams));
    let app = Arc::new(App::build(config)?);
    let address = config.listen_address(in_cluster);
    let sockets = Sockets::bind(config, address, app.replica.forwarder.is_some())?;
    let listen = |kind, name| signal(kind).map_err(|source| StartError::Signal { name, source });
    let mut terminate = listen(SignalKind::terminate(), "SIGTERM")?;
    let mut interrupt = listen(SignalKind::interrupt(), "SIGINT")?;
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
    let endpoint = endpoint(&app, config).map_err(|error| StartError::Endpoint(error.into()))?;
    Ok(serve(app, endpoint, sockets, times, stop).await)
}

fn log_filter(config: &Config) -> Result<EnvFilter, StartError> {
    // rmcp, where it is built in, names sessions in its log.
    Ok(EnvFilter::try_new(&config.log_filter)?.add_directive("rmcp=off".parse()?))
}

fn start_log(config: &Config) -> Result<(), StartError> {
    let log = tracing_subscriber::fmt().with_env_filter(log_filter(config)?);
    match config.log_format {
        LogFormat::Json => log.json().flatten_event(true).init(),
        LogFormat::Text => log.init(),
    }
    Ok(())
}
