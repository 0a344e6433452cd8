//! The containers of a pod, each as the restricted Pod Security Standard wants it. In: the workload; out: the server's
//! container, and those that run before and beside it. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, Lifecycle, LifecycleHandler, ResourceRequirements,
    SeccompProfile, SecurityContext, SleepAction,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use mcp_fleet_crds::{InitContainer, Sidecar};

use super::{env, names, probes, some, volumes};
use crate::server::validate::{Image, Workload, pull_policy};

/// The server's container.
pub fn server(workload: &Workload) -> Container {
    let env = env::build(workload);
    let probes = probes::build(&workload.health, live_port(workload, &env), workload.https());
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
        startup_probe: probes.startup,
        liveness_probe: probes.liveness,
        readiness_probe: probes.readiness,
        lifecycle: workload.pre_stop_seconds.map(|seconds| Lifecycle {
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction { seconds }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        security_context: Some(restricted()),
        volume_mounts: Some(volumes::mounts(workload)),
        ..Container::default()
    }
}

/// What runs before the server, and then what runs beside it: as Kubernetes' native sidecars, which start before the server's
/// container and end after it, and do not keep a pod from ending.
pub fn others(workload: &Workload) -> Vec<Container> {
    let init = workload.init_containers.iter().map(other);
    let sidecars = workload
        .sidecars
        .iter()
        .map(|Sidecar { container, ports }| Container {
            restart_policy: Some("Always".to_owned()),
            ports: some(
                ports
                    .iter()
                    .map(|port| container_port(&port.name, port.port))
                    .collect(),
            ),
            ..other(container)
        });
    init.chain(sidecars).collect()
}

fn other(container: &InitContainer) -> Container {
    let InitContainer {
        name,
        image,
        image_pull_policy,
        command,
        args,
        env,
        env_from,
        resources,
        volume_mounts,
    } = container.clone();
    Container {
        name,
        image: Some(image),
        image_pull_policy: image_pull_policy.map(pull_policy),
        command: some(command),
        args: some(args),
        env: some(env),
        env_from: some(env_from),
        resources,
        volume_mounts: some(volume_mounts),
        security_context: Some(restricted()),
        ..Container::default()
    }
}

fn ports(workload: &Workload) -> Vec<ContainerPort> {
    let mut ports = vec![container_port(names::PORT, i32::from(workload.port))];
    if matches!(workload.image, Image::Bundled { .. }) {
        let beside = names::bundled_ports(workload.port);
        ports.extend(beside.map(|(name, port)| container_port(name, i32::from(port))));
    }
    let extra = workload.extra_ports.iter();
    ports.extend(extra.map(|(name, port)| container_port(name, i32::from(*port))));
    ports
}

fn container_port(name: &str, port: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: port,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

/// Where to ask whether the container lives. The bundled image answers on its metrics port too, where no crowd of clients can make
/// it look dead and have it restarted with all its streams; unless somebody has moved that port.
fn live_port(workload: &Workload, env: &[EnvVar]) -> &'static str {
    let [_, (_, metrics)] = names::bundled_ports(workload.port);
    let wanted = metrics.to_string();
    let answers = env
        .iter()
        .any(|variable| variable.name == "METRICS_PORT" && variable.value.as_ref() == Some(&wanted));
    match workload.image {
        Image::Bundled { .. } if answers => names::METRICS_PORT,
        _ => names::PORT,
    }
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

fn restricted() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            ..Capabilities::default()
        }),
        seccomp_profile: Some(runtime_default()),
        ..SecurityContext::default()
    }
}

pub fn runtime_default() -> SeccompProfile {
    SeccompProfile {
        type_: "RuntimeDefault".to_owned(),
        ..SeccompProfile::default()
    }
}
