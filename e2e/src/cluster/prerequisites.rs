//! Step 1 of the local cluster: is everything here that the later steps need?
//!
//! In: the machine. Out: nothing, or one error that names all that is missing, before anything is built or started.

use std::process::Command;

use anyhow::{Result, bail};

use super::packages::{self, find_program};

/// `k8s.io/kubernetes` 1.36 names it in its go.mod.
const GO_MINOR: u32 = 26;

/// Programs of Debian packages, which this step installs by itself where it can.
const PACKAGED: [(&str, &str); 7] = [
    ("runc", "runc"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("mount", "mount"),
];

/// Checks the machine; installs Debian packages where it may.
pub(crate) fn check() -> Result<()> {
    let mut missing = Vec::new();
    if !cfg!(target_os = "linux") {
        missing.push("Linux (network namespaces and cgroups)".to_owned());
    } else if !nix::unistd::geteuid().is_root() {
        missing.push("root (namespaces, mounts, cgroups): run as root".to_owned());
    }
    missing.extend(check_go());
    if find_program("cc").is_none() {
        missing.push("a C compiler, which Rust links with: install gcc (Debian: gcc, libc6-dev)".to_owned());
    }
    if !missing.is_empty() {
        bail!(
            "the local cluster cannot start, as these are missing:\n  - {}\nor set MCP_FLEET_KUBECONFIG to the kubeconfig of a cluster that is there",
            missing.join("\n  - ")
        );
    }

    let mut absent: Vec<_> = PACKAGED
        .iter()
        .filter(|(program, _)| find_program(program).is_none())
        .map(|row| row.1)
        .collect();
    absent.dedup();
    if !absent.is_empty() {
        packages::install(&absent)?;
    }
    check_namespaces()
}

fn check_go() -> Option<String> {
    let wanted = format!("Go 1.{GO_MINOR} or newer, which the cluster's components are built with");
    let Ok(output) = Command::new("go").arg("version").output() else {
        return Some(format!("{wanted}: install it and put `go` on PATH"));
    };
    let version = String::from_utf8_lossy(&output.stdout).into_owned();
    match go_minor(&version) {
        // An older Go fetches the one that go.mod names, unless it is told not to.
        Some(minor) if minor >= GO_MINOR => None,
        _ => Some(format!("{wanted}: `go version` says {:?}", version.trim())),
    }
}

/// 26 for `go version go1.26.8 linux/amd64`.
fn go_minor(version: &str) -> Option<u32> {
    let number = version.split_whitespace().nth(2)?.strip_prefix("go1.")?;
    number
        .split(|character: char| !character.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

/// Inside an unprivileged container root is not enough; better said now than after minutes of building.
fn check_namespaces() -> Result<()> {
    let output = Command::new("unshare")
        .args([
            "--mount",
            "--pid",
            "--net",
            "--uts",
            "--ipc",
            "--fork",
            "--mount-proc",
            "mount",
            "-t",
            "tmpfs",
            "tmpfs",
            "/run",
        ])
        .output()?;
    if !output.status.success() {
        bail!(
            "the local cluster cannot start: failed to make namespaces of its own ({}); in a container it must be privileged",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::go_minor;

    #[test]
    fn the_go_version_is_read_from_its_own_words() {
        assert_eq!(go_minor("go version go1.26.8 linux/amd64"), Some(26));
        assert_eq!(go_minor("go version go1.27rc1 linux/arm64"), Some(27));
        assert_eq!(go_minor("go version devel go1.28-abc"), None);
        assert_eq!(go_minor(""), None);
    }
}
