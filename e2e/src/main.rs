//! The command line of the e2e crate: one subcommand per thing a person does. In: arguments. Out: the subcommand's exit code.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mcp_fleet_e2e::cluster;
use mcp_fleet_e2e::commands;

#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The local Kubernetes cluster
    #[command(subcommand)]
    Cluster(commands::cluster::Command),
    /// Build one of the pinned tools (kubectl, helm, kubeconform, …) if need be, and print its path
    Tool { name: String },
    /// Own a cluster; started by `cluster up` and the tests, never by hand
    #[command(hide = true)]
    ClusterKeeper,
}

fn main() -> ExitCode {
    let future = match Arguments::parse().command {
        // It must be alone on the first thread.
        Command::ClusterKeeper => return cluster::keeper::main(),
        Command::Cluster(command) => commands::run(commands::cluster::run(command)),
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
