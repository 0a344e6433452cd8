//! Last step of the local cluster, and of a cluster whose keeper was killed: nothing of it stays.
//!
//! In: the cluster's name, with its processes ended. Out: its control groups, folder and lock file removed.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::layout::{BASE, Folder, NAME_PREFIX};
use super::waiting::wait_until;

const CGROUPS: &str = "/sys/fs/cgroup";

/// Makes the control group that all pods of the cluster live below, in every hierarchy.
pub(crate) fn make_cgroups(name: &str) -> Result<()> {
    for hierarchy in hierarchies() {
        let group = hierarchy.join(name);
        fs::create_dir_all(&group)
            .with_context(|| format!("failed to make control group {}", group.display()))?;
        // Version 1: a new group has no processors or memory until told which.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(value) = fs::read_to_string(hierarchy.join(file)) {
                // Version 2 inherits and may refuse this.
                let _ = fs::write(group.join(file), value.trim());
            }
        }
        // Version 2: a group has the controllers that its parent hands down; a service manager has often done so already.
        for controller in fs::read_to_string(hierarchy.join("cgroup.controllers"))
            .unwrap_or_default()
            .split_whitespace()
        {
            let _ = fs::write(hierarchy.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
    Ok(())
}

/// One folder with control groups of version 2, else one per controller.
fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new(CGROUPS);
    if root.join("cgroup.controllers").exists() {
        return vec![root.to_owned()];
    }
    let entries = fs::read_dir(root)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()));
    entries
        .filter(|path| path.join("cgroup.procs").exists())
        .collect()
}

/// Removes what is left of a cluster. Its processes are gone or are ended here, by their control group.
pub(crate) async fn remove(name: &str) -> Result<()> {
    wait_until(
        Duration::from_secs(20),
        "the end of every process of the cluster",
        async || {
            let left = processes(name);
            for &pid in &left {
                // Gone in the meantime is as good.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            Ok(left.is_empty().then_some(()))
        },
    )
    .await?;
    for hierarchy in hierarchies() {
        let group = hierarchy.join(name);
        // The kernel counts a process as a member for a moment after its end.
        let what = format!("the end of control group {}", group.display());
        wait_until(Duration::from_secs(10), &what, async || {
            Ok(remove_group(&group).then_some(()))
        })
        .await?;
    }
    let folder = Folder::of(name);
    tokio::task::spawn_blocking(move || {
        remove_if_there(folder.path(), |path| fs::remove_dir_all(path))?;
        remove_if_there(&folder.lock(), |path| fs::remove_file(path))?;
        // The last cluster takes the common folder with it.
        let _ = fs::remove_dir(BASE);
        Ok(())
    })
    .await?
}

/// Processes in a control group of the cluster.
fn processes(name: &str) -> Vec<i32> {
    let component = format!("/{name}");
    let pids = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        groups
            .lines()
            .any(|line| line.ends_with(&component) || line.contains(&format!("{component}/")))
    })
    .collect()
}

/// True when the group and all below it are gone.
fn remove_group(group: &Path) -> bool {
    let Ok(entries) = fs::read_dir(group) else {
        return !group.exists();
    };
    for path in entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
    {
        remove_group(&path);
    }
    fs::remove_dir(group).is_ok()
}

fn remove_if_there(path: &Path, remove: impl Fn(&Path) -> std::io::Result<()>) -> Result<()> {
    match remove(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Removes clusters whose keeper lives no more, and returns their names.
pub(crate) async fn sweep() -> Result<Vec<String>> {
    let mut swept = Vec::new();
    for name in leftovers() {
        let path = Folder::of(&name).lock();
        // A keeper locks before it makes anything, so an unlocked cluster has no keeper.
        let Ok(lock) = File::create(&path) else { continue };
        if lock.try_lock().is_ok() {
            remove(&name)
                .await
                .with_context(|| format!("failed to remove what is left of cluster {name}"))?;
            swept.push(name);
        }
    }
    Ok(swept)
}

/// Names of clusters that have a lock file or a folder.
fn leftovers() -> Vec<String> {
    let entries = fs::read_dir(BASE)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let names = entries.map(|name| name.trim_end_matches(".lock").to_owned());
    let mut names: Vec<_> = names.filter(|name| name.starts_with(NAME_PREFIX)).collect();
    names.sort();
    names.dedup();
    names
}
