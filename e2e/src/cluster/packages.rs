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

/// A program of a Debian package: the installed one, or else one out of the package, which is unpacked below `cache` and not installed.
pub fn unpacked(program: &str, package: &str, cache: &Path) -> Result<PathBuf> {
    if let Some(path) = find_program(program) {
        return Ok(path);
    }
    let target = cache.join(format!("debian-{package}"));
    let path = target.join("usr/bin").join(program);
    if path.is_file() {
        return Ok(path);
    }
    let context = || format!("failed to get {program} out of the Debian package {package}");
    std::fs::create_dir_all(cache).with_context(context)?;
    let scratch = tempfile::tempdir_in(cache).with_context(context)?;
    // As root, apt hands the download to a user of its own, who may not write everywhere.
    let download = ["-o", "APT::Sandbox::User=root", "download", "--quiet", package];
    if apt_in(scratch.path(), &download).is_err() {
        apt(&["update", "--quiet"])?;
        apt_in(scratch.path(), &download).with_context(context)?;
    }
    let archive = std::fs::read_dir(scratch.path())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(context)?;
    let files = scratch.path().join("files");
    let finished = Command::new("dpkg-deb")
        .arg("-x")
        .args([&archive, &files])
        .status();
    ensure!(finished.with_context(context)?.success(), context());
    // Another process may have been faster; what it made is as good.
    if let Err(error) = std::fs::rename(&files, &target)
        && !path.is_file()
    {
        return Err(error).with_context(context);
    }
    Ok(path)
}

fn apt(arguments: &[&str]) -> Result<()> {
    apt_in(Path::new("/"), arguments)
}

fn apt_in(folder: &Path, arguments: &[&str]) -> Result<()> {
    let output = Command::new("apt-get")
        .args(arguments)
        .current_dir(folder)
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
