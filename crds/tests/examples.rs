//! Every file in `examples/` is an object of our kinds as the types know them, without a field that nobody reads.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy knows #[test] functions, but not what they call"
)]

use std::path::{Path, PathBuf};

use mcp_fleet_crds::{McpAccess, McpGateway, McpServer};
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_yaml::Value;

fn examples() -> Vec<(PathBuf, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut documents = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = std::fs::read_to_string(&path).unwrap();
            for document in serde_yaml::Deserializer::from_str(&text) {
                documents.push((path.clone(), Value::deserialize(document).unwrap()));
            }
        }
    }
    documents
}

/// Decodes, encodes and looks for everything that was there before: the API server would prune the rest.
fn check_typed<K: DeserializeOwned + serde::Serialize>(path: &Path, document: &Value) {
    let typed: K = serde_yaml::from_value(document.clone())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let encoded = serde_yaml::to_value(&typed).unwrap();
    assert_contains(path, "", document, &encoded);
}

fn assert_contains(path: &Path, at: &str, written: &Value, understood: &Value) {
    match (written, understood) {
        (Value::Mapping(written), Value::Mapping(understood)) => {
            for (key, value) in written {
                let name = format!("{at}.{}", key.as_str().unwrap());
                let other = understood.get(key);
                let other = other.unwrap_or_else(|| panic!("{}: no field {name}", path.display()));
                assert_contains(path, &name, value, other);
            }
        }
        (Value::Sequence(written), Value::Sequence(understood)) => {
            assert_eq!(written.len(), understood.len(), "{}: {at}", path.display());
            for (written, understood) in written.iter().zip(understood) {
                assert_contains(path, &format!("{at}[]"), written, understood);
            }
        }
        _ => assert_eq!(written, understood, "{}: {at}", path.display()),
    }
}

#[test]
fn examples_are_what_the_types_understand() {
    let mut kinds = std::collections::BTreeMap::<String, usize>::new();
    for (path, document) in examples() {
        let kind = document["kind"].as_str().unwrap().to_owned();
        match kind.as_str() {
            "McpServer" => check_typed::<McpServer>(&path, &document),
            "McpGateway" => check_typed::<McpGateway>(&path, &document),
            "McpAccess" => check_typed::<McpAccess>(&path, &document),
            "Namespace" => {}
            other => panic!("{}: unexpected kind {other}", path.display()),
        }
        *kinds.entry(kind).or_default() += 1;
    }
    for kind in ["McpServer", "McpGateway", "McpAccess", "Namespace"] {
        assert!(kinds.contains_key(kind), "no example of kind {kind}");
    }
}

#[test]
fn the_three_main_examples_fit_together() {
    let find = |kind: &str, file: &str| {
        let documents = examples();
        let found = documents
            .into_iter()
            .find(|(path, document)| path.ends_with(file) && document["kind"] == kind);
        found.unwrap().1
    };
    let server: McpServer = serde_yaml::from_value(find("McpServer", "weather.yaml")).unwrap();
    let access: McpAccess = serde_yaml::from_value(find("McpAccess", "access.yaml")).unwrap();
    let gateway: McpGateway = serde_yaml::from_value(find("McpGateway", "gateway.yaml")).unwrap();
    assert_eq!(access.metadata.namespace, server.metadata.namespace);
    assert_eq!(Some(&access.spec.servers[0].name), server.metadata.name.as_ref());
    let annotations = gateway.metadata.annotations.unwrap();
    assert_eq!(annotations[mcp_fleet_crds::DEFAULT_GATEWAY_ANNOTATION], "true");
}

#[test]
fn every_example_is_in_the_table() {
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/README.md");
    let table = std::fs::read_to_string(table).unwrap();
    for (path, _) in examples() {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(
            table.contains(&format!("[{name}]({name})")),
            "examples/README.md does not name {name}"
        );
    }
}
