//! Servers from apply to Ready. In: names. Out: seconds for each, as a watcher sees it.

use std::collections::HashMap;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::TryStreamExt;
use kube::api::{Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, watcher};
use kube::{Api, Client, ResourceExt};
use mcp_fleet_crds::McpServer;
use serde_json::{Value, json};

use crate::install::Ready;

/// As whoever applies by kubectl.
const FIELD_MANAGER: &str = "bench";

/// In the order of `names`.
pub async fn apply_and_wait(
    client: Client,
    namespace: &str,
    names: &[String],
    limit: Duration,
) -> Result<Vec<f64>> {
    let api = Api::<McpServer>::namespaced(client, namespace);
    let (watching, applying) = (watch(api.clone(), names, limit), apply(&api, names));
    let (ready, applied) = tokio::try_join!(watching, applying)?;
    names
        .iter()
        .map(|name| {
            let (ready, applied) = ready
                .get(name)
                .zip(applied.get(name))
                .context("a server was lost")?;
            Ok(ready.duration_since(*applied).as_secs_f64())
        })
        .collect()
}

async fn apply(api: &Api<McpServer>, names: &[String]) -> Result<HashMap<String, Instant>> {
    let mut applied = HashMap::new();
    for name in names {
        applied.insert(name.clone(), Instant::now());
        api.patch(
            name,
            &PatchParams::apply(FIELD_MANAGER),
            &Patch::Apply(server(name)),
        )
        .await
        .with_context(|| format!("failed to apply {name}"))?;
    }
    Ok(applied)
}

/// The bundled weather server, small enough that one node carries many: one replica that asks for little.
fn server(name: &str) -> Value {
    json!({
        "apiVersion": "mcpfleet.dev/v1alpha1",
        "kind": "McpServer",
        "metadata": {"name": name},
        "spec": {
            "replicas": 1,
            "resources": {
                "requests": {"cpu": "5m", "memory": "16Mi"},
                "limits": {"cpu": "500m", "memory": "128Mi"},
            },
        },
    })
}

async fn watch(api: Api<McpServer>, names: &[String], limit: Duration) -> Result<HashMap<String, Instant>> {
    let mut ready = HashMap::new();
    let mut missing = HashMap::new();
    let mut events = pin!(
        watcher(api, Config::default())
            .default_backoff()
            .applied_objects()
    );
    let watch = async {
        while let Some(server) = events.try_next().await? {
            let name = server.name_any();
            if !names.contains(&name) || ready.contains_key(&name) {
                continue;
            }
            if server.is_ready() {
                missing.remove(&name);
                ready.insert(name, Instant::now());
            } else {
                missing.insert(name, server.troubles());
            }
            if ready.len() == names.len() {
                return Ok(());
            }
        }
        bail!("the watch ended")
    };
    match tokio::time::timeout(limit, watch).await {
        Ok(result) => result.map(|()| ready),
        Err(_) => bail!(
            "not all servers are Ready after {} s: {missing:?}",
            limit.as_secs()
        ),
    }
}
