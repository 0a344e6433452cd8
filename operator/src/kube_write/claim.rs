//! Claims: finalizer and claim annotation, set in one patch and taken away in one patch.
//!
//! A merge patch with the object's resourceVersion, and not server-side apply: a finalizer that somebody's YAML
//! names too would stay when the apply leaves it out.

use std::fmt::Debug;

use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{WriteError, Writer, limited};
use crate::constants::{FINALIZER, annotations, field_managers};

/// Puts finalizer and claim on the object, unless both are there. Returns the object as it is in etcd
/// then, or None when nothing had to be written.
pub async fn set_claim<K>(
    writer: &Writer,
    api: &Api<K>,
    object: &K,
    claim: &str,
) -> Result<Option<K>, WriteError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    match add(writer, api, object, claim).await {
        // The cache was behind; the object itself decides. Without it, or with another one of its name, the
        // conflict stands.
        Err(error) if error.code() == Some(409) => {
            let name = object.name_any();
            match limited("get", &K::kind(&()), &name, api.get_opt(&name)).await? {
                Some(fresh) if fresh.uid() == object.uid() && fresh.meta().deletion_timestamp.is_none() => {
                    add(writer, api, &fresh, claim).await
                }
                _ => Err(error),
            }
        }
        other => other,
    }
}

async fn add<K>(writer: &Writer, api: &Api<K>, object: &K, claim: &str) -> Result<Option<K>, WriteError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let held = object.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
    let claimed = object.annotations().get(annotations::CLAIM).map(String::as_str) == Some(claim);
    if held && claimed {
        return Ok(None);
    }
    let mut finalizers = object.finalizers().to_vec();
    if !held {
        finalizers.push(FINALIZER.to_owned());
    }
    patch(writer, api, object, &finalizers, &json!(claim))
        .await
        .map(Some)
}

/// Takes finalizer and claim away. `object` must be fresh. An object that is gone is a success.
pub async fn release<K>(writer: &Writer, api: &Api<K>, object: &K) -> Result<(), WriteError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let held = object.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
    if !held && !object.annotations().contains_key(annotations::CLAIM) {
        return Ok(());
    }
    let rest: Vec<String> = object
        .finalizers()
        .iter()
        .filter(|finalizer| *finalizer != FINALIZER)
        .cloned()
        .collect();
    match patch(writer, api, object, &rest, &Value::Null).await {
        Err(error) if error.code() == Some(404) => Ok(()),
        other => other.map(|_| ()),
    }
}

async fn patch<K>(
    writer: &Writer,
    api: &Api<K>,
    object: &K,
    finalizers: &[String],
    claim: &Value,
) -> Result<K, WriteError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let body = json!({
        "metadata": {
            // Both are preconditions: an object of the same name that was made anew, or an edit in between, is a 409.
            "uid": object.uid(),
            "resourceVersion": object.resource_version(),
            "finalizers": finalizers,
            "annotations": { annotations::CLAIM: claim },
        }
    });
    let parameters = PatchParams {
        field_manager: Some(field_managers::CLAIM.to_owned()),
        ..PatchParams::default()
    };
    let name = object.name_any();
    writer
        .write(
            "claim",
            &K::kind(&()),
            &name,
            api.patch(&name, &parameters, &Patch::Merge(&body)),
        )
        .await
}
