//! A control group with a limit of memory, of version 1 or 2, whichever the machine has. In: a name and bytes. Out: the way into
//! it, and what was used at most; it is removed when dropped, once its processes have ended.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const MOUNT: &str = "/sys/fs/cgroup";

#[derive(Debug)]
pub struct ControlGroup {
    folder: PathBuf,
    files: Files,
}

/// How a version calls what is used here.
#[derive(Debug, Clone, Copy)]
struct Files {
    version: u8,
    limit: &'static str,
    peak: &'static str,
    events: &'static str,
}

/// <https://docs.kernel.org/admin-guide/cgroup-v1/memory.html>
const VERSION_1: Files = Files {
    version: 1,
    limit: "memory.limit_in_bytes",
    peak: "memory.max_usage_in_bytes",
    events: "memory.oom_control",
};
/// <https://docs.kernel.org/admin-guide/cgroup-v2.html>
const VERSION_2: Files = Files {
    version: 2,
    limit: "memory.max",
    peak: "memory.peak",
    events: "memory.events",
};

impl ControlGroup {
    /// Below the root, where groups of version 2 may have processes too.
    pub fn with_memory(name: &str, bytes: u64) -> Result<Self> {
        let root = Path::new(MOUNT);
        let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        let (parent, files) = if controllers.split_whitespace().any(|name| name == "memory") {
            // It may have been done already, and if it cannot be, the limit below cannot be set either.
            let _ = fs::write(root.join("cgroup.subtree_control"), "+memory");
            (root.to_owned(), VERSION_2)
        } else {
            (root.join("memory"), VERSION_1)
        };
        let folder = parent.join(name);
        fs::create_dir(&folder)
            .with_context(|| format!("failed to make control group {}", folder.display()))?;
        let group = Self { folder, files };
        group.write(files.limit, bytes)?;
        Ok(group)
    }

    pub fn version(&self) -> u8 {
        self.files.version
    }

    /// A process enters by writing its id, or 0 for itself, to this file.
    pub fn entrance(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    /// The most bytes that all of its processes used at once, the kernel's for them included.
    pub fn peak(&self) -> Result<u64> {
        let text = self.read(self.files.peak)?;
        text.trim()
            .parse()
            .with_context(|| format!("{} is no number: {text}", self.files.peak))
    }

    /// Processes that were killed because there was no more memory.
    pub fn killed(&self) -> Result<u64> {
        let text = self.read(self.files.events)?;
        oom_kills(&text).with_context(|| format!("no oom_kill in {}: {text}", self.files.events))
    }

    fn read(&self, file: &str) -> Result<String> {
        let path = self.folder.join(file);
        fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
    }

    fn write(&self, file: &str, value: u64) -> Result<()> {
        let path = self.folder.join(file);
        fs::write(&path, value.to_string()).with_context(|| format!("failed to write {}", path.display()))
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // A group that still has a process stays, and shows by its name what it was for.
        let _ = fs::remove_dir(&self.folder);
    }
}

fn oom_kills(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    line?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::oom_kills;

    #[test]
    fn kills_are_read_in_both_versions() {
        assert_eq!(
            oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
            Some(3)
        );
        assert_eq!(
            oom_kills("low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\noom_group_kill 0\n"),
            Some(1)
        );
        assert_eq!(oom_kills("oom_kill_disable 0\n"), None);
    }
}
