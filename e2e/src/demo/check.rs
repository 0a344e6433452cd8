//! Is the outcome what the demo promises? In: the outcome. Out: nothing, or an error that names what is not so.

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use super::outcome::Outcome;
use super::summary::commands;
use crate::cluster::Cluster;
use crate::cluster::packages::{self, find_program};
use crate::progress::Progress;

/// Looks at every fact once.
pub(crate) fn check(outcome: &Outcome) -> Result<()> {
    let running = outcome
        .pods
        .iter()
        .filter(|pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running"));
    ensure!(
        running.count() == 2,
        "the weather server should have two running pods:\n{}",
        outcome.children_shown
    );

    let service = outcome
        .service
        .spec
        .as_ref()
        .and_then(|spec| spec.type_.as_deref());
    ensure!(
        service == Some("LoadBalancer"),
        "the Service should be a load balancer:\n{}",
        outcome.children_shown
    );
    let ingress = outcome
        .service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref()?.first())
        .cloned();
    ensure!(
        ingress.is_some_and(|ingress| ingress.ip.or(ingress.hostname).is_some()),
        "the Service should have an address:\n{}",
        outcome.children_shown
    );

    let url = &outcome.calls.url;
    let shown = outcome
        .servers_shown
        .lines()
        .nth(1)
        .context("kubectl get mcps printed no server")?;
    let columns: Vec<_> = shown.split_whitespace().collect();
    ensure!(
        columns.get(..6) == Some(&["weather", "True", "2/2", "contoso", "2", url.as_str()]),
        "kubectl get mcps should show the server ready with 2 replicas, 2 tools and {url}:\n{}",
        outcome.servers_shown
    );

    let calls = &outcome.calls;
    ensure!(
        calls.tools == ["get_alerts", "get_forecast"],
        "the gateway should list both tools, not {:?}",
        calls.tools
    );
    ensure!(
        !calls.alerts.trim().is_empty() && !calls.forecast.trim().is_empty(),
        "both tools should answer"
    );
    ensure!(
        calls.without_key == 401,
        "a call without key should be refused with 401, not {}",
        calls.without_key
    );

    for kind in ["backends", "apis", "products", "subscriptions"] {
        ensure!(
            outcome
                .documents
                .iter()
                .any(|document| is_ours(&document.path, kind)),
            "API Management should have one of {kind}"
        );
    }
    ensure!(
        outcome
            .documents
            .iter()
            .any(|document| document.path.ends_with("/policies/policy")),
        "API Management should have a policy"
    );
    Ok(())
}

/// A document directly below `kind` that the operator made.
pub(crate) fn is_ours(path: &str, kind: &str) -> bool {
    path.split_once('/').is_some_and(|(first, name)| {
        first.eq_ignore_ascii_case(kind) && name.starts_with("demo-tools-") && !name.contains('/')
    })
}

/// Runs what the summary tells a person to run, in a shell of the host.
pub(crate) async fn commands_work(outcome: &Outcome, _cluster: &Cluster, progress: &Progress) -> Result<()> {
    if find_program("curl").is_none() {
        packages::install(&["curl"])?;
    }
    let step = progress.start("running the printed commands");
    let commands = commands(outcome);
    let script = format!(
        "set -e\n{}\n{}\n{}\n",
        commands.environment, commands.key, commands.curl
    );
    let output = Command::new("sh")
        .args(["-c", &script])
        .kill_on_drop(true)
        .output()
        .await
        .context("failed to run the printed commands")?;
    let (said, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(
        output.status.success() && said.contains("\"result\""),
        "the printed commands should work:\n{script}\n{said}\n{errors}"
    );
    step.done();
    Ok(())
}
