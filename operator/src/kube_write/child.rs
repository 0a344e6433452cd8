//! Children: server-side apply by one field manager. In: the wanted child and, from the cache, the present one. Out:
//! the child as it is now.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, OwnerReference};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::owned::owns;
use super::{WriteError, Writer, limited};
use crate::constants::{annotations, field_managers, labels};

/// Who owns a child: its controller, and a label that says the same.
#[derive(Clone, Debug)]
pub struct Ownership {
    pub controller: OwnerReference,
    /// Key and value, such as `mcpfleet.dev/server` and the server's name.
    pub label: (&'static str, String),
}

/// A kind that can be a child.
pub trait Child:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned
{
}
impl<K> Child for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
{
}

/// Whether a present object is ours: owner reference or, where an owner reference was stripped, our labels.
pub fn is_ours<K: Resource>(present: &K, ownership: &Ownership) -> bool {
    let owned = present
        .owner_references()
        .iter()
        .any(|reference| reference.uid == ownership.controller.uid);
    // A child whose controller is somebody else is theirs, whatever its labels say.
    let theirs = present
        .owner_references()
        .iter()
        .any(|reference| reference.controller == Some(true) && reference.uid != ownership.controller.uid);
    let (key, value) = &ownership.label;
    let labelled = present.labels().get(*key) == Some(value)
        && present.labels().get(labels::MANAGED_BY).map(String::as_str) == Some(labels::OPERATOR);
    owned || (labelled && !theirs)
}

/// Brings a child in line. `cached` is what the cache has; when it has nothing, the API server is asked, since an
/// object without our labels is not in the cache.
pub async fn apply_child<K: Child>(
    writer: &Writer,
    mut desired: K,
    cached: Option<&K>,
    ownership: &Ownership,
) -> Result<K, WriteError> {
    let kind = K::kind(&()).into_owned();
    let (name, namespace) = (desired.name_any(), desired.namespace().unwrap_or_default());
    desired.meta_mut().owner_references = Some(vec![ownership.controller.clone()]);
    let json = |source| WriteError::Json {
        kind: kind.clone(),
        name: name.clone(),
        source,
    };
    let digest = digest(&desired).map_err(json)?;
    desired
        .annotations_mut()
        .insert(annotations::APPLIED.to_owned(), digest.clone());
    let wanted = serde_json::to_value(&desired).map_err(json)?;

    let api = Api::<K>::namespaced(writer.client.clone(), &namespace);
    let fetched;
    let present = if cached.is_some() {
        cached
    } else {
        fetched = limited("get", &kind, &name, api.get_opt(&name)).await?;
        fetched.as_ref()
    };
    if let Some(present) = present {
        if !is_ours(present, ownership) {
            return Err(WriteError::NotOwned {
                kind,
                namespace,
                name,
            });
        }
        if is_applied(present, &wanted, &digest).map_err(json)? {
            return Ok(present.clone());
        }
    }
    let parameters = PatchParams::apply(field_managers::CHILDREN).force();
    let patch = Patch::Apply(&wanted);
    writer
        .write("apply", &kind, &name, api.patch(&name, &parameters, &patch))
        .await
}

/// Whether this is what was applied last, and nobody has taken any of it over since.
fn is_applied<K: Child>(present: &K, wanted: &Value, digest: &str) -> Result<bool, serde_json::Error> {
    let applied = present.annotations().get(annotations::APPLIED);
    let entry = present
        .managed_fields()
        .iter()
        .find(|entry| is_of_children(entry));
    let (true, Some(FieldsV1(fields))) = (
        applied.is_some_and(|applied| applied == digest),
        entry.and_then(|entry| entry.fields_v1.as_ref()),
    ) else {
        return Ok(false);
    };
    let present = serde_json::to_value(present)?;
    match fields {
        // As the caches keep it.
        Value::String(text) => Ok(owns(&serde_json::from_str(text)?, wanted, &present)),
        fields => Ok(owns(fields, wanted, &present)),
    }
}

/// Whether an entry of the managed fields tells what we have applied to a child.
pub fn is_of_children(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(field_managers::CHILDREN)
        && entry.operation.as_deref() == Some("Apply")
        && entry.subresource.is_none()
}

/// Makes a child that is never changed afterwards, such as a Secret with a random key.
pub async fn create_once<K: Child>(
    writer: &Writer,
    mut desired: K,
    ownership: &Ownership,
) -> Result<(), WriteError> {
    let kind = K::kind(&()).into_owned();
    let (name, namespace) = (desired.name_any(), desired.namespace().unwrap_or_default());
    desired.meta_mut().owner_references = Some(vec![ownership.controller.clone()]);
    let api = Api::<K>::namespaced(writer.client.clone(), &namespace);
    let parameters = PostParams {
        field_manager: Some(field_managers::CHILDREN.to_owned()),
        ..PostParams::default()
    };
    match writer
        .write("create", &kind, &name, api.create(&parameters, &desired))
        .await
    {
        Err(error) if error.code() == Some(409) => {
            let present = limited("get", &kind, &name, api.get_opt(&name)).await?;
            match present {
                Some(present) if !is_ours(&present, ownership) => Err(WriteError::NotOwned {
                    kind,
                    namespace,
                    name,
                }),
                _ => Ok(()),
            }
        }
        other => other.map(|_| ()),
    }
}

/// Deletes a child that is wanted no more, if it is still the one that was seen.
pub async fn delete_child<K: Child>(writer: &Writer, present: &K) -> Result<(), WriteError> {
    let kind = K::kind(&()).into_owned();
    let name = present.name_any();
    let api = Api::<K>::namespaced(writer.client.clone(), &present.namespace().unwrap_or_default());
    let parameters = DeleteParams {
        preconditions: Some(Preconditions {
            uid: present.uid(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match writer
        .write("delete", &kind, &name, api.delete(&name, &parameters))
        .await
    {
        Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(()),
        other => other.map(|_| ()),
    }
}

fn digest<K: Serialize>(desired: &K) -> Result<String, serde_json::Error> {
    // Maps of the API types are sorted, so equal objects have equal JSON.
    let mut digest = hex::encode(Sha256::digest(serde_json::to_vec(desired)?));
    digest.truncate(16);
    Ok(digest)
}
