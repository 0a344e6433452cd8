//! Step `build`, pure: every child of a server, from scratch. In: [`Valid`] and who says how many pods there
//! are; out: [`Desired`]. The Secret with the replicas' key is no pure thing: only its name appears here.

mod containers;
pub mod deployment;
mod env;
mod extra_ports;
pub mod monitor;
pub mod names;
mod probes;
pub mod service;
mod volumes;

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;

use self::monitor::ServiceMonitor;
use super::validate::{Identity, Image, Valid};
use crate::constants::labels;

/// The children as they should be.
#[derive(Clone, Debug)]
pub struct Desired {
    /// Whether replicas share a key: the Secret is made before the Deployment that mounts it. Unknown without a
    /// Deployment.
    pub replica_key: Option<bool>,
    /// Whether the server demands the gateway's secret.
    pub gateway_secret: bool,
    /// None when the workload is refused: what runs stays.
    pub deployment: Option<Deployment>,
    pub service: Service,
    /// The Service with the ports beside MCP's.
    pub extra_ports: Option<Service>,
    /// Who reads one of them.
    pub monitor: Option<ServiceMonitor>,
}

/// Who says how many pods there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replicas {
    /// The spec.
    Ours,
    /// An autoscaler; with the number that is there, where it has not said one yet: a number that nobody sends would fall back to
    /// one.
    Autoscaled { present: Option<i32> },
}

/// Builds.
pub fn build(valid: &Valid, replicas: Replicas) -> Desired {
    let workload = valid.workload.as_ref().ok();
    Desired {
        gateway_secret: valid.secret_header.is_some(),
        replica_key: workload.map(|workload| matches!(workload.image, Image::Bundled { .. })),
        deployment: workload.map(|workload| deployment::build(&valid.identity, workload, replicas)),
        service: service::build(valid),
        extra_ports: workload.and_then(|workload| extra_ports::build(&valid.identity, workload)),
        monitor: workload.and_then(|workload| monitor::build(&valid.identity, workload)),
    }
}

/// Labels of every child.
pub fn child_labels(identity: &Identity) -> BTreeMap<String, String> {
    BTreeMap::from([
        (labels::NAME.to_owned(), labels::MCP_SERVER.to_owned()),
        (labels::INSTANCE.to_owned(), identity.name.clone()),
        (labels::MANAGED_BY.to_owned(), labels::OPERATOR.to_owned()),
        (labels::SERVER.to_owned(), identity.name.clone()),
    ])
}

/// Selector of the pods. It cannot be changed in a Deployment, so it has nothing that could ever want to.
pub fn selector(name: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(labels::SERVER.to_owned(), name.to_owned())])
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}
