//! Status: applied by its own field manager, and only when it says something new. In: the object and two statuses;
//! out: whether it was written.

use std::fmt::Debug;

use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{WriteError, Writer};
use crate::constants::field_managers;

/// Applies a status, unless `same`: equality ignoring time is the kind's to know. An object that is gone, or was
/// made anew under its name, is left alone.
pub async fn apply_status<K, S>(
    writer: &Writer,
    api: &Api<K>,
    object: &K,
    status: &S,
    same: bool,
) -> Result<bool, WriteError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    S: Serialize,
{
    if same {
        return Ok(false);
    }
    let name = object.name_any();
    let body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": name, "uid": object.uid() },
        "status": status,
    });
    let parameters = PatchParams::apply(field_managers::STATUS).force();
    let patch = Patch::Apply(&body);
    match writer
        .write(
            "status",
            &K::kind(&()),
            &name,
            api.patch_status(&name, &parameters, &patch),
        )
        .await
    {
        Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(false),
        other => other.map(|_| true),
    }
}
