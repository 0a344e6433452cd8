//! The operator's pod. In: a local cluster. Out: its memory and CPU time by the kernel's count, and its own count of passes.

use std::fs;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};

use crate::bench::process::{self, Memory};
use crate::cluster::Cluster;
use crate::install::OPERATOR_NAMESPACE;

pub const DEPLOYMENT: &str = "mcp-fleet-operator";
/// Where the pod serves its metrics.
const PORT: u16 = 8080;
/// The kernel keeps 15 bytes of a program's name.
const PROGRAM: &str = "mcp-fleet-opera";

/// The one pod that runs and is not going.
#[derive(Debug)]
pub struct Operator {
    pod: String,
    pid: u32,
}

impl Operator {
    pub async fn find(cluster: &Cluster) -> Result<Self> {
        let pods = Api::<Pod>::namespaced(cluster.client(), OPERATOR_NAMESPACE)
            .list(&ListParams::default())
            .await?;
        let pod = pods.items.into_iter().find(|pod| {
            let named = pod
                .metadata
                .name
                .as_ref()
                .is_some_and(|name| name.starts_with(DEPLOYMENT));
            let running = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
            named && running && pod.metadata.deletion_timestamp.is_none()
        });
        let metadata = pod.context("no pod of the operator is running")?.metadata;
        let uid = metadata.uid.context("a pod without a uid")?;
        Ok(Self {
            pod: metadata.name.context("a pod without a name")?,
            pid: process_of(&uid).context("failed to find the operator's process")?,
        })
    }

    pub fn memory(&self) -> Result<Memory> {
        process::memory_of(self.pid)
    }

    pub fn cpu_seconds(&self) -> Result<f64> {
        process::cpu_seconds_of(self.pid)
    }

    /// Passes over objects of a kind since this operator's start, whatever came of them.
    pub async fn passes(&self, client: Client, kind: &str) -> Result<usize> {
        let pod = &self.pod;
        let path = format!("/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{pod}:{PORT}/proxy/metrics");
        let request = http::Request::get(path).body(Vec::new())?;
        let page = client
            .request_text(request)
            .await
            .context("failed to read the operator's metrics")?;
        Ok(passes(&page, kind))
    }
}

fn passes(page: &str, kind: &str) -> usize {
    let label = format!("kind=\"{kind}\"");
    page.lines()
        .filter(|line| line.starts_with("mcp_fleet_reconciles_total{") && line.contains(&label))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<usize>().ok())
        .sum()
}

/// Clusters of others may run on this machine: a pod's process has files of that pod mounted.
fn process_of(pod_uid: &str) -> Option<u32> {
    let folder = format!("/pods/{pod_uid}/");
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let is_ours = fs::read_to_string(entry.path().join("comm")).ok()?.trim() == PROGRAM
            && fs::read_to_string(entry.path().join("mountinfo"))
                .ok()?
                .contains(&folder);
        is_ours.then_some(pid)
    })
}

#[cfg(test)]
mod tests {
    use super::passes;

    #[test]
    fn passes_of_one_kind_are_added_up() {
        let page = "# TYPE mcp_fleet_reconciles counter
mcp_fleet_reconciles_total{kind=\"McpServer\",outcome=\"ok\",reason=\"\"} 21
mcp_fleet_reconciles_total{kind=\"McpServer\",outcome=\"error\",reason=\"Throttled\"} 2
mcp_fleet_reconciles_total{kind=\"McpGateway\",outcome=\"ok\",reason=\"\"} 5
# EOF";
        assert_eq!(passes(page, "McpServer"), 23);
        assert_eq!(passes(page, "McpAccess"), 0);
    }
}
