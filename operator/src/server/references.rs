//! Which ConfigMaps and Secrets the pods of a server refer to. In: the spec; out: their kinds and names. Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar};
use mcp_fleet_crds::{McpServerSpec, RestrictedVolume};

use crate::runtime::configs::{Kind, Reference};

/// Everything whose content reaches the containers. What pulls images does not.
pub fn references(spec: &McpServerSpec) -> BTreeSet<Reference> {
    let mut found = BTreeSet::new();
    from_env(&spec.env, &spec.env_from, &mut found);
    let template = spec.pod_template.clone().unwrap_or_default();
    let sidecars = template.sidecars.iter().map(|sidecar| &sidecar.container);
    for container in template.init_containers.iter().chain(sidecars) {
        from_env(&container.env, &container.env_from, &mut found);
    }
    for volume in &template.volumes {
        from_volume(volume, &mut found);
    }
    found
}

fn from_env(env: &[EnvVar], env_from: &[EnvFromSource], found: &mut BTreeSet<Reference>) {
    for source in env.iter().filter_map(|variable| variable.value_from.as_ref()) {
        let secret = source.secret_key_ref.as_ref().map(|key| &key.name);
        let config_map = source.config_map_key_ref.as_ref().map(|key| &key.name);
        add(secret, config_map, found);
    }
    for source in env_from {
        let secret = source.secret_ref.as_ref().map(|source| &source.name);
        let config_map = source.config_map_ref.as_ref().map(|source| &source.name);
        add(secret, config_map, found);
    }
}

fn from_volume(volume: &RestrictedVolume, found: &mut BTreeSet<Reference>) {
    let secret = volume
        .secret
        .as_ref()
        .and_then(|source| source.secret_name.as_ref());
    let config_map = volume.config_map.as_ref().map(|source| &source.name);
    add(secret, config_map, found);
    let projected = volume
        .projected
        .as_ref()
        .and_then(|source| source.sources.as_ref());
    for source in projected.into_iter().flatten() {
        let secret = source.secret.as_ref().map(|source| &source.name);
        let config_map = source.config_map.as_ref().map(|source| &source.name);
        add(secret, config_map, found);
    }
}

fn add(secret: Option<&String>, config_map: Option<&String>, found: &mut BTreeSet<Reference>) {
    found.extend(secret.map(|name| (Kind::Secret, name.clone())));
    found.extend(config_map.map(|name| (Kind::ConfigMap, name.clone())));
}
