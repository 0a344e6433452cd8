//! Part of step `verify`: the client for calls to a server, with the authority that signed its certificate. In: the spec's
//! `tls.ca`; out: a client.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use mcp_fleet_crds::{CaReference, Tls};

use super::error::VerifyError;
use crate::kube_write::limited;
use crate::mcp;
use crate::runtime::context::Context;

/// The client that all servers share, or one of its own for a server with its own authority.
pub async fn client(
    context: &Context,
    namespace: &str,
    tls: Option<&Tls>,
) -> Result<reqwest::Client, VerifyError> {
    let Some(ca) = tls.and_then(|tls| tls.ca.as_ref()) else {
        return Ok(context.server_http.clone());
    };
    let pem = read(context, namespace, ca).await?;
    let problem = |error: reqwest::Error| VerifyError::Authority {
        problem: format!(
            "entry {} of {} has no certificates as PEM: {error}",
            ca.key,
            name(ca)
        ),
    };
    let roots = reqwest::Certificate::from_pem_bundle(&pem).map_err(problem)?;
    mcp::http_client(roots, mcp::Role::Server).map_err(problem)
}

async fn read(context: &Context, namespace: &str, ca: &CaReference) -> Result<Vec<u8>, VerifyError> {
    let failed = |source| VerifyError::ReadAuthority { source };
    let client = context.writer.client.clone();
    let found = match (&ca.config_map_name, &ca.secret_name) {
        (Some(name), _) => {
            let api = Api::<ConfigMap>::namespaced(client, namespace);
            let object = limited("get", "ConfigMap", name, api.get_opt(name))
                .await
                .map_err(failed)?;
            object.and_then(|object| Some(object.data?.remove(&ca.key)?.into_bytes()))
        }
        (None, Some(name)) => {
            let api = Api::<Secret>::namespaced(client, namespace);
            let object = limited("get", "Secret", name, api.get_opt(name))
                .await
                .map_err(failed)?;
            object.and_then(|object| Some(object.data?.remove(&ca.key)?.0))
        }
        (None, None) => None,
    };
    found.ok_or_else(|| VerifyError::Authority {
        problem: format!("there is no {} with an entry {}: create it", name(ca), ca.key),
    })
}

fn name(ca: &CaReference) -> String {
    match (&ca.config_map_name, &ca.secret_name) {
        (Some(name), _) => format!("ConfigMap {name}"),
        (None, name) => format!("Secret {}", name.as_deref().unwrap_or_default()),
    }
}
