//! Volumes that a pod of the restricted security level may use. A host path or an NFS share has no field here, so
//! the API server refuses it.

use k8s_openapi::api::core::v1::{
    CSIVolumeSource, ConfigMapVolumeSource, DownwardAPIVolumeSource, EmptyDirVolumeSource,
    EphemeralVolumeSource, PersistentVolumeClaimVolumeSource, ProjectedVolumeSource, SecretVolumeSource,
    Volume,
};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// A volume with exactly one source, of a kind that the restricted Pod Security Standard allows.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.configMap), has(self.secret), has(self.emptyDir), has(self.projected), has(self.persistentVolumeClaim), has(self.downwardAPI), has(self.ephemeral), has(self.csi)].exists_one(present, present)").message("a volume has exactly one source: configMap, secret, emptyDir, projected, persistentVolumeClaim, downwardAPI, ephemeral or csi"))]
pub struct RestrictedVolume {
    /// Name by which volumeMounts refer to it.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapVolumeSource>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretVolumeSource>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDirVolumeSource>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projected: Option<ProjectedVolumeSource>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<PersistentVolumeClaimVolumeSource>,
    #[serde(default, rename = "downwardAPI", skip_serializing_if = "Option::is_none")]
    pub downward_api: Option<DownwardAPIVolumeSource>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral: Option<EphemeralVolumeSource>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csi: Option<CSIVolumeSource>,
}

impl From<RestrictedVolume> for Volume {
    fn from(volume: RestrictedVolume) -> Self {
        let RestrictedVolume {
            name,
            config_map,
            secret,
            empty_dir,
            projected,
            persistent_volume_claim,
            downward_api,
            ephemeral,
            csi,
        } = volume;
        Self {
            name,
            config_map,
            secret,
            empty_dir,
            projected,
            persistent_volume_claim,
            downward_api,
            ephemeral,
            csi,
            ..Self::default()
        }
    }
}
