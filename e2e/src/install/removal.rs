//! Back from an installation, for a cluster that goes on living: what was made is removed, what was there stays.
//!
//! In: a cluster and what was there before. Out: nothing of ours.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use mcp_fleet_crds::GROUP;

use super::charts::{CRDS_RELEASE, OPERATOR_NAMESPACE, RELEASE};
use super::kubectl::Kubectl;
use super::stand_ins::{AZURE_NAMESPACE, NOAA_NAMESPACE};
use super::waiting::{Awaited, wait_for};
use crate::cluster::Cluster;
use crate::progress::Progress;

const LIMIT: Duration = Duration::from_mins(2);
/// The namespace that the examples make.
const EXAMPLES_NAMESPACE: &str = "tools";

/// Names that were in the cluster before the installation.
#[derive(Debug)]
pub(crate) struct Before {
    namespaces: BTreeSet<String>,
    definitions: BTreeSet<String>,
}

impl Before {
    /// Looks, and refuses a cluster that has mcp-fleet already: its servers are not for a demo to touch.
    pub(crate) async fn look(cluster: &Cluster) -> Result<Self> {
        let helm = Kubectl::helm_of(cluster);
        let releases = helm
            .run([
                "list",
                "--all-namespaces",
                "--short",
                "--filter",
                "^mcp-fleet(-crds)?$",
            ])
            .await?;
        if !releases.trim().is_empty() {
            bail!(
                "the cluster of {} has mcp-fleet installed already: use another cluster, or uninstall it first",
                cluster.kubeconfig().display()
            );
        }
        let namespaces: BTreeSet<_> = namespaces(cluster).await?;
        for ours in [AZURE_NAMESPACE, NOAA_NAMESPACE, EXAMPLES_NAMESPACE] {
            if namespaces.contains(ours) {
                bail!(
                    "the cluster of {} has a namespace {ours} already, which this would use: use another cluster",
                    cluster.kubeconfig().display()
                );
            }
        }
        let definitions = definitions(cluster).await?;
        Ok(Self {
            namespaces,
            definitions,
        })
    }
}

async fn namespaces(cluster: &Cluster) -> Result<BTreeSet<String>> {
    let all = Api::<Namespace>::all(cluster.client())
        .list(&ListParams::default())
        .await?;
    Ok(all.items.iter().map(ResourceExt::name_any).collect())
}

async fn definitions(cluster: &Cluster) -> Result<BTreeSet<String>> {
    let all = Api::<CustomResourceDefinition>::all(cluster.client())
        .list(&ListParams::default())
        .await?;
    Ok(all
        .items
        .iter()
        .filter(|definition| definition.spec.group == GROUP)
        .map(ResourceExt::name_any)
        .collect())
}

/// Removes our objects while the operator still lives to take them down, then the operator, then the rest.
pub async fn remove(cluster: &Cluster, installed: &super::Installed, progress: &Progress) -> Result<()> {
    let before = &installed.before;
    let step = progress.start("removing what was installed");
    let kubectl = Kubectl::of(cluster);
    for kind in ["mcpaccesses", "mcpservers"] {
        let resource = format!("{kind}.{GROUP}");
        kubectl
            .run([
                "delete",
                &resource,
                "--all",
                "--all-namespaces",
                "--ignore-not-found",
                "--timeout=120s",
            ])
            .await?;
    }
    kubectl
        .run([
            "delete",
            &format!("mcpgateways.{GROUP}"),
            "--all",
            "--ignore-not-found",
            "--timeout=120s",
        ])
        .await?;
    let helm = Kubectl::helm_of(cluster);
    for release in [RELEASE, CRDS_RELEASE] {
        helm.run([
            "uninstall",
            release,
            "--namespace",
            OPERATOR_NAMESPACE,
            "--ignore-not-found",
            "--wait",
        ])
        .await?;
    }
    // The chart keeps them, so that uninstalling never takes servers with it.
    for definition in definitions(cluster).await?.difference(&before.definitions) {
        kubectl
            .run([
                "delete",
                "customresourcedefinition",
                definition,
                "--ignore-not-found",
                "--timeout=60s",
            ])
            .await?;
    }
    kubectl
        .run([
            "delete",
            "clusterrolebinding",
            "mcp-fleet-stand-in-reads-issuer",
            "--ignore-not-found",
        ])
        .await?;
    let ours: Vec<_> = [
        EXAMPLES_NAMESPACE,
        OPERATOR_NAMESPACE,
        AZURE_NAMESPACE,
        NOAA_NAMESPACE,
    ]
    .into_iter()
    .filter(|name| !before.namespaces.contains(*name))
    .collect();
    for namespace in &ours {
        kubectl
            .run([
                "delete",
                "namespace",
                namespace,
                "--ignore-not-found",
                "--wait=false",
            ])
            .await?;
    }
    wait_for(progress, "the end of its namespaces", LIMIT, async || {
        let there = namespaces(cluster).await?;
        let left: Vec<_> = ours
            .iter()
            .filter(|name| there.contains(**name))
            .copied()
            .collect();
        Ok(if left.is_empty() {
            Awaited::Done(())
        } else {
            Awaited::Not(left.join(", "))
        })
    })
    .await?;
    step.done();
    Ok(())
}
