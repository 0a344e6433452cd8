//! kubectl and helm on the host, as a person would call them.
//!
//! In: arguments, and text for standard input. Out: standard output, or an error with everything that was said.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::cluster::Cluster;

/// A program that talks to one cluster.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    pub fn of(cluster: &Cluster) -> Self {
        Self {
            program: cluster.kubectl(),
            kubeconfig: cluster.kubeconfig().to_owned(),
        }
    }

    /// helm takes the same kubeconfig.
    pub fn helm_of(cluster: &Cluster) -> Self {
        Self {
            program: cluster.helm(),
            kubeconfig: cluster.kubeconfig().to_owned(),
        }
    }

    /// Runs it and returns what it printed.
    pub async fn run(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<String> {
        self.run_with(arguments, "").await
    }

    /// Runs it with text on standard input.
    pub async fn run_with(
        &self,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        input: &str,
    ) -> Result<String> {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .kill_on_drop(true);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let described = describe(&command);
        let mut child = command
            .spawn()
            .with_context(|| format!("failed to start {described}"))?;
        let mut standard_input = child
            .stdin
            .take()
            .with_context(|| format!("failed to talk to {described}"))?;
        // A program that does not read its input may be gone already.
        let _ = standard_input.write_all(input.as_bytes()).await;
        drop(standard_input);
        let output = child
            .wait_with_output()
            .await
            .with_context(|| format!("failed to run {described}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{described} failed: {}", said.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Applies YAML as `kubectl apply -f` does.
    pub async fn apply(&self, yaml: &str) -> Result<String> {
        self.run_with(["apply", "-f", "-"], yaml).await
    }

    /// Applies a file, word for word.
    pub async fn apply_file(&self, path: &Path) -> Result<String> {
        self.run([OsStr::new("apply"), OsStr::new("-f"), path.as_os_str()])
            .await
    }
}

fn describe(command: &Command) -> String {
    let command = command.as_std();
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or(command.get_program());
    let words = std::iter::once(program)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned());
    words.collect::<Vec<_>>().join(" ")
}
