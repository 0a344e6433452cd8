//! What came out of the demo: the facts that are checked and then shown.
//!
//! In: the cluster and the stand-in. Out: [`Outcome`], data only.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Api;
use kube::api::ListParams;
use serde_json::Value;

use super::{NAMESPACE, SERVER};
use crate::cluster::Cluster;
use crate::install::{Installed, Kubectl};

/// What the calls through the gateway answered.
#[derive(Debug)]
pub(crate) struct Calls {
    pub(crate) url: String,
    pub(crate) tools: Vec<String>,
    pub(crate) alerts: String,
    pub(crate) forecast: String,
    /// Status of a call without key.
    pub(crate) without_key: u16,
}

/// How long each part took.
#[derive(Debug)]
pub(crate) struct Took {
    pub(crate) cluster: Duration,
    pub(crate) install: Duration,
    pub(crate) ready: Duration,
    pub(crate) all: Duration,
}

#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) pods: Vec<Pod>,
    pub(crate) service: Service,
    /// As kubectl prints them.
    pub(crate) servers_shown: String,
    pub(crate) children_shown: String,
    /// ARM documents: path below the service, and properties.
    pub(crate) documents: Vec<Document>,
    pub(crate) calls: Calls,
    pub(crate) took: Took,
    pub(crate) gateway_port: u16,
    pub(crate) authority: PathBuf,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) kubectl: PathBuf,
}

/// One document of the API Management service.
#[derive(Debug)]
pub(crate) struct Document {
    /// Such as `apis/weather/operations/mcp-post`.
    pub(crate) path: String,
    pub(crate) properties: Value,
}

impl From<Value> for Document {
    fn from(mut shown: Value) -> Self {
        Self {
            path: shown["path"].as_str().unwrap_or_default().to_owned(),
            properties: shown["properties"].take(),
        }
    }
}

impl Outcome {
    pub(crate) async fn collect(
        cluster: &Cluster,
        installed: &Installed,
        calls: Calls,
        took: Took,
    ) -> Result<Self> {
        let kubectl = Kubectl::of(cluster);
        let servers_shown = kubectl.run(["get", "mcps", "-n", NAMESPACE]).await?;
        let children_shown = kubectl
            .run(["get", "pods,services", "-n", NAMESPACE, "-o", "wide"])
            .await?;
        let pods = Api::<Pod>::namespaced(cluster.client(), NAMESPACE)
            .list(&ListParams::default())
            .await?
            .items;
        let service = Api::<Service>::namespaced(cluster.client(), NAMESPACE)
            .get(SERVER)
            .await?;
        let documents = installed
            .control
            .documents()
            .await?
            .into_iter()
            .map(Document::from)
            .collect();
        Ok(Self {
            pods,
            service,
            servers_shown,
            children_shown: without_wide_columns(&children_shown),
            documents,
            calls,
            took,
            gateway_port: installed.gateway_port,
            authority: installed.authority(),
            kubeconfig: cluster.kubeconfig().to_owned(),
            kubectl: cluster.kubectl(),
        })
    }
}

/// The columns that hardly anyone needs make lines too long for a terminal.
fn without_wide_columns(shown: &str) -> String {
    let mut cut = usize::MAX;
    let mut lines = Vec::new();
    for line in shown.lines() {
        if line.starts_with("NAME") {
            cut = ["NODE ", "SELECTOR"]
                .iter()
                .filter_map(|column| line.find(column))
                .min()
                .unwrap_or(usize::MAX);
        }
        lines.push(line.get(..cut).unwrap_or(line).trim_end().to_owned());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::without_wide_columns;

    #[test]
    fn wide_columns_are_cut_where_their_heading_is() {
        let shown = "NAME    IP     NODE    GATES\npod/a   10.0   node0   <none>\n\nNAME    PORT   SELECTOR\nsvc/a   80     app=a\n";
        assert_eq!(
            without_wide_columns(shown),
            "NAME    IP\npod/a   10.0\n\nNAME    PORT\nsvc/a   80"
        );
    }
}
