//! The weather server.

use mcp_weather::http::mcp::Stateless;
use mcp_weather::process;
use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    Ok(process::run(|_| Stateless)?)
}
