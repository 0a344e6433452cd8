//! First step of an installation: the programs that go into images, linked statically.
//!
//! In: the workspace. Out: paths of the three programs, as cargo reports them. One cargo invocation, so that all share one build.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;

use super::WORKSPACE;
use super::invocation::{PACKAGES, PROFILE, static_build};
use crate::progress::Progress;

const HEARTBEAT: Duration = Duration::from_secs(15);
/// The fixture needs what the weather server's image must not have.
const FIXTURE: [&str; 4] = [
    "--bin",
    "mcp-weather-conformance",
    "--features",
    "mcp-weather/conformance",
];

/// Static programs, ready to be packed.
#[derive(Debug, Clone)]
pub struct Programs {
    pub operator: PathBuf,
    pub weather: PathBuf,
    pub e2e: PathBuf,
}

/// The part of cargo's messages that is read here.
#[derive(Deserialize)]
struct Message {
    reason: String,
    executable: Option<PathBuf>,
}

/// Builds what has changed since the last time.
pub async fn build(progress: &Progress) -> Result<Programs> {
    let step = progress.start("building operator, weather server and stand-ins (static, profile local)");
    let executables = compile(PROFILE, &PACKAGES, progress).await?;
    let programs = Programs {
        operator: named(&executables, "mcp-fleet-operator")?,
        weather: named(&executables, "mcp-weather")?,
        e2e: named(&executables, "mcp-fleet-e2e")?,
    };
    step.done();
    Ok(programs)
}

/// The weather server alone. The same packages are named as for [`build`], so that both share everything that they compile.
pub async fn build_weather(progress: &Progress) -> Result<PathBuf> {
    build_one("mcp-weather", &[], progress).await
}

/// The weather server's gate with the conformance suite's fixture behind it.
pub async fn build_conformance(progress: &Progress) -> Result<PathBuf> {
    let [_, name, features @ ..] = FIXTURE;
    build_one(name, &features, progress).await
}

/// The same in any profile, as the programs of these packages.
pub(crate) async fn compile_fixture(
    profile: &str,
    packages: &[&str],
    progress: &Progress,
) -> Result<Vec<PathBuf>> {
    cargo_build(profile, packages, &FIXTURE, progress).await
}

async fn build_one(name: &str, features: &[&str], progress: &Progress) -> Result<PathBuf> {
    let step = progress.start(format_args!("building {name} (static, profile {PROFILE})"));
    let chosen = [&["--bin", name], features].concat();
    let executables = cargo_build(PROFILE, &PACKAGES, &chosen, progress).await?;
    step.done();
    named(&executables, name)
}

pub(crate) fn named(executables: &[PathBuf], name: &str) -> Result<PathBuf> {
    let found = executables
        .iter()
        .find(|path| path.file_name().is_some_and(|file| file == name));
    found
        .cloned()
        .with_context(|| format!("failed to build the programs: cargo reported no {name}"))
}

/// Static programs of these packages.
pub(crate) async fn compile(profile: &str, packages: &[&str], progress: &Progress) -> Result<Vec<PathBuf>> {
    cargo_build(profile, packages, &["--bins"], progress).await
}

async fn cargo_build(
    profile: &str,
    packages: &[&str],
    chosen: &[&str],
    progress: &Progress,
) -> Result<Vec<PathBuf>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::from(static_build(
        &cargo,
        Path::new(WORKSPACE),
        profile,
        packages,
        chosen,
    ));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut cargo = command.spawn().context("failed to start cargo")?;
    let messages = cargo.stdout.take().context("failed to listen to cargo")?;
    let words = cargo.stderr.take().context("failed to listen to cargo")?;
    let (executables, words) = tokio::try_join!(follow(messages, progress), collect(words))?;
    let status = cargo.wait().await?;
    if !status.success() {
        bail!("failed to build the programs: cargo ended with {status}\n{words}");
    }
    Ok(executables)
}

/// Counts finished crates for the person who waits, and keeps the paths of programs.
async fn follow(messages: impl AsyncRead + Unpin, progress: &Progress) -> Result<Vec<PathBuf>> {
    let mut lines = BufReader::new(messages).lines();
    let (mut executables, mut crates, mut said) = (Vec::new(), 0_usize, Instant::now());
    while let Some(line) = lines.next_line().await? {
        let Ok(message) = serde_json::from_str::<Message>(&line) else {
            continue;
        };
        if message.reason != "compiler-artifact" {
            continue;
        }
        crates += 1;
        executables.extend(message.executable);
        if said.elapsed() > HEARTBEAT {
            progress.say(format_args!("  {crates} crates built"));
            said = Instant::now();
        }
    }
    Ok(executables)
}

/// What cargo says for people, kept for the case that it fails.
async fn collect(words: impl AsyncRead + Unpin) -> Result<String> {
    let mut lines = BufReader::new(words).lines();
    let mut kept = Vec::new();
    while let Some(line) = lines.next_line().await? {
        if !line.trim_start().starts_with("Compiling") {
            kept.push(line);
        }
    }
    let skip = kept.len().saturating_sub(60);
    Ok(kept[skip..].join("\n"))
}
