//! How cargo is called for the programs that go into images: linked statically, and in one call, so that all share one build.
//!
//! In: which profile and packages. Out: a command. The standard library alone: the launcher of the demo has this file too, and what it
//! compiles is then there for everybody.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

pub const PROFILE: &str = "local";
pub const PACKAGES: [&str; 3] = ["mcp-fleet-operator", "mcp-weather", "mcp-fleet-e2e"];

/// `cargo build` of static programs; `chosen` says which targets and features. Its messages are JSON on standard output.
pub fn static_build(
    cargo: &OsStr,
    workspace: &Path,
    profile: &str,
    packages: &[&str],
    chosen: &[&str],
) -> Command {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let flags = format!(
        "CARGO_TARGET_{}_RUSTFLAGS",
        target.to_uppercase().replace('-', "_")
    );
    let mut command = Command::new(cargo);
    command
        .args([
            "build",
            "--locked",
            "--profile",
            profile,
            // What is for tests alone stays out of images.
            "--no-default-features",
            "--message-format",
            "json-render-diagnostics",
            "--target",
            &target,
        ])
        .args(chosen)
        .args(packages.iter().flat_map(|package| ["-p", package]))
        .current_dir(workspace)
        .env(flags, "-C target-feature=+crt-static")
        // These would win over the flag above.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    command
}
