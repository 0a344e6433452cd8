//! The weather server with sessions and the fixture of the MCP conformance suite.

use mcp_weather::conformance::{Bounds, Sessions};
use mcp_weather::process;
use std::process::ExitCode;
use std::time::Duration;

/// Without a message for so long, a session is closed.
const IDLE: Duration = Duration::from_mins(5);

fn main() -> anyhow::Result<ExitCode> {
    let code = process::run(|app, config| {
        let bounds = Bounds {
            // Each session may hold one stream open.
            sessions: config.max_streams,
            idle: IDLE,
        };
        Sessions::build(app, bounds)
    })?;
    Ok(code)
}
