//! The command line of the e2e crate: one subcommand per thing a person does. In: arguments. Out: the subcommand's exit code.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mcp_fleet_e2e::{apim, bench, cluster, commands, demo, nws, test_server};
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The main job from nothing: cluster, operator, an McpServer, tool calls through the gateway, a summary
    Demo(demo::Options),
    /// The local Kubernetes cluster
    #[command(subcommand)]
    Cluster(commands::cluster::Command),
    /// Build the operator's and the weather server's images as archives to push to a registry
    Images(commands::images::Options),
    /// Build one of the pinned tools (kubectl, helm, kubeconform, …) if need be, and print its path
    Tool { name: String },
    /// Measure what is promised: the weather server, or the operator in a cluster
    #[command(subcommand)]
    Bench(bench::Command),
    /// Own a cluster; started by `cluster up` and the tests, never by hand
    #[command(hide = true)]
    ClusterKeeper,
    /// Play Azure API Management, Entra and the gateway; runs as a pod
    StandIn(Box<apim::command::Arguments>),
    /// Play the US National Weather Service; runs as a pod
    NwsReplay(nws::command::Arguments),
    /// A server that is wrong in one way, for tests
    #[command(hide = true)]
    TestServer(test_server::Options),
}

fn main() -> ExitCode {
    let command = Arguments::parse_from(arguments(std::env::args_os())).command;
    // For what runs as a pod; whoever watches a terminal sees progress instead.
    if matches!(
        command,
        Command::StandIn(_) | Command::NwsReplay(_) | Command::TestServer(_)
    ) {
        let filter =
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,mcp_fleet_e2e=info"));
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .init();
    }
    let future = match command {
        // It must be alone on the first thread.
        Command::ClusterKeeper => return cluster::keeper::main(),
        Command::Cluster(command) => commands::run(commands::cluster::run(command)),
        Command::Bench(command) => commands::run(bench::run(command)),
        Command::Demo(options) => commands::run(demo::run(options)),
        Command::NwsReplay(arguments) => commands::run(nws::command::run(arguments)),
        Command::TestServer(options) => commands::run(test_server::run(options)),
        Command::StandIn(arguments) => commands::run(apim::command::run(*arguments)),
        Command::Images(options) => commands::run(commands::images::run(options)),
        Command::Tool { name } => commands::run(commands::cluster::print_tool(name)),
    };
    match future {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Without the `--` after the subcommand: `cargo demo -- --exit` brings it along, since the alias ends in the subcommand.
fn arguments(given: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    given
        .enumerate()
        .filter(|(position, argument)| *position != 2 || argument != "--")
        .map(|(_, argument)| argument)
}

#[cfg(test)]
mod tests {
    use super::{Arguments, arguments};
    use clap::Parser as _;

    #[test]
    fn the_demo_takes_its_flag_with_and_without_a_separator() {
        for given in ["e2e demo --exit", "e2e demo -- --exit", "e2e demo"] {
            let given = given.split(' ').map(Into::into);
            assert!(Arguments::try_parse_from(arguments(given)).is_ok());
        }
    }
}
