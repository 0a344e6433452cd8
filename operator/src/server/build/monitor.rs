//! The ServiceMonitor, from which a Prometheus learns where to read metrics. In: the workload; out: one, where the spec asks for
//! it. Only what we set has a field here.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use kube::api::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::{child_labels, extra_ports};
use crate::server::validate::{Identity, Workload};

/// As the Prometheus operator defines it.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "monitoring.coreos.com",
    version = "v1",
    kind = "ServiceMonitor",
    namespaced,
    schema = "disabled"
)]
#[serde(rename_all = "camelCase")]
pub struct ServiceMonitorSpec {
    pub selector: LabelSelector,
    pub endpoints: Vec<Endpoint>,
}

/// One port to read.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    pub port: String,
    pub path: String,
    pub interval: String,
}

/// Builds.
pub fn build(identity: &Identity, workload: &Workload) -> Option<ServiceMonitor> {
    let monitor = workload.monitor.as_ref()?;
    let mut labels = monitor.labels.clone();
    labels.extend(child_labels(identity));
    Some(ServiceMonitor {
        metadata: ObjectMeta {
            name: Some(identity.name.clone()),
            namespace: Some(identity.namespace.clone()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: ServiceMonitorSpec {
            selector: LabelSelector {
                match_labels: Some(extra_ports::labels(identity)),
                ..LabelSelector::default()
            },
            endpoints: vec![Endpoint {
                port: monitor.port.clone(),
                path: monitor.path.clone(),
                interval: format!("{}s", monitor.interval_seconds),
            }],
        },
    })
}
