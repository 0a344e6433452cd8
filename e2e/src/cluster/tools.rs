//! Step 2 of the local cluster: build its components from the Go modules in `e2e/cluster/`.
//!
//! In: module files and flags. Out: a folder of programs per module in the user's cache, made once per content of these.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::modules::{CNI, COMPONENTS, CONTAINERD, ETCD, HELM, IMAGES, KUBERNETES, Module, arguments};
use super::packages;
use crate::progress::Progress;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster");

/// Not part of the cluster: lint asks for it by name.
const KUBECONFORM: Module = Module {
    folder: "kubeconform",
    tags: "",
    link: "",
    packages: &["tool"],
    programs: &["kubeconform"],
};

/// Not part of the cluster: a test asks it what tools that wait make of a status.
const WAITING: Module = Module {
    folder: "waiting",
    tags: "",
    link: "",
    packages: &["."],
    programs: &["waiting"],
};

/// Where the built programs are, a folder per module.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Tools {
    pub(crate) kubernetes: PathBuf,
    pub(crate) etcd: PathBuf,
    pub(crate) containerd: PathBuf,
    pub(crate) cni: PathBuf,
    pub(crate) helm: PathBuf,
    pub(crate) images: PathBuf,
}

/// Builds what the cluster needs and the cache lacks.
pub(crate) async fn build(progress: &Progress) -> Result<Tools> {
    // Side by side: much of each is waiting for downloads, and the last of it is one linker.
    let (kubernetes, containerd, helm, images, etcd, cni) = tokio::try_join!(
        build_module(&KUBERNETES, progress),
        build_module(&CONTAINERD, progress),
        build_module(&HELM, progress),
        build_module(&IMAGES, progress),
        build_module(&ETCD, progress),
        build_module(&CNI, progress),
    )?;
    Ok(Tools {
        kubernetes,
        etcd,
        containerd,
        cni,
        helm,
        images,
    })
}

/// Tools that Debian has already built, and their packages. They are taken from the package and not installed: services stay off.
const PACKAGED: [(&str, &str); 1] = [("promtool", "prometheus")];

/// One tool by name, made if the cache lacks it: `helm`, `kubectl`, `kubeconform`, `promtool` and every component.
pub async fn tool(name: &str, progress: &Progress) -> Result<PathBuf> {
    if let Some((_, package)) = PACKAGED.iter().find(|(program, _)| *program == name) {
        return packages::unpacked(name, package, &cache_folder()?);
    }
    let mut modules = COMPONENTS.into_iter().chain([&KUBECONFORM, &WAITING]);
    let module = modules.find(|module| module.programs.contains(&name));
    let module = module.with_context(|| format!("failed to find tool {name:?}: no module has it"))?;
    Ok(build_module(module, progress).await?.join(name))
}

async fn build_module(module: &'static Module, progress: &Progress) -> Result<PathBuf> {
    let cache = cache_folder()?;
    fs::create_dir_all(&cache).with_context(|| format!("failed to make {}", cache.display()))?;
    let target = cache.join(format!("{}-{}", module.folder, key(module)?));
    let bin = target.join("bin");
    if bin.is_dir() {
        return Ok(bin);
    }
    let lock = lock(&cache.join(format!("{}.lock", module.folder)), module, progress).await?;
    // Another process may have built it while this one waited.
    if !bin.is_dir() {
        let step = progress.start(format_args!("building {}", module.programs.join(", ")));
        compile(module, &target).await?;
        step.done();
    }
    drop(lock);
    Ok(bin)
}

/// `${XDG_CACHE_HOME:-~/.cache}/mcp-fleet/tools`
fn cache_folder() -> Result<PathBuf> {
    let cache = match (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
        (Some(cache), _) if !cache.is_empty() => PathBuf::from(cache),
        (_, Some(home)) => Path::new(&home).join(".cache"),
        _ => bail!("failed to find a cache folder: neither XDG_CACHE_HOME nor HOME is set"),
    };
    Ok(cache.join("mcp-fleet/tools"))
}

/// A hash of everything in the module's folder and of the flags.
fn key(module: &Module) -> Result<String> {
    let mut hash = Sha256::new();
    hash_folder(&Path::new(SOURCES).join(module.folder), &mut hash)?;
    for argument in arguments(module, Path::new("")) {
        hash.update(argument.as_bytes());
        hash.update([0]);
    }
    Ok(hex::encode(hash.finalize())[..16].to_owned())
}

fn hash_folder(folder: &Path, hash: &mut Sha256) -> Result<()> {
    let context = || format!("failed to read {}", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(context)? {
        paths.push(entry.with_context(context)?.path());
    }
    paths.sort();
    for path in paths {
        if path.is_dir() {
            hash_folder(&path, hash)?;
        } else {
            let bytes = fs::read(&path).with_context(context)?;
            hash.update(path.file_name().unwrap_or_default().as_encoded_bytes());
            hash.update(bytes.len().to_le_bytes());
            hash.update(bytes);
        }
    }
    Ok(())
}

/// Builds into a folder beside `target` and renames it, so that a folder under the final name is always whole.
async fn compile(module: &Module, target: &Path) -> Result<()> {
    let partial = target.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    let bin = partial.join("bin");
    fs::create_dir_all(&bin)?;
    let output = tokio::process::Command::new("go")
        .args(arguments(module, &bin))
        .current_dir(Path::new(SOURCES).join(module.folder))
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("failed to run go")?;
    if !output.status.success() {
        bail!(
            "failed to build {}: {}",
            module.programs.join(", "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    for program in module.programs {
        let path = bin.join(program);
        if !path.is_file() {
            bail!("failed to build {program}: go made no {}", path.display());
        }
    }
    fs::rename(&partial, target).with_context(|| format!("failed to make {}", target.display()))
}

/// Held until dropped; the system lets go of it when the holder dies.
async fn lock(path: &Path, module: &Module, progress: &Progress) -> Result<File> {
    let file = File::create(path).with_context(|| format!("failed to make {}", path.display()))?;
    if file.try_lock().is_ok() {
        return Ok(file);
    }
    progress.say(format_args!(
        "waiting for another process that builds {}",
        module.folder
    ));
    let locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await?;
    locked.with_context(|| format!("failed to lock {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::super::modules::{CONTAINERD, ETCD, arguments};
    use super::key;
    use std::path::Path;

    #[test]
    fn one_program_gets_its_name_and_several_a_folder() {
        assert!(arguments(&ETCD, Path::new("/bin")).contains(&"/bin/etcd".to_owned()));
        assert!(arguments(&CONTAINERD, Path::new("/bin")).contains(&"/bin/".to_owned()));
    }

    #[test]
    fn keys_are_stable_and_differ_between_modules() {
        assert_eq!(key(&ETCD).unwrap(), key(&ETCD).unwrap());
        assert_ne!(key(&ETCD).unwrap(), key(&CONTAINERD).unwrap());
    }
}
