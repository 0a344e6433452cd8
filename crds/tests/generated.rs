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
