//! Are the cluster's definitions of our kinds as new as this operator? In: a client; out: the fields that they lack, told in the log and in
//! a metric.
//!
//! Helm leaves definitions behind when it upgrades a chart, and an API server drops, without a word, what a definition does not know: a
//! field that somebody writes by this version's documentation then does nothing. Read from the API server's own OpenAPI document, which
//! every service account may read, so no right on definitions is needed.

use std::collections::BTreeSet;
use std::time::Duration;

use kube::{Client, CustomResourceExt, Resource};
use mcp_fleet_crds::{McpAccess, McpGateway, McpServer};
use serde_json::Value;

use crate::constants::kinds;
use crate::runtime::metrics::Metrics;

/// Somebody may upgrade the definitions at any time; that is no hurry.
const EVERY: Duration = Duration::from_mins(30);
const LIMIT: Duration = Duration::from_secs(30);
const DOCUMENT: &str = "/openapi/v3/apis/mcpfleet.dev/v1alpha1";
/// Named in the log; the metric has their number.
const NAMED: usize = 10;

/// Looks now and then, for the life of the process.
pub async fn watch(client: Client, metrics: Metrics) {
    let mut said: Option<Vec<String>> = None;
    loop {
        match look(&client).await {
            Ok(found) => {
                for (kind, missing) in &found {
                    metrics.set_missing_fields(kind, missing.len());
                }
                let missing: Vec<String> = found
                    .into_iter()
                    .flat_map(|(kind, missing)| {
                        missing.into_iter().map(move |field| format!("{kind}.{field}"))
                    })
                    .collect();
                if said.as_ref() != Some(&missing) {
                    tell(&missing, said.is_some());
                    said = Some(missing);
                }
            }
            Err(error) => tracing::warn!(
                error,
                "failed to compare the definitions in the cluster with this version"
            ),
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn tell(missing: &[String], before: bool) {
    if !missing.is_empty() {
        let named = missing.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        let more = missing.len().saturating_sub(NAMED);
        tracing::error!(
            missing = missing.len(),
            "the definitions in the cluster are older than this operator: the API server drops {named}{}; upgrade the chart mcp-fleet-crds",
            if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            }
        );
    } else if before {
        tracing::info!("the definitions in the cluster are as new as this operator");
    }
}

type Missing = Vec<(&'static str, BTreeSet<String>)>;

async fn look(client: &Client) -> Result<Missing, String> {
    let request = http::Request::get(DOCUMENT)
        .body(vec![])
        .map_err(|error| error.to_string())?;
    let document = tokio::time::timeout(LIMIT, client.request::<Value>(request))
        .await
        .map_err(|_| format!("no answer from the API server for {DOCUMENT}"))?
        .map_err(|error| error.to_string())?;
    Ok(vec![
        (kinds::SERVER, compare::<McpServer>(&document)?),
        (kinds::GATEWAY, compare::<McpGateway>(&document)?),
        (kinds::ACCESS, compare::<McpAccess>(&document)?),
    ])
}

fn compare<K: CustomResourceExt + Resource<DynamicType = ()>>(
    document: &Value,
) -> Result<BTreeSet<String>, String> {
    let kind = K::kind(&());
    let theirs = &document["components"]["schemas"][format!("dev.mcpfleet.v1alpha1.{kind}")];
    let definition = serde_json::to_value(K::crd()).map_err(|error| error.to_string())?;
    let ours = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut missing = BTreeSet::new();
    for part in ["spec", "status"] {
        collect(
            &ours["properties"][part],
            &theirs["properties"][part],
            part,
            &mut missing,
        );
    }
    Ok(missing)
}

/// Adds the paths of properties that `ours` has and `theirs` has not; below one that is missing, no more.
fn collect(ours: &Value, theirs: &Value, path: &str, missing: &mut BTreeSet<String>) {
    if theirs["x-kubernetes-preserve-unknown-fields"] == true {
        return;
    }
    for (name, property) in ours["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        match theirs["properties"].get(name) {
            Some(their) => collect(property, their, &path, missing),
            None => {
                missing.insert(path);
            }
        }
    }
    for inner in ["items", "additionalProperties"] {
        if ours[inner].is_object() && theirs[inner].is_object() {
            collect(&ours[inner], &theirs[inner], path, missing);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(change: impl Fn(&mut Value)) -> Value {
        let mut definition = serde_json::to_value(McpServer::crd()).unwrap();
        let schema = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        change(schema);
        json!({"components": {"schemas": {"dev.mcpfleet.v1alpha1.McpServer": schema}}})
    }

    #[test]
    fn definitions_of_this_version_lack_nothing() {
        assert_eq!(compare::<McpServer>(&document(|_| {})), Ok(BTreeSet::new()));
    }

    #[test]
    fn what_older_definitions_lack_is_named_once() {
        let older = document(|schema| {
            let spec = schema["properties"]["spec"]["properties"]
                .as_object_mut()
                .unwrap();
            spec.remove("transports");
            spec["service"]["properties"]
                .as_object_mut()
                .unwrap()
                .remove("sources");
            schema["properties"]["status"]["properties"]["tools"]["items"]["properties"]
                .as_object_mut()
                .unwrap()
                .remove("digest");
        });
        let missing = compare::<McpServer>(&older).unwrap();
        let missing: Vec<&str> = missing.iter().map(String::as_str).collect();
        assert_eq!(
            missing,
            ["spec.service.sources", "spec.transports", "status.tools.digest"]
        );
    }

    #[test]
    fn a_newer_definition_lacks_nothing_either() {
        let newer = document(|schema| {
            schema["properties"]["spec"]["properties"]["future"] = json!({"type": "string"});
        });
        assert_eq!(compare::<McpServer>(&newer), Ok(BTreeSet::new()));
    }
}
