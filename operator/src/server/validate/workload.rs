//! What runs. In: the spec and the operator's settings; out: [`Workload`].

use k8s_openapi::api::core::v1::{
    EnvFromSource, EnvVar, LocalObjectReference, ResourceRequirements, Volume, VolumeMount,
};
use mcp_fleet_crds::{ImagePullPolicy, McpServer, PodTemplate};

use super::leave::Leave;
use crate::constants::labels;
use crate::runtime::context::Settings;
use crate::server::build::names;
use crate::server::error::InvalidServer;

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
    pub health: Option<Health>,
    /// Without volumes, which are below.
    pub pod: PodTemplate,
    pub volumes: Vec<Volume>,
    pub volume_mounts: Vec<VolumeMount>,
}

/// Annotations that choose, or switch off, a profile of AppArmor or seccomp.
const CONFINEMENT: [&str; 3] = [
    "container.apparmor.security.beta.kubernetes.io/",
    "container.seccomp.security.alpha.kubernetes.io/",
    "seccomp.security.alpha.kubernetes.io/",
];

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

/// HTTP health endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    pub live: String,
    pub ready: String,
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
    let health = spec.health.clone().or_else(|| bundled.then(Default::default));
    let mut pod = spec.pod_template.clone().unwrap_or_default();
    check_pod(&pod)?;
    let volumes = std::mem::take(&mut pod.volumes);
    let pull_policy = spec.image_pull_policy.map(|policy| match policy {
        ImagePullPolicy::Always => "Always".to_owned(),
        ImagePullPolicy::IfNotPresent => "IfNotPresent".to_owned(),
        ImagePullPolicy::Never => "Never".to_owned(),
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
        pull_policy: pull_policy.or_else(|| {
            spec.image
                .is_none()
                .then(|| settings.weather_image_pull_policy.clone())
        }),
        pull_secrets: spec.image_pull_secrets.clone(),
        command: spec.command.clone(),
        args: spec.args.clone(),
        env: spec.env.clone(),
        env_from: spec.env_from.clone(),
        port: u16::try_from(spec.port).map_err(|_| field("port", "must be between 1 and 65535"))?,
        replicas: spec.replicas,
        resources: spec.resources.clone(),
        service_account_name: spec.service_account_name.clone(),
        health: health.map(|health| Health {
            live: health.path,
            ready: health.ready_path,
        }),
        volume_mounts: std::mem::take(&mut pod.volume_mounts),
        volumes: volumes.into_iter().map(Volume::from).collect(),
        pod,
    })
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

fn field(field: &str, problem: &str) -> InvalidServer {
    InvalidServer::Field {
        field: field.to_owned(),
        problem: problem.to_owned(),
    }
}
