//! Step `build`: the registration and the Secret. In: what `validate` found, and the key; out: what should be. Pure.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};
use mcp_fleet_crds::McpAccess;
use sha2::{Digest as _, Sha256};

use super::claim;
use super::load::Loaded;
use super::validate::{self, Gateway, Grant, Validated};
use crate::azure::apim::{AccessRegistration, KeySlot, Owner, SecretString};
use crate::constants::{annotations, labels};
use crate::kube_write::Ownership;

/// Base URL of the gateway.
const ENDPOINT: &str = "APIM_ENDPOINT";
/// The key.
pub(super) const KEY: &str = "APIM_SUBSCRIPTION_KEY";
/// All entries as lines, for tools that read such a file.
pub(super) const DOTENV: &str = ".env";

/// After a server's name: where its key goes.
const KEY_HEADER: &str = "_KEY_HEADER";

const PRIMARY: &str = "Primary";
pub(super) const SECONDARY: &str = "Secondary";

pub(super) fn owner(cluster_id: &str, access: &McpAccess) -> Owner {
    Owner {
        cluster_id: cluster_id.to_owned(),
        namespace: access.namespace().unwrap_or_default(),
        name: access.name_any(),
        uid: access.uid().unwrap_or_default(),
    }
}

pub(super) fn registration(
    access: &McpAccess,
    loaded: &Loaded,
    validated: &Validated,
    gateway: &Gateway,
) -> AccessRegistration {
    let cluster_id = &gateway.object.spec.cluster_id;
    let (namespace, name) = (access.namespace().unwrap_or_default(), access.name_any());
    AccessRegistration {
        owner: owner(cluster_id, access),
        ids: claim::ids(cluster_id, access),
        display_name: format!("{cluster_id}/{namespace}/{name}"),
        description: Some(format!(
            "MCP servers for {namespace}/{name} of cluster {cluster_id}."
        )),
        apis: validated.grants.iter().map(|grant| grant.api.clone()).collect(),
        kept: validate::kept(access, loaded, &gateway.object),
    }
}

pub(super) fn secret_name(access: &McpAccess) -> String {
    access
        .spec
        .secret_name
        .clone()
        .unwrap_or_else(|| format!("{}-mcp", access.name_any()))
}

/// Who owns the Secret.
pub(super) fn ownership(access: &McpAccess) -> Ownership {
    Ownership {
        controller: OwnerReference {
            api_version: McpAccess::api_version(&()).into_owned(),
            kind: McpAccess::kind(&()).into_owned(),
            name: access.name_any(),
            uid: access.uid().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        },
        label: (labels::ACCESS, access.name_any()),
    }
}

/// The Secret, with the key, which of the two keys that is, and the ETag of the subscription that has it.
pub(super) fn secret(
    access: &McpAccess,
    endpoint: &str,
    grants: &[Grant],
    (key, slot, etag): (&SecretString, KeySlot, Option<&str>),
) -> Secret {
    let mut entries = BTreeMap::from([
        (ENDPOINT.to_owned(), endpoint.to_owned()),
        (KEY.to_owned(), key.expose().to_owned()),
    ]);
    entries.extend(variables(grants));
    let lines: Vec<String> = entries
        .iter()
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect();
    entries.insert(DOTENV.to_owned(), lines.concat());
    let labels = [
        (labels::MANAGED_BY, labels::OPERATOR.to_owned()),
        (labels::COMPONENT, "access".to_owned()),
        (labels::ACCESS, access.name_any()),
    ];
    let slot = match slot {
        KeySlot::Primary => PRIMARY,
        KeySlot::Secondary => SECONDARY,
    };
    let notes = [(annotations::KEY, Some(slot)), (annotations::KEY_ETAG, etag)];
    let notes = notes
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())));
    Secret {
        metadata: ObjectMeta {
            annotations: Some(notes.collect()),
            name: Some(secret_name(access)),
            namespace: access.namespace(),
            labels: Some(
                labels
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect(),
            ),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(
            entries
                .into_iter()
                .map(|(name, value)| (name, ByteString(value.into_bytes())))
                .collect(),
        ),
        ..Secret::default()
    }
}

/// `<NAMESPACE>_<NAME>_URL` for each server. Where two would share a name (`a-b`/`c` and `a`/`b-c`), each gets eight
/// characters that tell it apart, so that neither depends on the order of the spec.
fn variables(grants: &[Grant]) -> BTreeMap<String, String> {
    let names: Vec<String> = grants
        .iter()
        .map(|grant| variable(&grant.namespace, &grant.name, ""))
        .collect();
    let entries = grants.iter().zip(&names).flat_map(|(grant, name)| {
        let shared = names.iter().filter(|other| *other == name).count() > 1;
        let name = if shared {
            let digest = Sha256::digest(format!("{}/{}", grant.namespace, grant.name));
            variable(
                &grant.namespace,
                &grant.name,
                &format!("_{}", &hex::encode(digest)[..8]),
            )
        } else {
            name.clone()
        };
        let header = grant.key_header.clone();
        let header = header.map(|header| (format!("{name}{KEY_HEADER}"), header));
        [Some((format!("{name}_URL"), grant.url.clone())), header]
    });
    entries.flatten().collect()
}

fn variable(namespace: &str, name: &str, suffix: &str) -> String {
    let text: String = format!("{namespace}_{name}{suffix}")
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect();
    // A shell's variable cannot begin with a digit; a namespace can.
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        format!("_{text}")
    } else {
        text
    }
}
