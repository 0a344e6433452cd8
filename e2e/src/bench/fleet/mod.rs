//! The operator's benchmark, on a local cluster with everything installed. In: flags. Out: time from apply to Ready, writes to ARM
//! and to Kubernetes per server, and the operator's memory.
//!
//! cluster -> install -> gateway -> servers alone -> servers together -> quiet -> restart -> deletion -> report
//!
//! Each phase is counted from its first request until the operator has written nothing for a while, by those who were written to: the
//! API server's audit log and the stand-in's journal.

mod operator;
mod ready;
mod report;
mod writes;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use mcp_fleet_crds::{McpGateway, McpServer};
use serde_json::json;

use self::operator::Operator;
use self::report::{Phase, Report};
use self::writes::Journals;
use crate::cluster::Cluster;
use crate::install::{
    self, Awaited, GATEWAY, Installed, Kubectl, OPERATOR_NAMESPACE, Settings, wait_for, wait_for_ready,
};
use crate::progress::Progress;

const NAMESPACE: &str = "bench";
const GATEWAY_NAME: &str = "contoso";
const LIMIT: Duration = Duration::from_mins(5);

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Servers that are applied one after the other, each when the one before is Ready
    #[arg(long, default_value_t = 3)]
    alone: usize,
    /// Servers that are applied at once
    #[arg(long, default_value_t = 20)]
    together: usize,
    /// Length of the phase in which nothing happens
    #[arg(long, default_value_t = 60)]
    quiet_seconds: u64,
    /// Write everything that was measured to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

pub async fn run(options: Options) -> Result<()> {
    let progress = Progress::new();
    let cluster = tokio::select! {
        cluster = Cluster::start(&progress) => cluster?,
        result = crate::commands::interrupted() => return result,
    };
    let report = tokio::select! {
        report = measure(&cluster, &options, &progress) => report,
        result = crate::commands::interrupted() => result.and(Err(anyhow::anyhow!("interrupted"))),
    };
    let step = progress.start("removing the cluster");
    cluster.stop().await?;
    step.done();
    let report = report?;
    super::write_json(options.json.as_deref(), &report)?;
    println!("\n{}", report.text());
    Ok(())
}

/// What every phase needs.
#[derive(Debug)]
struct Bench<'a> {
    cluster: &'a Cluster,
    installed: Installed,
    journals: Journals,
    progress: &'a Progress,
}

async fn measure(cluster: &Cluster, options: &Options, progress: &Progress) -> Result<Report> {
    ensure!(
        cluster.is_local(),
        "writes are counted by the local cluster's audit log: run without MCP_FLEET_KUBECONFIG"
    );
    let installed = install::install(cluster, &Settings::default(), progress).await?;
    GATEWAY.apply(cluster).await?;
    let gateways = Api::<McpGateway>::all(cluster.client());
    wait_for_ready(cluster, &gateways, GATEWAY_NAME, LIMIT, progress).await?;
    make_namespace(cluster).await?;
    let journals = Journals::of(cluster, installed.control.clone())?;
    let bench = Bench {
        cluster,
        installed,
        journals,
        progress,
    };

    bench.journals.settle(progress).await?;
    let at_rest = Operator::find(cluster).await?.memory()?;
    let alone = bench.alone(options.alone).await?;
    let together = bench.together(options.together).await?;
    let (quiet, cpu_percent) = bench.quiet(Duration::from_secs(options.quiet_seconds)).await?;
    let with_servers = Operator::find(cluster).await?.memory()?;
    let restart = bench.restart(options.alone + options.together).await?;
    let deletion = bench.delete_all().await?;
    Ok(Report {
        phases: vec![alone, together, quiet, restart, deletion],
        memory: report::OperatorMemory {
            at_rest_kib: at_rest.now,
            with_servers_kib: with_servers.now,
            most_kib: with_servers.most,
        },
        idle_cpu_percent: cpu_percent,
    })
}

async fn make_namespace(cluster: &Cluster) -> Result<()> {
    let namespace = serde_json::from_value(json!({
        "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }))?;
    Api::<Namespace>::all(cluster.client())
        .create(&PostParams::default(), &namespace)
        .await?;
    Ok(())
}

impl Bench<'_> {
    /// One server at a time.
    async fn alone(&self, count: usize) -> Result<Phase> {
        let step = self.progress.start(format_args!("{count} servers, one by one"));
        let since = self.journals.mark().await?;
        let mut seconds = Vec::new();
        for number in 0..count {
            let names = [format!("alone-{number}")];
            seconds.extend(ready::apply_and_wait(self.cluster.client(), NAMESPACE, &names, LIMIT).await?);
        }
        let writes = self.journals.since_when_settled(since, self.progress).await?;
        step.done();
        Ok(Phase::of("applied one by one", count, seconds, writes))
    }

    /// All at once.
    async fn together(&self, count: usize) -> Result<Phase> {
        let step = self.progress.start(format_args!("{count} servers at once"));
        let since = self.journals.mark().await?;
        let names: Vec<String> = (0..count).map(|number| format!("together-{number}")).collect();
        let seconds = ready::apply_and_wait(self.cluster.client(), NAMESPACE, &names, LIMIT).await?;
        let writes = self.journals.since_when_settled(since, self.progress).await?;
        step.done();
        Ok(Phase::of("applied at once", count, seconds, writes))
    }

    /// Nothing happens; also how much of a core the operator takes for that.
    async fn quiet(&self, length: Duration) -> Result<(Phase, f64)> {
        let step = self
            .progress
            .start(format_args!("{} quiet seconds", length.as_secs()));
        let operator = Operator::find(self.cluster).await?;
        let (since, cpu) = (self.journals.mark().await?, operator.cpu_seconds()?);
        tokio::time::sleep(length).await;
        let cpu = operator.cpu_seconds()? - cpu;
        let writes = self.journals.since(since).await?;
        step.done();
        let phase = Phase::of("quiet", self.servers().await?.len(), Vec::new(), writes);
        Ok((phase, 100.0 * cpu / length.as_secs_f64()))
    }

    /// The operator starts anew and looks at everything once.
    async fn restart(&self, servers: usize) -> Result<Phase> {
        let step = self.progress.start("restarting the operator");
        let (since, started) = (self.journals.mark().await?, Instant::now());
        let kubectl = Kubectl::of(self.cluster);
        let deployment = format!("deployment/{}", operator::DEPLOYMENT);
        kubectl
            .run(["-n", OPERATOR_NAMESPACE, "rollout", "restart", &deployment])
            .await?;
        kubectl
            .run([
                "-n",
                OPERATOR_NAMESPACE,
                "rollout",
                "status",
                &deployment,
                "--timeout=120s",
            ])
            .await?;
        wait_for(self.progress, "a pass over every server", LIMIT, async || {
            let operator = Operator::find(self.cluster).await?;
            let passes = operator.passes(self.cluster.client(), "McpServer").await?;
            Ok(if passes >= servers {
                Awaited::Done(())
            } else {
                Awaited::Not(format!("{passes} of {servers}"))
            })
        })
        .await?;
        let seconds = vec![started.elapsed().as_secs_f64()];
        let writes = self.journals.since_when_settled(since, self.progress).await?;
        step.done();
        Ok(Phase::of("operator restarted", servers, seconds, writes))
    }

    async fn delete_all(&self) -> Result<Phase> {
        let step = self.progress.start("deleting all servers");
        let since = self.journals.mark().await?;
        let count = self.servers().await?.len();
        let started = Instant::now();
        let api = Api::<McpServer>::namespaced(self.cluster.client(), NAMESPACE);
        // One by one and not as a collection, which is one entry in the audit log whoever did it.
        for name in self.servers().await? {
            api.delete(&name, &DeleteParams::background()).await?;
        }
        wait_for(self.progress, "the last server to go", LIMIT, async || {
            Ok(match self.servers().await?.len() {
                0 => Awaited::Done(()),
                left => Awaited::Not(format!("{left} left")),
            })
        })
        .await?;
        let seconds = vec![started.elapsed().as_secs_f64()];
        let writes = self.journals.since_when_settled(since, self.progress).await?;
        step.done();
        let left = self.installed.control.paths().await?;
        ensure!(
            !left.iter().any(|path| path.contains(NAMESPACE)),
            "left behind in API Management: {left:?}"
        );
        Ok(Phase::of("all deleted", count, seconds, writes))
    }

    async fn servers(&self) -> Result<Vec<String>> {
        let api = Api::<McpServer>::namespaced(self.cluster.client(), NAMESPACE);
        let list = api.list(&ListParams::default()).await?;
        Ok(list
            .items
            .into_iter()
            .filter_map(|server| server.metadata.name)
            .collect())
    }
}
