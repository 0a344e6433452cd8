//! Step of `prerequisites`: the programs that only the distribution has.
//!
//! In: names of Debian packages. Out: installed packages, or an error that says what to install.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// Installs Debian packages, saying so. Lists are fetched only when the installation fails without.
pub fn install(packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    if !nix::unistd::geteuid().is_root() || find_program("apt-get").is_none() {
        bail!("failed to find what these packages hold: {names}; install them and try again");
    }
    eprintln!("installing Debian packages {}", packages.join(", "));
    let install = || {
        let mut arguments = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
        arguments.extend(packages);
        apt(&arguments)
    };
    if install().is_ok() {
        return Ok(());
    }
    apt(&["update", "--quiet"])?;
    install().with_context(|| format!("failed to install Debian packages {names}"))
}

fn apt(arguments: &[&str]) -> Result<()> {
    let output = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .context("failed to run apt-get")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "failed to run apt-get {}: {}",
        arguments.join(" "),
        stderr.trim()
    );
    Ok(())
}

/// The program's path. The folders for administrators count too: a user's PATH often lacks them.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
