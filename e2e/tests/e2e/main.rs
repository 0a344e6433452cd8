//! End to end: the main job on a real Kubernetes, with clients that are not written here.
//!
//! In: a machine with root, Go, Python and Node.js, or with MCP_FLEET_KUBECONFIG a cluster. Out: one result per promise. One cluster is
//! started for all of them; each trial has a namespace of its own, and those that change the world for others run alone, at the end.

mod access;
mod agents;
mod any_image;
mod bad_gateway;
mod bad_server;
mod bad_spec;
mod bad_workload;
mod borders;
mod changes;
mod crashes;
mod deletion;
mod door;
mod guesses;
#[path = "../harness/mod.rs"]
mod harness;
mod hostile_servers;
mod place;
mod read_back;
mod releases;
mod rollouts;
mod silence;
mod workload;
mod world;

use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use mcp_fleet_e2e::cluster::KUBECONFIG_VARIABLE;
use mcp_fleet_e2e::progress::Progress;
use tokio::runtime::{Builder, Runtime};

use crate::harness::{explained, selected};
use crate::world::World;

/// Most of a trial is waiting, so more run at a time than there are processors.
const THREADS: usize = 6;

type Run = Box<dyn FnOnce(Arc<World>) -> Pin<Box<dyn Future<Output = Result<()>>>> + Send>;

/// One promise.
pub(crate) struct Test {
    name: String,
    alone: bool,
    /// Why it needs a cluster of our own, if it does.
    local: Option<&'static str>,
    run: Run,
}

impl Test {
    pub fn new<F, R>(name: impl Into<String>, run: F) -> Self
    where
        F: FnOnce(Arc<World>) -> R + Send + 'static,
        R: Future<Output = Result<()>> + 'static,
    {
        Self {
            name: name.into(),
            alone: false,
            local: None,
            run: Box::new(move |world| Box::pin(run(world))),
        }
    }

    /// Changes the world for all others: nothing else runs meanwhile.
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Needs the network of a local cluster.
    pub fn local(mut self, why: &'static str) -> Self {
        self.local = Some(why);
        self
    }
}

fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    tests.extend(agents::tests());
    tests.extend(workload::tests());
    tests.extend(any_image::tests());
    tests.extend(read_back::tests());
    tests.extend(releases::tests());
    tests.extend(changes::tests());
    tests.extend(access::tests());
    tests.extend(rollouts::tests());
    tests.extend(deletion::tests());
    tests.extend(door::tests());
    tests.extend(bad_spec::tests());
    tests.extend(bad_server::tests());
    tests.extend(borders::tests());
    tests.extend(bad_gateway::tests());
    tests.extend(silence::tests());
    tests.extend(guesses::tests());
    tests.extend(hostile_servers::tests());
    tests.extend(crashes::tests());
    // In the order in which threads take them: those that run alone at the end.
    tests.sort_by_key(|test| test.alone);
    tests
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let foreign = std::env::var_os(KUBECONFIG_VARIABLE).is_some_and(|path| !path.is_empty());
    let mut tests = tests();
    let in_ci = std::env::var_os("CI").is_some();
    if foreign && !in_ci {
        tests.retain(|test| match test.local {
            Some(why) => {
                eprintln!(
                    "skipped: {}: {why}, and {KUBECONFIG_VARIABLE} names another cluster",
                    test.name
                );
                false
            }
            None => true,
        });
    }
    let root = nix::unistd::geteuid().is_root();
    if !root && !foreign && !in_ci {
        eprintln!("skipped: a local cluster needs root; run as root, or set {KUBECONFIG_VARIABLE}");
        tests.clear();
    }
    if arguments.list || !tests.iter().any(|test| selected(&arguments, &test.name)) {
        let trials = tests
            .into_iter()
            .map(|test| Trial::test(test.name, || Ok(())))
            .collect();
        return libtest_mimic::run(&arguments, trials).exit_code();
    }
    arguments.test_threads = arguments.test_threads.or(Some(THREADS));
    match run(&arguments, tests) {
        Ok(code) => code,
        Err(error) => {
            eprintln!(
                "error: {}\n\ntest result: FAILED. 0 passed; the cluster could not be set up",
                explained(&error)
            );
            ExitCode::FAILURE
        }
    }
}

/// Sets the world up, runs the trials, and takes it down whatever came of them.
fn run(arguments: &Arguments, tests: Vec<Test>) -> Result<ExitCode> {
    let runtime = Arc::new(Builder::new_multi_thread().enable_all().build()?);
    let progress = Progress::new();
    let world = Arc::new(runtime.block_on(World::start(progress.clone()))?);
    let trials = tests
        .into_iter()
        .map(|test| trial(test, &runtime, &world))
        .collect();
    let conclusion = libtest_mimic::run(arguments, trials);
    let step = progress.start("taking the cluster down");
    // The last trial's thread may still be letting go of it.
    let world = loop {
        match Arc::strong_count(&world) {
            1 => break Arc::into_inner(world),
            _ => std::thread::yield_now(),
        }
    };
    if let Some(world) = world {
        runtime.block_on(world.stop())?;
    }
    step.done();
    progress.say("end to end: nothing is left of it");
    Ok(conclusion.exit_code())
}

fn trial(test: Test, runtime: &Arc<Runtime>, world: &Arc<World>) -> Trial {
    let (runtime, world) = (runtime.clone(), world.clone());
    Trial::test(test.name, move || {
        runtime.block_on(async move {
            let result = if test.alone {
                let _alone = world.alone.write().await;
                (test.run)(world.clone()).await
            } else {
                let _together = world.alone.read().await;
                (test.run)(world.clone()).await
            };
            result.map_err(|error| Failed::from(explained(&error)))
        })
    })
}
