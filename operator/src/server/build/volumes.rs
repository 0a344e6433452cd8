//! Volumes of a pod and where the server's container sees them. In: the workload; out: ours and the user's. Pure.

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, SecretVolumeSource, Volume, VolumeMount};

use super::names;
use crate::server::validate::{Image, Workload};

const TMP: &str = "/tmp";

/// Volumes of the pod.
pub fn volumes(workload: &Workload, name: &str) -> Vec<Volume> {
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

/// Where the server's container sees them.
pub fn mounts(workload: &Workload) -> Vec<VolumeMount> {
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
