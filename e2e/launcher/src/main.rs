//! `cargo demo` from its first second: says what will happen and how long it takes, compiles everything once, and hands over.
//!
//! In: the demo's arguments, a checkout. Out: the demo's exit code. Two builds run side by side: cargo's, of the workspace, static as
//! images want it, so that nothing is compiled a second time for this host; and Go's, of the local cluster's components, whose results
//! stay in Go's own cache, where the demo finds them.

#[path = "../../src/install/invocation.rs"]
mod invocation;
#[path = "../../src/cluster/modules.rs"]
mod modules;
mod warm;

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use invocation::{PACKAGES, PROFILE, static_build};

const PROGRAM: &str = "mcp-fleet-e2e";
const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const HEARTBEAT: Duration = Duration::from_secs(15);

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, String> {
    let started = Instant::now();
    let workspace = Path::new(WORKSPACE)
        .canonicalize()
        .map_err(|error| format!("failed to find the workspace: {error}"))?;
    // `cargo demo -- --exit` brings the separator along.
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--") {
        arguments.remove(0);
    }
    let own_cluster = std::env::var_os("MCP_FLEET_KUBECONFIG").is_none_or(|path| path.is_empty());
    let components = if own_cluster { warm::missing() } else { vec![] };
    announce(&workspace, own_cluster, &components);

    let warming = warm::start(&workspace, components, started);
    let program = compile(&workspace, started)?;
    if let Some(warming) = warming {
        warming.wait(started);
    }
    let status = Command::new(&program)
        .arg("demo")
        .args(arguments)
        .status()
        .map_err(|error| format!("failed to start {}: {error}", program.display()))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// What will happen, before anything else does.
fn announce(workspace: &Path, own_cluster: bool, components: &[&modules::Module]) {
    let compiled = workspace
        .join("target")
        .join(format!(
            "{}-unknown-linux-gnu/{PROFILE}/{PROGRAM}",
            std::env::consts::ARCH
        ))
        .is_file();
    println!("The demo of mcp-fleet, on this machine and with nothing in Azure:");
    if own_cluster {
        println!(
            "  1. compile the operator, the weather server and the stand-ins; beside that, Kubernetes' components"
        );
        println!("  2. start a Kubernetes cluster in namespaces of its own");
    } else {
        println!("  1. compile the operator, the weather server and the stand-ins");
        println!("  2. use the cluster of MCP_FLEET_KUBECONFIG");
    }
    println!("  3. put stand-ins for Azure and the weather service there, and the operator with its charts");
    println!(
        "  4. apply examples/gateway.yaml, weather.yaml and access.yaml, and call both tools through the gateway"
    );
    let long = match (compiled, components.is_empty()) {
        (true, true) => "about a minute: everything was compiled before",
        (false, true) => {
            "five minutes or so on two cores: Kubernetes was compiled before, the workspace was not"
        }
        (_, false) => "15 to 20 minutes on two cores the first time, and about one minute from then on",
    };
    println!("That takes {long}.");
    println!(
        "It needs Linux, root, Rust, Go 1.26 and a C compiler; Debian's runc and nftables are installed if missing.\n"
    );
}

/// Compiles the programs; cargo shows its progress by itself. The path of the one that is the demo.
fn compile(workspace: &Path, started: Instant) -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = static_build(&cargo, workspace, PROFILE, &PACKAGES, &["--bins"]);
    // Cargo tells a build what runs it; the one inside is another workspace's.
    for variable in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH"] {
        command.env_remove(variable);
    }
    say(started, "compiling the workspace (static, once for everything) …");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("failed to start cargo: {error}"))?;
    let messages = child.stdout.take().ok_or("failed to listen to cargo")?;
    let beat = warm::heartbeat("compiling the workspace", started, HEARTBEAT);
    let program = find_program(messages);
    let status = child
        .wait()
        .map_err(|error| format!("failed to wait for cargo: {error}"))?;
    drop(beat);
    if !status.success() {
        return Err(format!("cargo ended with {status}: what it said stands above"));
    }
    say(started, "the workspace is compiled");
    program.ok_or_else(|| format!("cargo reported no {PROGRAM}"))
}

/// The demo's path, as one of cargo's messages names it: `"executable":"/…/mcp-fleet-e2e"`.
fn find_program(messages: impl Read) -> Option<PathBuf> {
    const KEY: &str = "\"executable\":\"";
    BufReader::new(messages)
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| {
            let (_, rest) = line.split_once(KEY)?;
            let (path, _) = rest.split_once('"')?;
            Some(PathBuf::from(path))
        })
        .filter(|path| path.file_name().is_some_and(|name| name == PROGRAM))
        .last()
}

fn say(started: Instant, text: &str) {
    eprintln!("[{:>4}s] {text}", started.elapsed().as_secs());
}
