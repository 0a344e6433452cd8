//! The weather server as its callers see it: real processes on loopback, and clients that are not written here.
//!
//! In: a machine with Python; no root, no cluster, no Go. Out: one result per promise. All trials share two replicas and a replay of
//! the weather service, but for those that end or change a replica.

mod calls;
mod conformance;
mod differential;
#[path = "../harness/mod.rs"]
mod harness;
mod inspector;
mod proxy;
mod replicas;
mod rmcp_client;
mod server;
mod session;
mod world;

use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use mcp_fleet_e2e::progress::Progress;
use tokio::runtime::{Builder, Runtime};

use crate::harness::{explained, selected};
use crate::world::World;

/// Clients start slowly, and wait between their calls.
const THREADS: usize = 4;

type Run = Box<dyn FnOnce(Arc<World>) -> Pin<Box<dyn Future<Output = Result<()>>>> + Send>;

/// One promise.
pub(crate) struct Test {
    name: String,
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
            run: Box::new(move |world| Box::pin(run(world))),
        }
    }
}

fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    // Those that wait most begin first.
    tests.extend(replicas::tests());
    tests.extend(conformance::tests());
    tests.extend(differential::tests());
    tests.extend(rmcp_client::tests());
    tests.extend(calls::tests());
    tests.extend(inspector::tests());
    tests
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(THREADS));
    let tests = tests();
    if arguments.list || !tests.iter().any(|test| selected(&arguments, &test.name)) {
        let trials = tests
            .into_iter()
            .map(|test| Trial::test(test.name, || Ok(())))
            .collect();
        return libtest_mimic::run(&arguments, trials).exit_code();
    }
    match run(&arguments, tests) {
        Ok(code) => code,
        Err(error) => {
            eprintln!(
                "error: {}\n\ntest result: FAILED. 0 passed; the servers could not be set up",
                explained(&error)
            );
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments, tests: Vec<Test>) -> Result<ExitCode> {
    let runtime = Arc::new(Builder::new_multi_thread().enable_all().build()?);
    let world = Arc::new(runtime.block_on(World::start(Progress::new()))?);
    let trials = tests
        .into_iter()
        .map(|test| trial(test, &runtime, &world))
        .collect();
    Ok(libtest_mimic::run(arguments, trials).exit_code())
}

fn trial(test: Test, runtime: &Arc<Runtime>, world: &Arc<World>) -> Trial {
    let (runtime, world, run) = (Arc::clone(runtime), Arc::clone(world), test.run);
    Trial::test(test.name, move || {
        runtime
            .block_on(run(world))
            .map_err(|error| Failed::from(explained(&error)))
    })
}
