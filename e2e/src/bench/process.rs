//! A server under test as a process of its own on one core.
//!
//! In: program, environment, core. Out: its memory and CPU time as the kernel counts them; it ends when dropped.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};
use tokio::process::{Child, Command};

/// USER_HZ, which the kernel fixes at 100 for everything it shows to programs (proc_pid_stat(5), sysconf(_SC_CLK_TCK)).
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    pid: u32,
}

/// Resident memory in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    pub now: u64,
    /// The most since its start.
    pub most: u64,
}

/// A command whose threads all stay on one core.
pub fn on_core(core: usize, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command
        .args(["--cpu-list", &core.to_string()])
        .arg(program)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// The same in a control group, from before the program begins, so that all of its memory counts.
pub fn on_core_in(entrance: &Path, core: usize, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"echo 0 > "$0" && exec taskset --cpu-list "$@""#])
        .arg(entrance)
        .arg(core.to_string())
        .arg(program)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

impl Process {
    /// Starts it; what it says goes to a file in `folder`.
    pub fn start(name: &str, mut command: Command, folder: &Path) -> Result<Self> {
        let log = File::create(folder.join(format!("{name}.log"))).context("failed to make a log file")?;
        let child = command
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("failed to start {name}; taskset is in the package util-linux"))?;
        let pid = child.id().with_context(|| format!("failed to start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            pid,
        })
    }

    /// Whether it has ended, which no server does by itself.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    pub fn memory(&self) -> Result<Memory> {
        memory_of(self.pid).with_context(|| format!("failed to read the memory of {}", self.name))
    }

    /// Seconds of CPU time used so far, all threads, user and kernel.
    pub fn cpu_seconds(&self) -> Result<f64> {
        cpu_seconds_of(self.pid).with_context(|| format!("failed to read the CPU time of {}", self.name))
    }

    pub async fn end(mut self) -> Result<()> {
        self.child
            .kill()
            .await
            .with_context(|| format!("failed to end {}", self.name))
    }
}

/// Memory of any process by the kernel's count.
pub fn memory_of(pid: u32) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let number = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok());
        number.with_context(|| format!("no {key} in /proc/{pid}/status"))
    };
    Ok(Memory {
        now: kib("VmRSS:")?,
        most: kib("VmHWM:")?,
    })
}

/// CPU time of any process, all threads, user and kernel.
pub fn cpu_seconds_of(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    cpu_seconds(&stat).with_context(|| format!("no CPU time in /proc/{pid}/stat"))
}

/// Fields 14 and 15 of /proc/pid/stat; the second field may contain anything, so they are counted from its end.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<f64>().ok();
    Some((next()? + next()?) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_past_any_name() {
        let stat = "12 (a ) b) S 1 12 12 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("12 (x) S"), None);
    }

    #[test]
    fn own_memory_is_more_than_nothing() {
        let memory = memory_of(std::process::id()).unwrap();
        assert!(memory.now > 0 && memory.most >= memory.now, "{memory:?}");
    }
}
