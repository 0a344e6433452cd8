//! All systems, each with its settings: programs and the weather replay go in, servers that give the same weather come out.
//!
//! The weather server runs as it is delivered: metrics, audit and every check are on, and the limit of calls is the default. The
//! audit is written to /dev/null, as what a disk or a container runtime costs is not the server's.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use super::programs::{self, Programs};
use super::system::{System, free_port};
use crate::bench::control_group::ControlGroup;
use crate::bench::process::{on_core, on_core_in};
use crate::progress::Progress;

pub const BARE: &str = "bare axum handler";
pub const WEATHER: &str = "mcp-weather";
pub const RMCP: &str = "rmcp 3.9";
pub const PYTHON: &str = "Python mcp 2.3.0";
pub const FASTMCP: &str = "FastMCP 4.1.2";
pub const NODE: &str = "TypeScript server 2.4.0";
pub const FIXTURE: &str = "fixture with sessions";

/// The weather server's settings that are not the defaults.
pub const SETTINGS: [(&str, &str); 2] = [("AUDIT_LOG", "/dev/null"), ("RUST_LOG", "info")];

/// What every start needs.
#[derive(Debug)]
pub struct Setup {
    pub programs: Programs,
    pub nws_base_url: String,
    pub server_core: usize,
    pub load_core: usize,
    /// For logs and prepared bytes.
    pub folder: PathBuf,
}

impl Setup {
    /// A weather server on a free port, and that port; in a control group if there is one.
    pub fn weather(&self, group: Option<&ControlGroup>) -> Result<(u16, Command)> {
        let program = &self.programs.weather;
        let command = match group {
            Some(group) => on_core_in(&group.entrance(), self.server_core, program),
            None => on_core(self.server_core, program),
        };
        self.with_settings(command)
    }

    fn with_settings(&self, mut command: Command) -> Result<(u16, Command)> {
        let port = free_port()?;
        command
            .env("PORT", port.to_string())
            .env("METRICS_PORT", free_port()?.to_string())
            .env("NWS_BASE_URL", &self.nws_base_url)
            .envs(SETTINGS);
        Ok((port, command))
    }

    pub async fn start_weather(&self, group: Option<&ControlGroup>) -> Result<System> {
        let (port, command) = self.weather(group)?;
        System::start(WEATHER, port, command, &self.folder).await
    }

    /// All of them; the bare handler, the first, gives the weather server's answer, byte for byte.
    pub async fn start_all(&self, with_slow: bool, progress: &Progress) -> Result<Vec<System>> {
        let slow = if with_slow {
            Some((programs::python(progress).await?, programs::node(progress).await?))
        } else {
            None
        };
        let step = progress.start("starting the systems");
        let weather = self.start_weather(None).await?;
        let bare = self.start_bare(&weather.answer).await?;
        let mut systems = vec![bare, weather, self.start_rmcp().await?];
        if let Some((python, node)) = &slow {
            let scripts = Path::new(programs::PYTHON);
            for (name, program, script) in [
                (PYTHON, python, scripts.join("mcp_weather.py")),
                (FASTMCP, python, scripts.join("fastmcp_weather.py")),
                (NODE, &node.program, node.script.clone()),
            ] {
                let port = free_port()?;
                let mut command = on_core(self.server_core, program);
                command
                    .arg(script)
                    .env("PORT", port.to_string())
                    .env("NWS_BASE_URL", &self.nws_base_url);
                systems.push(System::start(name, port, command, &self.folder).await?);
            }
        }
        let fixture = on_core(self.server_core, &self.programs.fixture);
        let (port, fixture) = self.with_settings(fixture)?;
        systems.push(System::start(FIXTURE, port, fixture, &self.folder).await?);
        for system in &systems {
            ensure!(
                system.weather == systems[0].weather,
                "{} must give the same weather as {WEATHER}: {:?} instead of {:?}",
                system.name,
                system.weather,
                systems[0].weather
            );
        }
        step.done();
        Ok(systems)
    }

    async fn start_bare(&self, answer: &[u8]) -> Result<System> {
        let file = self.folder.join("answer");
        std::fs::write(&file, answer).context("failed to write the answer")?;
        let port = free_port()?;
        let mut command = on_core(self.server_core, &self.programs.e2e);
        command
            .args(["bench", "bare", "--port", &port.to_string(), "--answer"])
            .arg(&file);
        let bare = System::start(BARE, port, command, &self.folder).await?;
        ensure!(
            bare.answer == answer,
            "the bare handler must answer the same bytes"
        );
        Ok(bare)
    }

    async fn start_rmcp(&self) -> Result<System> {
        let port = free_port()?;
        let mut command = on_core(self.server_core, &self.programs.e2e);
        command
            .args(["bench", "rmcp", "--port", &port.to_string()])
            .env("NWS_BASE_URL", &self.nws_base_url);
        System::start(RMCP, port, command, &self.folder).await
    }
}
