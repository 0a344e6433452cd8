//! Fills Go's build cache with the cluster's components while cargo compiles.
//!
//! In: which modules are missing. Out: a thread to wait for. What goes wrong here is no error: the demo builds the same again, from what
//! is in the cache, and its message is the better one.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::modules::{COMPONENTS, Module, arguments};
use crate::say;

/// Between two looks at a build.
const LOOK: Duration = Duration::from_millis(200);

/// Modules that were never built on this machine. A folder of a former version counts: then Go has most of it, and it is quick.
pub fn missing() -> Vec<&'static Module> {
    let Some(cache) = cache() else {
        return COMPONENTS.into();
    };
    let names: Vec<String> = std::fs::read_dir(cache)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    let is_there = |module: &Module| {
        names.iter().any(|name| {
            name.strip_prefix(module.folder)
                .is_some_and(|rest| rest.starts_with('-'))
        })
    };
    COMPONENTS
        .into_iter()
        .filter(|module| !is_there(module))
        .collect()
}

fn cache() -> Option<PathBuf> {
    let of = |variable| {
        std::env::var_os(variable)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let cache = of("XDG_CACHE_HOME").or_else(|| Some(of("HOME")?.join(".cache")))?;
    Some(cache.join("mcp-fleet/tools"))
}

/// Builds that are under way. They end when this is dropped.
#[derive(Debug)]
pub struct Warming {
    thread: Option<JoinHandle<()>>,
    running: Arc<Mutex<Running>>,
}

/// The build that runs now, and whether another one may follow.
#[derive(Debug, Default)]
struct Running {
    go: Option<Child>,
    ended: bool,
}

impl Warming {
    pub fn wait(mut self, started: Instant) {
        if let Some(thread) = self.thread.take() {
            if !thread.is_finished() {
                say(started, "waiting for Kubernetes' components");
            }
            // A panic there is no reason to give up: the demo builds what is missing.
            let _ = thread.join();
        }
    }
}

impl Drop for Warming {
    fn drop(&mut self) {
        let mut running = lock(&self.running);
        running.ended = true;
        if let Some(go) = &mut running.go {
            let _ = go.kill();
            let _ = go.wait();
        }
        drop(running);
        // It removes what the build left.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(running: &Mutex<Running>) -> MutexGuard<'_, Running> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts with the first missing module; None when there is none.
pub fn start(workspace: &Path, modules: Vec<&'static Module>, started: Instant) -> Option<Warming> {
    if modules.is_empty() {
        return None;
    }
    let sources = workspace.join("e2e/cluster");
    let running = Arc::new(Mutex::new(Running::default()));
    let shared = Arc::clone(&running);
    let thread = std::thread::spawn(move || {
        for module in modules {
            let what = module.programs.join(", ");
            say(started, &format!("compiling {what} …"));
            let beat = heartbeat(&format!("compiling {what}"), started, Duration::from_mins(1));
            let done = build(&sources.join(module.folder), module, &shared);
            drop(beat);
            if done {
                say(started, &format!("{what}: compiled"));
            }
        }
    });
    Some(Warming {
        thread: Some(thread),
        running,
    })
}

/// Into a folder that is thrown away: what stays is Go's cache.
fn build(folder: &Path, module: &Module, running: &Mutex<Running>) -> bool {
    let bin = std::env::temp_dir().join(format!("mcp-fleet-{}-{}", module.folder, std::process::id()));
    if std::fs::create_dir_all(&bin).is_err() {
        return false;
    }
    let mut command = Command::new("go");
    command
        .args(arguments(module, &bin))
        .current_dir(folder)
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let done = follow(command, running);
    let _ = std::fs::remove_dir_all(&bin);
    done
}

/// Runs a build where [`Warming`] can end it. Whether it succeeded.
fn follow(mut command: Command, running: &Mutex<Running>) -> bool {
    {
        let mut running = lock(running);
        if running.ended {
            return false;
        }
        running.go = command.spawn().ok();
    }
    loop {
        let state = match &mut lock(running).go {
            Some(go) => go.try_wait(),
            None => return false,
        };
        match state {
            Ok(None) => std::thread::sleep(LOOK),
            Ok(Some(status)) => return status.success(),
            Err(_) => return false,
        }
    }
}

/// Says now and then that something is still under way, until it is dropped.
pub fn heartbeat(what: &str, started: Instant, every: Duration) -> Sender<()> {
    let (stop, stopped) = channel();
    let what = format!("still {what}");
    std::thread::spawn(move || {
        while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
            say(started, &what);
        }
    });
    stop
}
