//! Part of step `apply`: the Service with further ports, and the ServiceMonitor that reads them. In: what is wanted and what is
//! there; out: nothing.

use k8s_openapi::api::core::v1::Service;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use super::build::monitor::ServiceMonitor;
use super::load::Loaded;
use super::validate::Identity;
use crate::constants::annotations;
use crate::kube_write::{Ownership, WriteError, Writer, apply_child, delete_child, is_ours, limited};

/// Applies, and takes away what is wanted no more: the monitor before the Service that tells of it.
pub async fn apply(
    writer: &Writer,
    identity: &Identity,
    extra_ports: Option<Service>,
    monitor: Option<ServiceMonitor>,
    loaded: &Loaded,
    ownership: &Ownership,
) -> Result<(), WriteError> {
    let present = loaded.extra_ports.as_deref();
    let told = |service: &Service| service.annotations().contains_key(annotations::MONITOR);
    if monitor.is_none() && present.is_some_and(told) {
        remove_monitor(writer, identity, ownership).await?;
    }
    match (extra_ports, present) {
        (Some(wanted), _) => drop(apply_child(writer, wanted, present, ownership).await?),
        (None, Some(present)) if is_ours(present, ownership) => delete_child(writer, present).await?,
        (None, _) => {}
    }
    let Some(monitor) = monitor else { return Ok(()) };
    match monitors(writer, identity).await? {
        Found::NoSuchKind => {
            tracing::debug!("no ServiceMonitor: its definition is not installed");
            Ok(())
        }
        Found::Here(present) => apply_child(writer, monitor, present.as_deref(), ownership)
            .await
            .map(drop),
    }
}

enum Found {
    /// The Prometheus operator is not installed.
    NoSuchKind,
    Here(Option<Box<ServiceMonitor>>),
}

/// A list and not a get: its 404 is that of the kind.
async fn monitors(writer: &Writer, identity: &Identity) -> Result<Found, WriteError> {
    let api = Api::<ServiceMonitor>::namespaced(writer.client.clone(), &identity.namespace);
    let parameters = ListParams::default().fields(&format!("metadata.name={}", identity.name));
    match limited("list", "ServiceMonitor", &identity.name, api.list(&parameters)).await {
        Ok(list) => {
            let mut items = list.items.into_iter();
            let present = items.find(|item| item.name_any() == identity.name);
            Ok(Found::Here(present.map(Box::new)))
        }
        Err(error) if error.code() == Some(404) => Ok(Found::NoSuchKind),
        Err(error) => Err(error),
    }
}

async fn remove_monitor(
    writer: &Writer,
    identity: &Identity,
    ownership: &Ownership,
) -> Result<(), WriteError> {
    match monitors(writer, identity).await? {
        Found::Here(Some(present)) if is_ours(&*present, ownership) => delete_child(writer, &*present).await,
        _ => Ok(()),
    }
}
