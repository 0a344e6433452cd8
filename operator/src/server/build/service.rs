//! The Service. In: [`Valid`]; out: a Service.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;

use super::{child_labels, names, selector};
use crate::server::validate::{Access, Exposure, Valid};

/// Builds.
pub fn build(valid: &Valid) -> Service {
    let Valid {
        identity,
        exposure:
            Exposure {
                port,
                annotations,
                ip_family_policy,
                ip_families,
                access,
                refused: _,
                guarded: _,
            },
        ..
    } = valid;
    let mut spec = ServiceSpec {
        selector: Some(selector(&identity.name)),
        session_affinity: Some("None".to_owned()),
        ports: Some(vec![ServicePort {
            name: Some(names::PORT.to_owned()),
            port: i32::from(*port),
            protocol: Some("TCP".to_owned()),
            // By name: a changed container port needs no change here while old and new pods run side by side. No
            // appProtocol: Azure would turn its load balancer's probe into GET /, which an MCP server answers 404.
            target_port: Some(IntOrString::String(names::PORT.to_owned())),
            ..ServicePort::default()
        }]),
        ip_family_policy: ip_family_policy.map(ToOwned::to_owned),
        ip_families: ip_families
            .as_ref()
            .map(|families| families.iter().map(|family| (*family).to_owned()).collect()),
        ..ServiceSpec::default()
    };
    match access {
        Access::ClusterOnly => spec.type_ = Some("ClusterIP".to_owned()),
        Access::LoadBalancer {
            sources,
            class,
            external_traffic_policy,
        } => {
            spec.type_ = Some("LoadBalancer".to_owned());
            spec.load_balancer_source_ranges =
                (!sources.is_empty()).then(|| sources.iter().map(ToString::to_string).collect());
            spec.load_balancer_class.clone_from(class);
            spec.external_traffic_policy = external_traffic_policy.map(ToOwned::to_owned);
        }
    }
    Service {
        metadata: ObjectMeta {
            name: Some(identity.name.clone()),
            namespace: Some(identity.namespace.clone()),
            labels: Some(child_labels(identity)),
            annotations: (!annotations.is_empty()).then(|| annotations.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        ..Service::default()
    }
}
