//! What is measured, built: the weather server, the fixture, and this program, whose handlers and load must be as optimised as they.
//!
//! In: a cargo profile; pinned requirements of Python and Node.js. Out: paths.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::clients::environment;
use crate::install::programs::{compile, compile_fixture, named};
use crate::progress::Progress;

pub const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/python");
const TYPESCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/typescript-server");
const TYPESCRIPT_SCRIPT: &str = "weather.mjs";

const WEATHER: &str = "mcp-weather";
const E2E: &str = "mcp-fleet-e2e";
const FIXTURE: &str = "mcp-weather-conformance";

#[derive(Debug)]
pub struct Programs {
    pub weather: PathBuf,
    pub e2e: PathBuf,
    pub fixture: PathBuf,
}

/// The server on the TypeScript SDK.
#[derive(Debug)]
pub struct Node {
    pub program: PathBuf,
    pub script: PathBuf,
}

impl Programs {
    pub fn of(folder: &Path) -> Self {
        Self {
            weather: folder.join(WEATHER),
            e2e: folder.join(E2E),
            fixture: folder.join(FIXTURE),
        }
    }
}

pub async fn build(profile: &str, progress: &Progress) -> Result<Programs> {
    let step = progress.start(format_args!(
        "building the weather server, the fixture and the load generator (profile {profile})"
    ));
    let packages = [WEATHER, E2E];
    let built = compile(profile, &packages, progress).await?;
    let fixture = compile_fixture(profile, &packages, progress).await?;
    let programs = Programs {
        weather: named(&built, WEATHER)?,
        e2e: named(&built, E2E)?,
        fixture: named(&fixture, FIXTURE)?,
    };
    step.done();
    Ok(programs)
}

/// A Python with FastMCP and, below it, the official SDK; made once per content of the requirements file.
pub async fn python(progress: &Progress) -> Result<PathBuf> {
    let step = progress.start("installing FastMCP and the official Python SDK");
    let python = environment::python(&Path::new(PYTHON).join("requirements-fastmcp.txt")).await?;
    step.done();
    Ok(python)
}

/// A Node.js, and beside the packages the script.
pub async fn node(progress: &Progress) -> Result<Node> {
    let step = progress.start("installing the official TypeScript SDK");
    let program = environment::node().await?;
    let folder = environment::modules(&program, Path::new(TYPESCRIPT), &[TYPESCRIPT_SCRIPT]).await?;
    step.done();
    Ok(Node {
        program,
        script: folder.join(TYPESCRIPT_SCRIPT),
    })
}
