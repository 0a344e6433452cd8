//! `cluster up`: a local cluster for as long as a person wants it. In: nothing. Out: a kubeconfig and what to do with it.

use anyhow::Result;

use super::interrupted;
use crate::cluster::{Cluster, IMAGE_LOAD_VARIABLE, KUBECONFIG_VARIABLE, tools};
use crate::progress::Progress;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Start it, say how to use it, and end it at Ctrl-C
    Up,
}

pub async fn run(command: Command) -> Result<()> {
    match command {
        Command::Up => up().await,
    }
}

async fn up() -> Result<()> {
    let progress = Progress::new();
    let cluster = tokio::select! {
        cluster = Cluster::start(&progress) => cluster?,
        result = interrupted() => return result,
    };
    let folder = |path: &std::path::Path| {
        path.parent()
            .map(|folder| folder.display().to_string())
            .unwrap_or_default()
    };
    println!(
        "\nThe cluster is up. In another terminal:\n\n  export KUBECONFIG={}\n  export PATH={}:{}:$PATH\n  kubectl get pods --all-namespaces",
        cluster.kubeconfig().display(),
        folder(&cluster.kubectl()),
        folder(&cluster.helm()),
    );
    if let Some(template) = cluster.image_load_template() {
        println!(
            "\nFor cargo demo and the tests to use it:\n\n  export {KUBECONFIG_VARIABLE}=$KUBECONFIG\n  export {IMAGE_LOAD_VARIABLE}=\"{template}\""
        );
    }
    println!("\nCtrl-C ends it.");
    interrupted().await?;
    let step = progress.start("removing the cluster");
    cluster.stop().await?;
    step.done();
    Ok(())
}

pub async fn print_tool(name: String) -> Result<()> {
    println!("{}", tools::tool(&name, &Progress::new()).await?.display());
    Ok(())
}
