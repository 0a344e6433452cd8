//! The official conformance suite, against the weather server and against the suite's fixture on the same foundations.
//!
//! In: the suite's package, pinned; for the weather server a file of expected failures per revision, beside the package. Out: what
//! passed. The suite itself fails a run whose file names something that passes.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use mcp_fleet_e2e::clients::environment;
use mcp_fleet_e2e::progress::Progress;
use tokio::process::Command;

use crate::Test;
use crate::server::Server;
use crate::world::World;

/// A revision, and what is promised of it.
#[derive(Debug, Clone, Copy)]
struct Promise {
    revision: &'static str,
    /// Scenarios that the revision requires of servers.
    required: usize,
    /// Those that the weather server passes. The rest of the required ones ask for the suite's own fixture.
    weather: &'static [&'static str],
}

const PROMISES: [Promise; 2] = [
    Promise {
        revision: "2025-11-25",
        required: 30,
        weather: &[
            "server-initialize",
            "ping",
            "completion-complete",
            "tools-list",
            "resources-list",
            "prompts-list",
            "dns-rebinding-protection",
        ],
    },
    Promise {
        revision: "2026-07-28",
        required: 37,
        weather: &[
            "tools-list",
            "resources-list",
            "prompts-list",
            "completion-complete",
            "caching",
            "dns-rebinding-protection",
            "server-sse-multiple-streams",
            "sep-2164-resource-not-found",
            "input-required-result-missing-input-response",
            "input-required-result-unsupported-methods",
            "input-required-result-ignore-extra-params",
            "input-required-result-validate-input",
        ],
    },
];

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for promise in PROMISES {
        let revision = promise.revision.replace('-', "_");
        let name = format!("conformance::the_fixture_passes_everything_required_by_{revision}");
        tests.push(Test::new(name, move |world| fixture(world, promise)));
        let name = format!("conformance::the_weather_server_passes_its_part_of_{revision}");
        tests.push(Test::new(name, move |world| weather(world, promise)));
        let name = format!("conformance::a_stale_expectation_for_{revision}_fails");
        tests.push(Test::new(name, move |world| stale(world, promise)));
    }
    tests
}

async fn fixture(world: Arc<World>, promise: Promise) -> Result<()> {
    let server = start(world.conformance_server().await?, &world.nws.url).await?;
    let suite = world.suite().await?;
    let run = suite.run(&server, promise.revision, None).await?;
    ensure!(run.accepted, "the suite is content: {}", run.text);
    let required = suite.required(promise.revision).await?;
    ensure!(
        required.len() == promise.required,
        "the suite requires what it did: {required:?}"
    );
    let missing: Vec<_> = required.difference(&run.passed).collect();
    ensure!(missing.is_empty(), "not passed: {missing:?}\n{}", run.text);
    Ok(())
}

async fn weather(world: Arc<World>, promise: Promise) -> Result<()> {
    let server = start(&world.weather, &world.nws.url).await?;
    let suite = world.suite().await?;
    let expected = expected_failures(promise.revision);
    let run = suite.run(&server, promise.revision, Some(&expected)).await?;
    ensure!(
        run.accepted,
        "it fails what {} says and nothing else: {}",
        expected.display(),
        run.text
    );
    let promised: BTreeSet<_> = promise.weather.iter().map(ToString::to_string).collect();
    let missing: Vec<_> = promised.difference(&run.passed).collect();
    ensure!(missing.is_empty(), "not passed: {missing:?}\n{}", run.text);
    Ok(())
}

/// The file with one scenario more, which passes.
async fn stale(world: Arc<World>, promise: Promise) -> Result<()> {
    let server = start(&world.weather, &world.nws.url).await?;
    let text = std::fs::read_to_string(expected_failures(promise.revision))?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("stale.yml");
    std::fs::write(&file, format!("{text}  - tools-list\n"))?;
    let run = world
        .suite()
        .await?
        .run(&server, promise.revision, Some(&file))
        .await?;
    ensure!(
        run.passed.contains("tools-list") && !run.accepted,
        "what passes must not be expected to fail: {}",
        run.text
    );
    Ok(())
}

async fn start(program: &Path, nws: &str) -> Result<Server> {
    Server::start(program, &[("NWS_BASE_URL", nws.to_owned())]).await
}

fn expected_failures(revision: &str) -> PathBuf {
    environment::scripts().join(format!("conformance/weather-{revision}.yml"))
}

/// The suite, installed.
#[derive(Debug)]
pub struct Suite {
    node: PathBuf,
    program: PathBuf,
}

/// What a run of the suite came to.
#[derive(Debug)]
struct Run {
    /// The suite's own verdict on what is required.
    accepted: bool,
    passed: BTreeSet<String>,
    text: String,
}

impl Suite {
    pub async fn prepare(node: &Path, progress: &Progress) -> Result<Self> {
        let step = progress.start("installing the conformance suite");
        let folder = environment::scripts().join("conformance");
        let modules = environment::modules(node, &folder, &[]).await?;
        step.done();
        Ok(Self {
            node: node.to_owned(),
            program: modules.join("node_modules/@modelcontextprotocol/conformance/dist/index.js"),
        })
    }

    async fn run(&self, server: &Server, revision: &str, expected: Option<&Path>) -> Result<Run> {
        let results = tempfile::tempdir()?;
        let url = server.url();
        let mut arguments: Vec<OsString> = [
            "server",
            "--url",
            &url,
            "--requirements",
            revision,
            "--output-dir",
        ]
        .map(OsString::from)
        .into();
        arguments.push(results.path().into());
        if let Some(expected) = expected {
            arguments.extend([OsString::from("--expected-failures"), expected.into()]);
        }
        let (accepted, text) = self.output(&arguments).await?;
        let summary = text
            .split_once("=== SUMMARY")
            .and_then(|(_, rest)| rest.split_once("\nTotal:"));
        let (summary, _) = summary.with_context(|| format!("the suite did not come to its end: {text}"))?;
        let passed = summary.lines().filter_map(passed).map(str::to_owned).collect();
        Ok(Run {
            accepted,
            passed,
            text,
        })
    }

    /// The scenarios that a revision requires of servers.
    async fn required(&self, revision: &str) -> Result<BTreeSet<String>> {
        let arguments = ["list", "--requirements", revision].map(OsString::from);
        let (_, text) = self.output(&arguments).await?;
        let lines = text
            .lines()
            .skip_while(|line| !line.starts_with("Server scenarios"));
        let scenarios = lines.skip(1).map_while(|line| line.strip_prefix("  - "));
        Ok(scenarios.map(str::to_owned).collect())
    }

    async fn output(&self, arguments: &[OsString]) -> Result<(bool, String)> {
        let output = Command::new(&self.node)
            .arg(&self.program)
            .args(arguments)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("failed to start the conformance suite")?;
        let text = [output.stdout, output.stderr].concat();
        Ok((
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        ))
    }
}

/// The scenario of a line of the summary, such as `✓ ping: 2 passed, 0 failed`, if anything in it passed and nothing failed.
fn passed(line: &str) -> Option<&str> {
    let (scenario, counts) = line.strip_prefix("✓ ")?.split_once(": ")?;
    let (passed, failed) = counts.split_once(" passed, ")?;
    (passed != "0" && failed == "0 failed").then_some(scenario)
}
