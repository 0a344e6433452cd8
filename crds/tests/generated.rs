//! The committed YAML is what the types say.

use std::path::Path;

#[test]
fn committed_definitions_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (path, expected) in mcp_fleet_crds::generated_files().unwrap() {
        let committed = std::fs::read_to_string(root.join(&path)).unwrap_or_default();
        assert!(
            committed == expected,
            "{path} is stale: run `cargo crdgen` and commit the result"
        );
    }
}

/// A tool that waits by kstatus must not take an object for done before the operator has seen it.
#[test]
fn an_object_that_nobody_has_seen_says_so() {
    let definitions: Vec<_> = mcp_fleet_crds::generated_files()
        .unwrap()
        .into_iter()
        .filter(|(path, _)| path.starts_with("crds/generated"))
        .collect();
    assert_eq!(definitions.len(), 3);
    for (path, text) in definitions {
        let definition: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let default = &schema["properties"]["status"]["default"]["observedGeneration"];
        assert_eq!(default.as_i64(), Some(-1), "{path}");
    }
}
