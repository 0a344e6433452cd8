//! What is measured, built: the weather server and this program, whose handler and load generator must be as optimised as it.
//!
//! In: a cargo profile; pinned Python requirements. Out: paths.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::clients::environment;
use crate::install::programs::{compile, named};
use crate::progress::Progress;

const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/python");

#[derive(Debug)]
pub struct Programs {
    pub weather: PathBuf,
    pub e2e: PathBuf,
}

impl Programs {
    pub fn of(folder: &Path) -> Self {
        Self {
            weather: folder.join("mcp-weather"),
            e2e: folder.join("mcp-fleet-e2e"),
        }
    }
}

pub async fn build(profile: &str, progress: &Progress) -> Result<Programs> {
    let step = progress.start(format_args!(
        "building the weather server and the load generator (profile {profile})"
    ));
    let built = compile(profile, &["mcp-weather", "mcp-fleet-e2e"], progress).await?;
    let programs = Programs {
        weather: named(&built, "mcp-weather")?,
        e2e: named(&built, "mcp-fleet-e2e")?,
    };
    step.done();
    Ok(programs)
}

/// The server that FastMCP is measured by.
pub fn fastmcp_server() -> PathBuf {
    Path::new(PYTHON).join("fastmcp_weather.py")
}

/// A Python with FastMCP, made once per content of the requirements file.
pub async fn python(progress: &Progress) -> Result<PathBuf> {
    let step = progress.start("installing FastMCP");
    let python = environment::python(&Path::new(PYTHON).join("requirements-fastmcp.txt")).await?;
    step.done();
    Ok(python)
}
