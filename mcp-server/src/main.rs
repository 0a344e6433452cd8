//! The weather server.

use mcp_weather::http::mcp::Stateless;
use mcp_weather::process;
use std::convert::Infallible;
use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    Ok(process::run(|_, _| Ok::<_, Infallible>(Stateless))?)
}
