//! What runs. In: the spec and the operator's settings; out: [`Workload`].

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    EnvFromSource, EnvVar, LocalObjectReference, ResourceRequirements, Volume, VolumeMount,
};
use mcp_fleet_crds::{
    ImagePullPolicy, InitContainer, McpServer, Monitor, PodTemplate, Sidecar, Strategy, Tls,
};

use super::leave::Leave;
use crate::constants::labels;
use crate::runtime::context::Settings;
use crate::server::build::names;
use crate::server::error::InvalidServer;
use crate::server::load::Loaded;

use super::health::{Health, health};

/// As long as Kubernetes gives a pod by itself.
const GRACE_SECONDS: i64 = 30;
/// What kube-proxy and a cloud's load balancer usually need to learn that a pod takes no requests any more.
const PRE_STOP_SECONDS: i64 = 5;
/// Annotations that loosen a container's confinement in clusters that still read them.
const CONFINEMENT: [&str; 3] = [
    "container.apparmor.security.beta.kubernetes.io/",
    "container.seccomp.security.alpha.kubernetes.io/",
    "seccomp.security.alpha.kubernetes.io/",
];

/// The pods as they should be, but for what is the same for all servers.
#[derive(Clone, Debug)]
pub struct Workload {
    pub image: Image,
    pub pull_policy: Option<String>,
    pub pull_secrets: Vec<LocalObjectReference>,
    pub command: Vec<String>,
    pub args: Vec<String>,
    /// As the user gave it; it wins over what the bundled image gets.
    pub env: Vec<EnvVar>,
    pub env_from: Vec<EnvFromSource>,
    pub port: u16,
    pub replicas: i32,
    pub resources: Option<ResourceRequirements>,
    pub service_account_name: Option<String>,
    pub health: Health,
    pub strategy: Strategy,
    pub grace_seconds: i64,
    /// None where the container is told to end at once.
    pub pre_stop_seconds: Option<i64>,
    /// Name and number of the ports beside MCP's.
    pub extra_ports: Vec<(String, u16)>,
    pub monitor: Option<Monitor>,
    /// The container serves HTTPS.
    pub tls: Option<Tls>,
    /// Stands for the content of the ConfigMaps and Secrets that the pods refer to.
    pub config_digest: Option<String>,
    pub init_containers: Vec<InitContainer>,
    pub sidecars: Vec<Sidecar>,
    /// Without containers and volumes, which are apart.
    pub pod: PodTemplate,
    pub volumes: Vec<Volume>,
    pub volume_mounts: Vec<VolumeMount>,
}

impl Workload {
    pub fn https(&self) -> bool {
        self.tls.is_some()
    }
}

/// Whose image it is.
#[derive(Clone, Debug)]
pub enum Image {
    /// The weather server; it is told under which hosts it is called.
    Bundled {
        reference: String,
        hosts: Vec<String>,
        /// What the operator was told to give it.
        env: Vec<EnvVar>,
        /// In which header it demands the gateway's secret; None where it is in no gateway, or has a secret of its user's.
        secret_header: Option<String>,
    },
    Own {
        reference: String,
    },
}

impl Image {
    /// Whether whoever does not know the gateway's secret is refused by the image itself: then it does not matter from
    /// where it is reached. What another image does with the secret, only its user knows.
    pub fn demands_secret(&self) -> bool {
        matches!(
            self,
            Self::Bundled {
                secret_header: Some(_),
                ..
            }
        )
    }

    pub fn reference(&self) -> &str {
        match self {
            Self::Bundled { reference, .. } | Self::Own { reference } => reference,
        }
    }
}

/// Whether the image is the bundled one, perhaps in another version: then it gets what the bundled one gets.
pub fn is_bundled(server: &McpServer, settings: &Settings) -> bool {
    let repository = |image: &str| {
        let image = image.split('@').next().unwrap_or_default();
        // A colon before the last slash belongs to the registry's port.
        match image.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => repository.to_owned(),
            _ => image.to_owned(),
        }
    };
    let given = server.spec.image.as_deref();
    given.is_none_or(|image| repository(image) == repository(&settings.weather_image))
}

/// Validates.
pub fn workload(
    server: &McpServer,
    loaded: &Loaded,
    settings: &Settings,
    hosts: Vec<String>,
    secret_header: Option<String>,
    leave: &Leave,
) -> Result<Workload, InvalidServer> {
    let spec = &server.spec;
    // Exactly the one that the platform installed: another tag of it is somebody else's choice.
    if let Some(image) = spec
        .image
        .as_ref()
        .filter(|image| **image != settings.weather_image)
    {
        leave.image(image)?;
    }
    if let Some(account) = &spec.service_account_name {
        leave.service_account(account)?;
    }
    let bundled = is_bundled(server, settings);
    let mut pod = spec.pod_template.clone().unwrap_or_default();
    let port = u16::try_from(spec.port).map_err(|_| field("port", "must be between 1 and 65535"))?;
    let extra_ports: Vec<(String, u16)> = spec
        .extra_ports
        .iter()
        .filter_map(|extra| Some((extra.name.clone(), u16::try_from(extra.port).ok()?)))
        .collect();
    check_pod(&pod)?;
    let sidecars = pod.sidecars.iter().map(|sidecar| &sidecar.container);
    for container in pod.init_containers.iter().chain(sidecars) {
        leave.image(&container.image)?;
    }
    check_containers(&pod)?;
    check_ports(port, bundled, &extra_ports, &pod)?;
    let strategy = spec.strategy.unwrap_or_else(|| strategy(&pod, loaded));
    let volumes = std::mem::take(&mut pod.volumes);
    let grace_seconds = spec.termination_grace_period_seconds.unwrap_or(GRACE_SECONDS);
    let pre_stop = spec.pre_stop_seconds.unwrap_or(if bundled {
        0
    } else {
        PRE_STOP_SECONDS.min(grace_seconds - 1)
    });
    Ok(Workload {
        image: match spec.image.clone() {
            Some(reference) if !bundled => Image::Own { reference },
            given => Image::Bundled {
                reference: given.unwrap_or_else(|| settings.weather_image.clone()),
                hosts,
                env: settings.weather_env.clone(),
                secret_header,
            },
        },
        pull_policy: spec.image_pull_policy.map(pull_policy).or_else(|| {
            spec.image
                .is_none()
                .then(|| settings.weather_image_pull_policy.clone())
        }),
        pull_secrets: spec.image_pull_secrets.clone(),
        command: spec.command.clone(),
        args: spec.args.clone(),
        env: spec.env.clone(),
        env_from: spec.env_from.clone(),
        port,
        replicas: spec.replicas,
        resources: spec.resources.clone(),
        service_account_name: spec.service_account_name.clone(),
        health: health(spec.health.as_ref(), bundled)?,
        strategy,
        grace_seconds,
        pre_stop_seconds: (pre_stop > 0).then_some(pre_stop),
        extra_ports,
        monitor: spec.monitor.clone(),
        tls: spec.tls.clone(),
        config_digest: loaded.config_digest.clone(),
        init_containers: std::mem::take(&mut pod.init_containers),
        sidecars: std::mem::take(&mut pod.sidecars),
        volume_mounts: std::mem::take(&mut pod.volume_mounts),
        volumes: volumes.into_iter().map(Volume::from).collect(),
        pod,
    })
}

/// Kubernetes' word for a pull policy.
pub fn pull_policy(policy: ImagePullPolicy) -> String {
    match policy {
        ImagePullPolicy::Always => "Always".to_owned(),
        ImagePullPolicy::IfNotPresent => "IfNotPresent".to_owned(),
        ImagePullPolicy::Never => "Never".to_owned(),
    }
}

/// Recreate where a volume can be used on one node only: a new pod on another node would wait for it for ever. A claim that
/// is not there yet is taken for such a one; a strategy is changed without replacing pods.
fn strategy(pod: &PodTemplate, loaded: &Loaded) -> Strategy {
    let shared = |claim: &str| {
        loaded.access_modes.get(claim).is_some_and(|modes| {
            modes
                .iter()
                .any(|mode| mode == "ReadWriteMany" || mode == "ReadOnlyMany")
        })
    };
    let mut claims = pod
        .volumes
        .iter()
        .filter_map(|volume| volume.persistent_volume_claim.as_ref());
    if claims.all(|claim| shared(&claim.claim_name)) {
        Strategy::RollingUpdate
    } else {
        Strategy::Recreate
    }
}

/// Names are unlike each other, and every mount has its volume.
fn check_containers(pod: &PodTemplate) -> Result<(), InvalidServer> {
    let sidecars = pod.sidecars.iter().map(|sidecar| &sidecar.container);
    let all = pod
        .init_containers
        .iter()
        .map(|container| ("initContainers", container))
        .chain(sidecars.map(|container| ("sidecars", container)));
    let mut names = vec![names::CONTAINER];
    for (list, container) in all {
        let name = container.name.as_str();
        if names.contains(&name) {
            let problem = format!("two containers are named {name}: rename one");
            return Err(field(&format!("podTemplate.{list}"), &problem));
        }
        names.push(name);
        let unknown = container
            .volume_mounts
            .iter()
            .find(|mount| !pod.volumes.iter().any(|volume| volume.name == mount.name));
        if let Some(mount) = unknown {
            let problem = format!(
                "volumeMounts of {name} names {}, which is no volume of podTemplate.volumes",
                mount.name
            );
            return Err(field(&format!("podTemplate.{list}"), &problem));
        }
    }
    Ok(())
}

/// All ports of the pod are unlike each other, by name and by number.
fn check_ports(
    port: u16,
    bundled: bool,
    extra: &[(String, u16)],
    pod: &PodTemplate,
) -> Result<(), InvalidServer> {
    let mut taken = BTreeMap::from([(names::PORT.to_owned(), port)]);
    if bundled {
        taken.extend(names::bundled_ports(port).map(|(name, port)| (name.to_owned(), port)));
    }
    let of_sidecars = pod.sidecars.iter().flat_map(|sidecar| &sidecar.ports);
    let of_sidecars =
        of_sidecars.filter_map(|port| Some((port.name.clone(), u16::try_from(port.port).ok()?)));
    let extra = extra.iter().cloned().map(|port| ("extraPorts", port));
    for (list, (name, port)) in extra.chain(of_sidecars.map(|port| ("podTemplate.sidecars", port))) {
        let problem = if taken.contains_key(&name) {
            format!("the port name {name} is taken in this pod: rename it")
        } else if taken.values().any(|other| *other == port) {
            format!("port {port} is taken in this pod: choose another number")
        } else {
            taken.insert(name, port);
            continue;
        };
        return Err(field(list, &problem));
    }
    Ok(())
}

fn check_pod(pod: &PodTemplate) -> Result<(), InvalidServer> {
    for (what, keys) in [("labels", &pod.labels), ("annotations", &pod.annotations)] {
        let reserved = keys
            .keys()
            .find(|key| labels::RESERVED.iter().any(|prefix| key.starts_with(prefix)));
        if let Some(key) = reserved {
            return Err(field(
                &format!("podTemplate.{what}"),
                &format!("{key} is the operator's: remove it"),
            ));
        }
    }
    let confining = pod
        .annotations
        .keys()
        .find(|key| CONFINEMENT.iter().any(|prefix| key.starts_with(prefix)));
    if let Some(key) = confining {
        return Err(field(
            "podTemplate.annotations",
            &format!("{key} would take the confinement from the pods: remove it"),
        ));
    }
    let taken = pod
        .volumes
        .iter()
        .find(|volume| names::VOLUMES.contains(&volume.name.as_str()));
    if let Some(volume) = taken {
        return Err(field(
            "podTemplate.volumes",
            &format!("the name {} is the operator's: rename it", volume.name),
        ));
    }
    Ok(())
}

pub(super) fn field(field: &str, problem: &str) -> InvalidServer {
    InvalidServer::Field {
        field: field.to_owned(),
        problem: problem.to_owned(),
    }
}
