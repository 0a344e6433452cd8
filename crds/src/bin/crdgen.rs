//! Writes the definitions to `crds/generated/` and into the chart `mcp-fleet-crds`, which ships them as templates.
//!
//! In: the root of the repository as the only argument (default: the current folder). Out: one YAML file a kind in
//! each of the two places, and the paths on standard output.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let root = std::env::args()
        .nth(1)
        .map_or_else(|| PathBuf::from("."), PathBuf::from);
    match write_all(&root) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write_all(root: &Path) -> Result<(), Box<dyn std::error::Error>> {
    for (path, text) in mcp_fleet_crds::generated_files()? {
        let path = root.join(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|error| format!("failed to create {}: {error}", folder.display()))?;
        }
        std::fs::write(&path, text)
            .map_err(|error| format!("failed to write {}: {error}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}
