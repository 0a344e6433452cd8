//! Entry point of the operator. In: argv and env; out: an exit code.

use clap::Parser as _;
use mcp_fleet_operator::args::Args;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    mcp_fleet_operator::runtime::run::run(Args::parse()).await?;
    Ok(())
}
