//! The Deployment: pods of the restricted Pod Security Standard. In: `Valid`; out: a Deployment.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{PodSecurityContext, PodSpec, PodTemplateSpec, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;
use mcp_fleet_crds::{DnsPolicy, PodSecurity, PodTemplate, Strategy};

use super::{Replicas, child_labels, containers, selector, some, volumes};
use crate::constants::annotations;
use crate::server::validate::{Identity, Workload};

/// Builds.
pub fn build(identity: &Identity, workload: &Workload, replicas: Replicas) -> Deployment {
    Deployment {
        metadata: ObjectMeta {
            name: Some(identity.name.clone()),
            namespace: Some(identity.namespace.clone()),
            labels: Some(child_labels(identity)),
            ..ObjectMeta::default()
        },
        spec: Some(DeploymentSpec {
            replicas: match replicas {
                Replicas::Ours => Some(workload.replicas),
                Replicas::Autoscaled { present } => present,
            },
            selector: LabelSelector {
                match_labels: Some(selector(&identity.name)),
                ..LabelSelector::default()
            },
            strategy: Some(strategy(workload.strategy)),
            template: template(identity, workload),
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

fn strategy(strategy: Strategy) -> DeploymentStrategy {
    match strategy {
        Strategy::Recreate => DeploymentStrategy {
            type_: Some("Recreate".to_owned()),
            rolling_update: None,
        },
        // A new pod is there before an old one goes: agents see no gap.
        Strategy::RollingUpdate => DeploymentStrategy {
            type_: Some("RollingUpdate".to_owned()),
            rolling_update: Some(RollingUpdateDeployment {
                max_surge: Some(IntOrString::Int(1)),
                max_unavailable: Some(IntOrString::Int(0)),
            }),
        },
    }
}

fn template(identity: &Identity, workload: &Workload) -> PodTemplateSpec {
    let PodTemplate {
        labels,
        annotations: mut all_annotations,
        security_context,
        init_containers: _,
        sidecars: _,
        node_selector,
        tolerations,
        affinity,
        topology_spread_constraints,
        priority_class_name,
        runtime_class_name,
        host_aliases,
        dns_policy,
        dns_config,
        automount_service_account_token,
        volumes: _,
        volume_mounts: _,
    } = workload.pod.clone();
    let mut all_labels = labels;
    all_labels.extend(child_labels(identity));
    if let Some(digest) = &workload.config_digest {
        all_annotations.insert(annotations::CONFIG.to_owned(), digest.clone());
    }
    let spread = if topology_spread_constraints.is_empty() {
        vec![
            spread("kubernetes.io/hostname", &identity.name),
            spread("topology.kubernetes.io/zone", &identity.name),
        ]
    } else {
        topology_spread_constraints
    };
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(all_labels),
            annotations: (!all_annotations.is_empty()).then_some(all_annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            init_containers: some(containers::others(workload)),
            containers: vec![containers::server(workload)],
            volumes: some(volumes::volumes(workload, &identity.name)),
            image_pull_secrets: some(workload.pull_secrets.clone()),
            service_account_name: workload.service_account_name.clone(),
            // A server that names an account of its own wants its token; nobody else gets one.
            automount_service_account_token: Some(
                automount_service_account_token.unwrap_or(workload.service_account_name.is_some()),
            ),
            enable_service_links: Some(false),
            security_context: Some(security(security_context.unwrap_or_default())),
            termination_grace_period_seconds: Some(workload.grace_seconds),
            node_selector: (!node_selector.is_empty()).then_some(node_selector),
            tolerations: some(tolerations),
            affinity,
            topology_spread_constraints: Some(spread),
            priority_class_name,
            runtime_class_name,
            host_aliases: some(host_aliases),
            dns_policy: dns_policy.map(|policy| {
                match policy {
                    DnsPolicy::ClusterFirst => "ClusterFirst",
                    DnsPolicy::Default => "Default",
                    DnsPolicy::None => "None",
                }
                .to_owned()
            }),
            dns_config,
            ..PodSpec::default()
        }),
    }
}

fn security(given: PodSecurity) -> PodSecurityContext {
    let PodSecurity {
        run_as_user,
        run_as_group,
        fs_group,
        supplemental_groups,
    } = given;
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user,
        run_as_group,
        fs_group,
        // A volume with many files is gone through once, and not with every pod.
        fs_group_change_policy: fs_group.map(|_| "OnRootMismatch".to_owned()),
        supplemental_groups: some(supplemental_groups),
        seccomp_profile: Some(containers::runtime_default()),
        ..PodSecurityContext::default()
    }
}

fn spread(topology_key: &str, name: &str) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: topology_key.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(LabelSelector {
            match_labels: Some(selector(name)),
            ..LabelSelector::default()
        }),
        ..TopologySpreadConstraint::default()
    }
}
