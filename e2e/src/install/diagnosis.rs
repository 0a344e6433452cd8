//! What a person would look at when something did not come: conditions, warnings, pods and the ends of their logs.
//!
//! In: a cluster and namespaces. Out: a text for the error message.

use std::fmt::Write;

use anyhow::Result;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt};
use mcp_fleet_crds::{McpAccess, McpGateway, McpServer};

use super::examples::Ready;
use crate::cluster::Cluster;

const LOG_LINES: i64 = 25;

/// Adds to an error what is seen in the cluster.
pub async fn why<T>(result: Result<T>, cluster: &Cluster, namespaces: &[&str]) -> Result<T> {
    match result {
        Ok(answer) => Ok(answer),
        Err(error) => Err(error.context(diagnose(cluster, namespaces).await)),
    }
}

/// Everything worth a look. What cannot be read is left out: this is said beside an error that matters more.
pub async fn diagnose(cluster: &Cluster, namespaces: &[&str]) -> String {
    let mut text = String::from("what the cluster says:\n");
    let client = cluster.client();
    conditions(&mut text, &Api::<McpGateway>::all(client.clone())).await;
    for namespace in namespaces {
        conditions(
            &mut text,
            &Api::<McpServer>::namespaced(client.clone(), namespace),
        )
        .await;
        conditions(
            &mut text,
            &Api::<McpAccess>::namespaced(client.clone(), namespace),
        )
        .await;
        events(&mut text, &Api::namespaced(client.clone(), namespace)).await;
        pods(&mut text, &Api::namespaced(client.clone(), namespace)).await;
    }
    text
}

async fn conditions<K: Ready>(text: &mut String, api: &Api<K>) {
    for object in api
        .list(&ListParams::default())
        .await
        .map(|list| list.items)
        .unwrap_or_default()
    {
        let _ = writeln!(text, "{} {}", K::kind(&()), object.name_any());
        for condition in object.conditions() {
            let _ = writeln!(
                text,
                "  {}={} {}: {}",
                condition.type_, condition.status, condition.reason, condition.message
            );
        }
    }
}

async fn events(text: &mut String, api: &Api<Event>) {
    let warnings = ListParams::default().fields("type=Warning");
    for event in api
        .list(&warnings)
        .await
        .map(|list| list.items)
        .unwrap_or_default()
    {
        let about = event.involved_object;
        let _ = writeln!(
            text,
            "  warning {} {}: {} {}",
            about.kind.unwrap_or_default(),
            about.name.unwrap_or_default(),
            event.reason.unwrap_or_default(),
            event.message.unwrap_or_default()
        );
    }
}

async fn pods(text: &mut String, api: &Api<Pod>) {
    for pod in api
        .list(&ListParams::default())
        .await
        .map(|list| list.items)
        .unwrap_or_default()
    {
        let name = pod.name_any();
        let status = pod.status.unwrap_or_default();
        let containers = status.container_statuses.unwrap_or_default();
        let ready = !containers.is_empty() && containers.iter().all(|container| container.ready);
        let _ = writeln!(
            text,
            "  pod {}/{name}: {}{}",
            pod.metadata.namespace.unwrap_or_default(),
            status.phase.unwrap_or_default(),
            if ready { ", ready" } else { "" }
        );
        for container in containers.iter().filter(|container| !container.ready) {
            if let Some(state) = &container.state {
                let _ = writeln!(
                    text,
                    "    {}: {}",
                    container.name,
                    serde_json::to_string(state).unwrap_or_default()
                );
            }
        }
        let restarted = containers.iter().any(|container| container.restart_count > 0);
        let tail = LogParams {
            tail_lines: Some(LOG_LINES),
            previous: restarted,
            ..LogParams::default()
        };
        for line in api.logs(&name, &tail).await.unwrap_or_default().lines() {
            let _ = writeln!(text, "    | {line}");
        }
    }
}
