//! JSON Schemas for kubeconform, which else fetches them from the network. Used by `.ci/run charts`.
//!
//! In: a folder to write to; the OpenAPI document inside the Go module that the local cluster is built from; our own
//! definitions. Out: a file per kind, `<kind>-<first part of the group>-<version>.json`, with unknown fields refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

const KUBERNETES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster/kubernetes");
/// Definitions that the others refer to.
const SHARED: &str = "_definitions.json";

fn main() -> Result<()> {
    let folder = std::env::args_os()
        .nth(1)
        .context("the folder to write to is missing")?;
    let folder = PathBuf::from(folder);
    fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let written = write_kubernetes(&folder)? + write_own(&folder)?;
    println!("{written} schemas in {}", folder.display());
    Ok(())
}

fn write_kubernetes(folder: &Path) -> Result<usize> {
    let path = module_folder()?.join("api/openapi-spec/swagger.json");
    let text = fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
    let mut document: Value = serde_json::from_slice(&text)?;
    let mut definitions = document["definitions"].take();
    let definitions = definitions
        .as_object_mut()
        .context("the OpenAPI document has no definitions")?;

    let mut kinds = Vec::new();
    for (name, definition) in definitions.iter_mut() {
        close(definition);
        loosen(name, definition);
        for kind in definition["x-kubernetes-group-version-kind"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let part = |key: &str| kind[key].as_str().unwrap_or_default().to_owned();
            kinds.push((
                file_name(&part("group"), &part("version"), &part("kind")),
                name.clone(),
            ));
        }
    }
    write(&folder.join(SHARED), &json!({ "definitions": definitions }))?;
    for (file, name) in &kinds {
        write(
            &folder.join(file),
            &json!({ "$ref": format!("{SHARED}#/definitions/{name}") }),
        )?;
    }
    Ok(kinds.len())
}

/// Where Go keeps the module's files; it fetches them if need be.
fn module_folder() -> Result<PathBuf> {
    let output = Command::new("go")
        .args(["mod", "download", "-json", "k8s.io/kubernetes"])
        .current_dir(KUBERNETES)
        .env("GOWORK", "off")
        .output()
        .context("failed to run go")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "failed to fetch k8s.io/kubernetes: {}",
        stderr.trim()
    );
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    Ok(answer["Dir"]
        .as_str()
        .context("go named no folder for k8s.io/kubernetes")?
        .into())
}

fn write_own(folder: &Path) -> Result<usize> {
    let crds = mcp_fleet_crds::all_crds();
    for (_, crd) in &crds {
        for version in &crd.spec.versions {
            let mut schema = serde_json::to_value(
                version
                    .schema
                    .as_ref()
                    .and_then(|schema| schema.open_api_v3_schema.as_ref()),
            )?;
            for (property, type_) in [
                ("apiVersion", "string"),
                ("kind", "string"),
                ("metadata", "object"),
            ] {
                schema["properties"][property] = json!({ "type": type_ });
            }
            close(&mut schema);
            write(
                &folder.join(file_name(&crd.spec.group, &version.name, &crd.spec.names.kind)),
                &schema,
            )?;
        }
    }
    Ok(crds.len())
}

/// The convention of kubeconform's `{{.ResourceKind}}{{.KindSuffix}}`.
fn file_name(group: &str, version: &str, kind: &str) -> String {
    let group = group.split('.').next().unwrap_or_default();
    let parts = [kind, group, version];
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    format!("{}.json", parts.join("-").to_lowercase())
}

/// Refuses unknown fields wherever fields are listed, points references to the shared file, and translates what only
/// Kubernetes knows.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get_mut("$ref") {
                *reference = format!("{SHARED}{reference}");
            }
            let number = members
                .get("format")
                .is_some_and(|format| format == "int-or-string")
                || members
                    .get("x-kubernetes-int-or-string")
                    .is_some_and(|flag| *flag == json!(true));
            if number {
                members.clear();
                members.insert("type".to_owned(), json!(["string", "number"]));
                return;
            }
            let open = members
                .get("x-kubernetes-preserve-unknown-fields")
                .is_some_and(|flag| *flag == json!(true));
            let listed = members.get("properties").is_some_and(Value::is_object);
            if listed && !open && !members.contains_key("additionalProperties") {
                members.insert("additionalProperties".to_owned(), json!(false));
            }
            members.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// Types that the document calls strings or objects and the API server takes more broadly.
fn loosen(name: &str, definition: &mut Value) {
    match name.rsplit('.').next() {
        Some("Quantity") => *definition = json!({ "type": ["string", "number"] }),
        Some("JSON" | "RawExtension" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrArray") => {
            *definition = json!({});
        }
        _ => {}
    }
}

fn write(path: &Path, schema: &Value) -> Result<()> {
    fs::write(path, serde_json::to_vec(schema)?)
        .with_context(|| format!("failed to write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::{close, file_name};
    use serde_json::json;

    #[test]
    fn files_are_named_as_kubeconform_asks_for_them() {
        assert_eq!(file_name("", "v1", "Service"), "service-v1.json");
        assert_eq!(
            file_name("rbac.authorization.k8s.io", "v1", "Role"),
            "role-rbac-v1.json"
        );
    }

    #[test]
    fn listed_fields_are_all_there_are_unless_the_schema_says_otherwise() {
        let mut schema = json!({
            "properties": {
                "port": { "format": "int-or-string", "type": "string" },
                "labels": { "additionalProperties": { "type": "string" }, "type": "object" },
                "raw": { "properties": {}, "x-kubernetes-preserve-unknown-fields": true },
                "other": { "$ref": "#/definitions/X" },
            }
        });
        close(&mut schema);
        assert_eq!(schema["additionalProperties"], json!(false));
        let properties = &schema["properties"];
        assert_eq!(properties["port"], json!({ "type": ["string", "number"] }));
        assert_eq!(
            properties["labels"]["additionalProperties"],
            json!({ "type": "string" })
        );
        assert_eq!(properties["raw"].get("additionalProperties"), None);
        assert_eq!(properties["other"]["$ref"], "_definitions.json#/definitions/X");
    }
}
