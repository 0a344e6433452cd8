//! The Service with the ports beside MCP's. In: the workload; out: a Service, where there are such ports. It is inside the cluster
//! whatever the other one is: what opens MCP to a gateway must not open metrics to it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;

use super::{child_labels, names, selector, some};
use crate::constants::{annotations, labels};
use crate::server::validate::{Identity, Image, Workload};

/// Builds.
pub fn build(identity: &Identity, workload: &Workload) -> Option<Service> {
    let ports = some(ports(workload))?;
    let mut all_labels = child_labels(identity);
    all_labels.extend(labels(identity));
    // So that a monitor that is wanted no more is known to be there.
    let annotations = workload
        .monitor
        .as_ref()
        .map(|_| BTreeMap::from([(annotations::MONITOR.to_owned(), identity.name.clone())]));
    Some(Service {
        metadata: ObjectMeta {
            name: Some(names::extra_ports(&identity.name)),
            namespace: Some(identity.namespace.clone()),
            labels: Some(all_labels),
            annotations,
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(selector(&identity.name)),
            ports: Some(ports),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    })
}

/// By which the Service is found.
pub fn labels(identity: &Identity) -> BTreeMap<String, String> {
    BTreeMap::from([
        (labels::SERVER.to_owned(), identity.name.clone()),
        (labels::COMPONENT.to_owned(), labels::EXTRA_PORTS.to_owned()),
    ])
}

/// The user's, and the metrics of the bundled image where somebody wants to read them.
fn ports(workload: &Workload) -> Vec<ServicePort> {
    let monitored = workload.monitor.as_ref().map(|monitor| monitor.port.as_str());
    let bundled = matches!(workload.image, Image::Bundled { .. });
    let own = names::bundled_ports(workload.port)
        .into_iter()
        .filter(|(name, _)| bundled && monitored == Some(*name))
        .map(|(name, port)| (name.to_owned(), port));
    own.chain(workload.extra_ports.iter().cloned())
        .map(|(name, port)| ServicePort {
            port: i32::from(port),
            protocol: Some("TCP".to_owned()),
            target_port: Some(IntOrString::String(name.clone())),
            name: Some(name),
            ..ServicePort::default()
        })
        .collect()
}
