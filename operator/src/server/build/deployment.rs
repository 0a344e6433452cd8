//! The Deployment: pods of the restricted Pod Security Standard. In: [`Valid`]; out: a Deployment.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, EnvVarSource, HTTPGetAction,
    ObjectFieldSelector, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements,
    SeccompProfile, SecretVolumeSource, SecurityContext, TCPSocketAction, TopologySpreadConstraint, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;
use mcp_fleet_crds::PodTemplate;

use super::{child_labels, names, selector};
use crate::server::validate::{Health, Identity, Image, Workload};

const TMP: &str = "/tmp";
const WANTED_PEER_PORT: u16 = 8001;
const WANTED_METRICS_PORT: u16 = 9090;

/// Builds. With `autoscaled` the replicas are left to the autoscaler.
pub fn build(identity: &Identity, workload: &Workload, autoscaled: bool) -> Deployment {
    Deployment {
        metadata: ObjectMeta {
            name: Some(identity.name.clone()),
            namespace: Some(identity.namespace.clone()),
            labels: Some(child_labels(identity)),
            ..ObjectMeta::default()
        },
        spec: Some(DeploymentSpec {
            replicas: (!autoscaled).then_some(workload.replicas),
            selector: LabelSelector {
                match_labels: Some(selector(&identity.name)),
                ..LabelSelector::default()
            },
            // A new pod is there before an old one goes: agents see no gap.
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template: template(identity, workload),
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

fn template(identity: &Identity, workload: &Workload) -> PodTemplateSpec {
    let PodTemplate {
        labels,
        annotations,
        node_selector,
        tolerations,
        affinity,
        topology_spread_constraints,
        priority_class_name,
        volumes: _,
        volume_mounts: _,
    } = workload.pod.clone();
    let mut all_labels = labels;
    all_labels.extend(child_labels(identity));
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
            annotations: (!annotations.is_empty()).then_some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            containers: vec![container(workload)],
            volumes: Some(volumes(workload, &identity.name)),
            image_pull_secrets: some(workload.pull_secrets.clone()),
            service_account_name: workload.service_account_name.clone(),
            // A server that names an account of its own wants its token; nobody else gets one.
            automount_service_account_token: Some(workload.service_account_name.is_some()),
            enable_service_links: Some(false),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                seccomp_profile: Some(runtime_default()),
                ..PodSecurityContext::default()
            }),
            termination_grace_period_seconds: Some(30),
            node_selector: (!node_selector.is_empty()).then_some(node_selector),
            tolerations: some(tolerations),
            affinity,
            topology_spread_constraints: Some(spread),
            priority_class_name,
            ..PodSpec::default()
        }),
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

fn container(workload: &Workload) -> Container {
    let env = env(workload);
    let probes = probes(workload.health.as_ref(), live_port(workload, &env));
    Container {
        name: names::CONTAINER.to_owned(),
        image: Some(workload.image.reference().to_owned()),
        image_pull_policy: workload.pull_policy.clone(),
        command: some(workload.command.clone()),
        args: some(workload.args.clone()),
        env: some(env),
        env_from: some(workload.env_from.clone()),
        ports: Some(ports(workload)),
        resources: Some(workload.resources.clone().unwrap_or_else(default_resources)),
        startup_probe: Some(probes.startup),
        liveness_probe: Some(probes.liveness),
        readiness_probe: Some(probes.readiness),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Capabilities::default()
            }),
            seccomp_profile: Some(runtime_default()),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(mounts(workload)),
        ..Container::default()
    }
}

/// What the bundled image is told by us, then by who installed the operator, then by the user: the last one wins.
fn env(workload: &Workload) -> Vec<EnvVar> {
    let (ours, installed) = match &workload.image {
        Image::Own { .. } => (vec![], &[][..]),
        Image::Bundled {
            hosts,
            env,
            secret_header,
            ..
        } => {
            let value = |name: &str, value: String| EnvVar {
                name: name.to_owned(),
                value: Some(value),
                ..EnvVar::default()
            };
            let pod_ip = EnvVar {
                name: "POD_IP".to_owned(),
                value_from: Some(EnvVarSource {
                    field_ref: Some(ObjectFieldSelector {
                        field_path: "status.podIP".to_owned(),
                        ..ObjectFieldSelector::default()
                    }),
                    ..EnvVarSource::default()
                }),
                ..EnvVar::default()
            };
            let mut ours = vec![
                value("PORT", workload.port.to_string()),
                value("METRICS_PORT", metrics_port(workload).to_string()),
                value("PEER_PORT", peer_port(workload).to_string()),
                pod_ip,
                value(
                    "REPLICA_KEY_FILE",
                    format!("{}/{}", names::REPLICA_KEY_FOLDER, names::REPLICA_KEY_ENTRY),
                ),
                value("ALLOWED_HOSTS", hosts.join(",")),
            ];
            if let Some(header) = secret_header {
                let file = format!("{}/{}", names::GATEWAY_SECRET_FOLDER, names::GATEWAY_SECRET_ENTRY);
                ours.push(value("GATEWAY_SECRET_FILE", file));
                ours.push(value("GATEWAY_SECRET_HEADER", header.clone()));
            }
            (ours, env.as_slice())
        }
    };
    let mut env = ours;
    for later in [installed, &workload.env] {
        env.retain(|earlier| !later.iter().any(|variable| variable.name == earlier.name));
        env.extend(later.iter().cloned());
    }
    env
}

fn ports(workload: &Workload) -> Vec<ContainerPort> {
    let port = |name: &str, port: u16| ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(port),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    let mut ports = vec![port(names::PORT, workload.port)];
    if matches!(workload.image, Image::Bundled { .. }) {
        ports.push(port(names::PEER_PORT, peer_port(workload)));
        ports.push(port(names::METRICS_PORT, metrics_port(workload)));
    }
    ports
}

fn peer_port(workload: &Workload) -> u16 {
    if workload.port == WANTED_PEER_PORT {
        WANTED_PEER_PORT + 1
    } else {
        WANTED_PEER_PORT
    }
}

fn metrics_port(workload: &Workload) -> u16 {
    if workload.port == WANTED_METRICS_PORT {
        WANTED_METRICS_PORT + 1
    } else {
        WANTED_METRICS_PORT
    }
}

struct Probes {
    startup: Probe,
    liveness: Probe,
    readiness: Probe,
}

/// Where to ask whether the container lives. The bundled image answers on its metrics port too, where no crowd of clients can make
/// it look dead and have it restarted with all its streams; unless somebody has moved that port.
fn live_port(workload: &Workload, env: &[EnvVar]) -> &'static str {
    let wanted = metrics_port(workload).to_string();
    let answers = env
        .iter()
        .any(|variable| variable.name == "METRICS_PORT" && variable.value.as_ref() == Some(&wanted));
    match workload.image {
        Image::Bundled { .. } if answers => names::METRICS_PORT,
        _ => names::PORT,
    }
}

fn probes(health: Option<&Health>, live_port: &str) -> Probes {
    let live = probe(health.map(|health| health.live.as_str()), live_port);
    let ready = probe(health.map(|health| health.ready.as_str()), names::PORT);
    Probes {
        // A minute to start; polled often, so that a quick server is ready at once.
        startup: Probe {
            period_seconds: Some(1),
            failure_threshold: Some(60),
            ..live.clone()
        },
        liveness: Probe {
            period_seconds: Some(10),
            failure_threshold: Some(3),
            ..live
        },
        readiness: Probe {
            period_seconds: Some(5),
            failure_threshold: Some(2),
            ..ready
        },
    }
}

fn probe(path: Option<&str>, port: &str) -> Probe {
    let port = IntOrString::String(port.to_owned());
    let base = Probe {
        timeout_seconds: Some(2),
        ..Probe::default()
    };
    match path {
        Some(path) => Probe {
            http_get: Some(HTTPGetAction {
                path: Some(path.to_owned()),
                port,
                ..HTTPGetAction::default()
            }),
            ..base
        },
        None => Probe {
            tcp_socket: Some(TCPSocketAction {
                port,
                ..TCPSocketAction::default()
            }),
            ..base
        },
    }
}

fn volumes(workload: &Workload, name: &str) -> Vec<Volume> {
    let mut volumes = vec![];
    if mounts_tmp(workload) {
        volumes.push(Volume {
            name: names::TMP_VOLUME.to_owned(),
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..Volume::default()
        });
    }
    if matches!(workload.image, Image::Bundled { .. }) {
        volumes.push(Volume {
            name: names::REPLICA_KEY_VOLUME.to_owned(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(names::replica_key(name)),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        });
    }
    if workload.image.demands_secret() {
        volumes.push(Volume {
            name: names::GATEWAY_SECRET_VOLUME.to_owned(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(names::gateway_secret(name)),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        });
    }
    volumes.extend(workload.volumes.iter().cloned());
    volumes
}

fn mounts(workload: &Workload) -> Vec<VolumeMount> {
    let mut mounts = vec![];
    if mounts_tmp(workload) {
        mounts.push(VolumeMount {
            name: names::TMP_VOLUME.to_owned(),
            mount_path: TMP.to_owned(),
            ..VolumeMount::default()
        });
    }
    if matches!(workload.image, Image::Bundled { .. }) {
        mounts.push(VolumeMount {
            name: names::REPLICA_KEY_VOLUME.to_owned(),
            mount_path: names::REPLICA_KEY_FOLDER.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        });
    }
    if workload.image.demands_secret() {
        mounts.push(VolumeMount {
            name: names::GATEWAY_SECRET_VOLUME.to_owned(),
            mount_path: names::GATEWAY_SECRET_FOLDER.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        });
    }
    mounts.extend(workload.volume_mounts.iter().cloned());
    mounts
}

/// The root file system is read-only, so there is a /tmp, unless the user brings one.
fn mounts_tmp(workload: &Workload) -> bool {
    !workload
        .volume_mounts
        .iter()
        .any(|mount| mount.mount_path.trim_end_matches('/') == TMP)
}

fn default_resources() -> ResourceRequirements {
    let amounts = |memory: &str, cpu: &str| {
        Some(BTreeMap::from([
            ("cpu".to_owned(), Quantity(cpu.to_owned())),
            ("memory".to_owned(), Quantity(memory.to_owned())),
        ]))
    };
    ResourceRequirements {
        requests: amounts("64Mi", "250m"),
        limits: amounts("128Mi", "500m"),
        ..ResourceRequirements::default()
    }
}

fn runtime_default() -> SeccompProfile {
    SeccompProfile {
        type_: "RuntimeDefault".to_owned(),
        ..SeccompProfile::default()
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}
