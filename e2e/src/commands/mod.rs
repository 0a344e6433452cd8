//! What the binary's subcommands do, a file each.

pub mod cluster;
pub mod images;

use anyhow::Result;

/// Runs a subcommand to its end.
pub fn run(command: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(command)
}

/// Ends when a person presses Ctrl-C or something asks this process to end.
pub async fn interrupted() -> Result<()> {
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => Ok(result?),
        _ = terminated.recv() => Ok(()),
    }
}
