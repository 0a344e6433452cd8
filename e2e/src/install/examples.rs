//! Last step of an installation: the examples of the repository, applied word for word, and waited for.
//!
//! In: files of `examples/`. Out: objects that say Ready, or an error with everything that tells why not.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Api, Resource, ResourceExt};
use mcp_fleet_crds::{McpAccess, McpGateway, McpServer};
use serde::de::DeserializeOwned;

use super::diagnosis::why;
use super::kubectl::Kubectl;
use super::stand_ins::AZURE_NAMESPACE;
use super::waiting::{Awaited, wait_for};
use super::{OPERATOR_NAMESPACE, WORKSPACE};
use crate::cluster::Cluster;
use crate::progress::Progress;

/// One file of `examples/`.
#[derive(Debug, Clone, Copy)]
pub struct Example(&'static str);

pub const WEATHER: Example = Example("weather.yaml");
pub const GATEWAY: Example = Example("gateway.yaml");
pub const ACCESS: Example = Example("access.yaml");

impl Example {
    pub fn path(self) -> PathBuf {
        Path::new(WORKSPACE).join("examples").join(self.0)
    }

    pub async fn apply(self, cluster: &Cluster) -> Result<String> {
        Kubectl::of(cluster).apply_file(&self.path()).await
    }
}

/// An object with conditions, one of which is their summary `Ready`.
pub trait Ready: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug {
    fn conditions(&self) -> Vec<Condition>;

    /// The condition of this type.
    fn condition(&self, type_: &str) -> Option<Condition> {
        self.conditions()
            .into_iter()
            .find(|condition| condition.type_ == type_)
    }

    /// Ready, and said of the present spec.
    fn is_ready(&self) -> bool {
        self.condition("Ready").is_some_and(|ready| {
            ready.status == "True" && ready.observed_generation == self.meta().generation
        })
    }

    /// What is not as it should be, in one line.
    fn troubles(&self) -> String {
        let conditions = self.conditions();
        let troubles: Vec<_> = conditions
            .iter()
            .filter(|condition| condition.status != "True" && condition.type_ != "Ready")
            .collect();
        if conditions.is_empty() {
            return "no condition yet".to_owned();
        }
        troubles
            .iter()
            .map(|condition| {
                format!(
                    "{}={} {}: {}",
                    condition.type_, condition.status, condition.reason, condition.message
                )
            })
            .collect::<Vec<_>>()
            .join("; ")
    }
}

macro_rules! ready {
    ($($kind:ty),*) => {
        $(impl Ready for $kind {
            fn conditions(&self) -> Vec<Condition> {
                self.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default()
            }
        })*
    };
}
ready!(McpServer, McpGateway, McpAccess);

/// Waits until the object says Ready of its present spec.
pub async fn wait_for_ready<K: Ready>(
    cluster: &Cluster,
    api: &Api<K>,
    name: &str,
    limit: Duration,
    progress: &Progress,
) -> Result<K> {
    let kind = K::kind(&());
    let mut namespaces = vec![AZURE_NAMESPACE.to_owned(), OPERATOR_NAMESPACE.to_owned()];
    let waited = wait_for(
        progress,
        &format!("{kind} {name} to be Ready"),
        limit,
        async || {
            let object = api.get(name).await?;
            namespaces.extend(
                object
                    .namespace()
                    .filter(|namespace| !namespaces.contains(namespace)),
            );
            Ok(if object.is_ready() {
                Awaited::Done(object)
            } else {
                Awaited::Not(object.troubles())
            })
        },
    )
    .await;
    let namespaces: Vec<_> = namespaces.iter().map(String::as_str).collect();
    why(waited, cluster, &namespaces).await
}
