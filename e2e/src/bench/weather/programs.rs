//! What is measured, built: the weather server and this program, whose handler and load generator must be as optimised as it.
//!
//! In: a cargo profile; pinned Python requirements. Out: paths.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use tokio::process::Command;

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
    let requirements = Path::new(PYTHON).join("requirements-bench.txt");
    let pinned = std::fs::read(&requirements).context("failed to read requirements-bench.txt")?;
    let cache = cache_folder()?;
    let folder = cache.join(format!("python-{}", &hex::encode(Sha256::digest(&pinned))[..16]));
    let (python, complete) = (folder.join("bin/python"), folder.join("complete"));
    if complete.exists() {
        return Ok(python);
    }
    let step = progress.start("installing FastMCP");
    std::fs::create_dir_all(&cache).with_context(|| format!("failed to make {}", cache.display()))?;
    let mut make = Command::new("python3");
    make.args(["-m", "venv", "--clear"]).arg(&folder);
    succeed(make, "make a virtual environment (Debian: python3-venv)").await?;
    let mut install = Command::new(&python);
    install
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
        ])
        .arg(&requirements);
    succeed(install, "install FastMCP").await?;
    std::fs::write(&complete, "")?;
    step.done();
    Ok(python)
}

async fn succeed(mut command: Command, what: &str) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("failed to {what}"))?;
    if output.status.success() {
        return Ok(());
    }
    bail!(
        "failed to {what}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    )
}

/// `${XDG_CACHE_HOME:-~/.cache}/mcp-fleet`
fn cache_folder() -> Result<PathBuf> {
    let cache = match (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
        (Some(cache), _) if !cache.is_empty() => PathBuf::from(cache),
        (_, Some(home)) => Path::new(&home).join(".cache"),
        _ => bail!("failed to find the cache folder: neither XDG_CACHE_HOME nor HOME is set"),
    };
    Ok(cache.join("mcp-fleet"))
}
