//! A thread inside another network namespace, for code of this process that listens or connects there.
//!
//! In: the namespace's file. Out: a handle on a runtime whose every socket belongs to that namespace.

use std::fs::File;
use std::path::PathBuf;
use std::sync::mpsc;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Ends its runtime, and with it every task on it, when dropped.
#[derive(Debug)]
pub(crate) struct Namespace {
    handle: Handle,
    _end: oneshot::Sender<()>,
}

impl Namespace {
    pub(crate) fn enter(path: PathBuf) -> Result<Self> {
        let (end, ended) = oneshot::channel();
        let (entered, entering) = mpsc::channel();
        std::thread::Builder::new()
            .name("namespace".to_owned())
            .spawn(move || {
                // A thread enters alone: the rest of the process stays where it is.
                let runtime = File::open(&path)
                    .with_context(|| format!("failed to open {}", path.display()))
                    .and_then(|file| {
                        setns(file, CloneFlags::CLONE_NEWNET).context("failed to enter the network namespace")
                    })
                    .and_then(|()| Ok(Builder::new_current_thread().enable_all().build()?));
                match runtime {
                    Ok(runtime) => {
                        let _ = entered.send(Ok(runtime.handle().clone()));
                        let _ = runtime.block_on(ended);
                    }
                    Err(error) => {
                        let _ = entered.send(Err(error));
                    }
                }
            })?;
        let handle = entering
            .recv()
            .context("failed to enter the network namespace")??;
        Ok(Self { handle, _end: end })
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}
