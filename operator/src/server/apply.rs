//! Step `apply`: children in a fixed order, then what is wanted no more. In: [`Desired`] and what is there; out:
//! [`Applied`], the children as they are now.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::ResourceExt;
use kube::api::ObjectMeta;
use rand::Rng as _;

use super::apply_extra;
use super::build::{Desired, Replicas, child_labels, names};
use super::door;
use super::load::Loaded;
use super::validate::{Identity, Valid};
use super::{Replaced, Written};
use crate::azure::probe_key::ProbeKeys;
use crate::constants::labels;
use crate::kube_write::{Ownership, WriteError, Writer, apply_child, create_once, delete_child, is_ours};

const KEY_BYTES: usize = 32;

/// The children after they were applied.
#[derive(Clone, Debug)]
pub struct Applied {
    /// None when there is none: the workload was refused before it ever ran.
    pub deployment: Option<Deployment>,
    pub service: Service,
}

/// Applies: the Secrets first, since pods that mount them would wait for them; the Service next, since a load balancer
/// takes the longest; then the Deployment.
pub async fn apply(
    writer: &Writer,
    valid: &Valid,
    keys: &ProbeKeys,
    desired: Desired,
    loaded: &Loaded,
    written: &mut Written,
) -> Result<Applied, WriteError> {
    let identity = &valid.identity;
    let ownership = ownership(identity);
    let Desired {
        replica_key,
        gateway_secret,
        deployment,
        service,
        extra_ports,
        monitor,
    } = desired;
    if gateway_secret {
        apply_gateway_secret(writer, valid, keys, loaded, &ownership).await?;
    }
    if replica_key == Some(true) {
        match &loaded.replica_key {
            Some(present) if !is_ours(&**present, &ownership) => {
                return Err(WriteError::NotOwned {
                    kind: "Secret".to_owned(),
                    namespace: identity.namespace.clone(),
                    name: names::replica_key(&identity.name),
                });
            }
            Some(_) => {}
            None => {
                create_once(writer, replica_key_secret(identity), &ownership).await?;
                written.replica_key = true;
            }
        }
    }
    // What keeps a Service from being made, such as a policy against load balancers, keeps no pods from running.
    let before = loaded.service.as_deref();
    let service = apply_child(writer, service, before, &ownership).await;
    // Somebody else's of our name is another matter: nothing of ours is to stand beside it.
    let service = match service {
        Err(error @ WriteError::NotOwned { .. }) => return Err(error),
        other => other,
    };
    written.service = service
        .as_ref()
        .ok()
        .and_then(|service| replaced(before, service));
    let before = loaded.deployment.as_deref();
    let deployment = match deployment {
        Some(deployment) => {
            let deployment = apply_child(writer, deployment, before, &ownership).await?;
            written.deployment = replaced(before, &deployment);
            apply_extra::apply(writer, identity, extra_ports, monitor, loaded, &ownership).await?;
            Some(deployment)
        }
        None => before.filter(|present| is_ours(*present, &ownership)).cloned(),
    };
    let service = service?;
    if replica_key == Some(false)
        && let Some(present) = &loaded.replica_key
        && is_ours(&**present, &ownership)
    {
        let secret = Secret {
            metadata: present.metadata.clone(),
            ..Secret::default()
        };
        delete_child(writer, &secret).await?;
    }
    if !gateway_secret
        && let Some(present) = &loaded.gateway_secret
        && is_ours(&**present, &ownership)
    {
        let secret = Secret {
            metadata: present.metadata.clone(),
            ..Secret::default()
        };
        delete_child(writer, &secret).await?;
    }
    Ok(Applied { deployment, service })
}

/// Its content is not in the cache: the label tells of it.
async fn apply_gateway_secret(
    writer: &Writer,
    valid: &Valid,
    keys: &ProbeKeys,
    loaded: &Loaded,
    ownership: &Ownership,
) -> Result<(), WriteError> {
    let present = loaded.gateway_secret.as_deref();
    if let Some(present) = present.filter(|present| !is_ours(*present, ownership)) {
        return Err(WriteError::NotOwned {
            kind: "Secret".to_owned(),
            namespace: valid.identity.namespace.clone(),
            name: present.name_any(),
        });
    }
    let Some(contents) = door::contents(valid, keys, present.map(ResourceExt::annotations)) else {
        return Ok(());
    };
    if present.is_some_and(|present| contents.is_told_by(present.annotations())) {
        return Ok(());
    }
    apply_child(writer, contents.secret(valid), None, ownership).await?;
    Ok(())
}

/// The version that a write has replaced, if there was a write.
fn replaced<K: ResourceExt>(before: Option<&K>, after: &K) -> Option<Replaced> {
    let before = before.and_then(ResourceExt::resource_version);
    (before != after.resource_version()).then_some(Replaced(before))
}

/// Who owns the children of a server.
pub fn ownership(identity: &Identity) -> Ownership {
    Ownership {
        controller: identity.controller.clone(),
        label: (labels::SERVER, identity.name.clone()),
    }
}

fn replica_key_secret(identity: &Identity) -> Secret {
    let mut key = [0; KEY_BYTES];
    rand::rng().fill(&mut key);
    Secret {
        metadata: ObjectMeta {
            name: Some(names::replica_key(&identity.name)),
            namespace: Some(identity.namespace.clone()),
            labels: Some(child_labels(identity)),
            ..ObjectMeta::default()
        },
        // As text: readers of key files trim what looks like a line end.
        data: Some(
            [(
                names::REPLICA_KEY_ENTRY.to_owned(),
                ByteString(STANDARD.encode(key).into_bytes()),
            )]
            .into(),
        ),
        ..Secret::default()
    }
}

/// Who says how many pods there are. An autoscaler that has scaled already owns the number; until then ours stays, since one that
/// nobody sends falls back to one.
pub fn replicas(loaded: &Loaded) -> Replicas {
    if !loaded.autoscaled {
        return Replicas::Ours;
    }
    let Some(deployment) = &loaded.deployment else {
        return Replicas::Ours;
    };
    let scaled = deployment
        .managed_fields()
        .iter()
        .any(|entry| entry.subresource.as_deref() == Some("scale"));
    let present = deployment.spec.as_ref().and_then(|spec| spec.replicas);
    Replicas::Autoscaled {
        present: present.filter(|_| !scaled),
    }
}
