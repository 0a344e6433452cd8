//! Step 7 of the local cluster: the images that the cluster itself runs, and the way in for every other image.
//!
//! In: built programs, or an image archive. Out: images in the node's containerd.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use super::sandbox::Sandbox;
use super::tools::Tools;
use crate::image::{ImageFile, ImageSpec, write_image};

pub(crate) const PAUSE: &str = "docker.io/local/pause:1";
pub(crate) const COREDNS: &str = "docker.io/local/coredns:1";
/// The namespace of containerd that the kubelet uses.
pub(crate) const NAMESPACE: &str = "k8s.io";

/// Imports pause and CoreDNS; their archives are packed once and kept beside the programs.
pub(crate) async fn load_own(sandbox: &Sandbox, tools: &Tools) -> Result<()> {
    for name in ["pause", "coredns"] {
        let program = tools.images.join(name);
        let archive = tools.images.with_file_name(format!("{name}.tar"));
        if !archive.exists() {
            let to = archive.clone();
            tokio::task::spawn_blocking(move || pack(name, program, &to)).await??;
        }
        let mut command = sandbox.command(tools.containerd.join("ctr"));
        import(&mut command, &archive).await?;
    }
    Ok(())
}

fn pack(name: &str, program: PathBuf, to: &Path) -> Result<()> {
    let path = format!("/{name}");
    let spec = ImageSpec {
        name: format!("local/{name}"),
        tag: "1".to_owned(),
        files: vec![ImageFile::program(&path, program)],
        entrypoint: vec![path],
        ..ImageSpec::default()
    };
    write_image(&spec, to)
}

/// `command` is `ctr` on the node. The archive goes in by standard input: its path need not exist on the node.
pub(crate) async fn import(command: &mut Command, archive: &Path) -> Result<()> {
    let file =
        File::open(archive).with_context(|| format!("failed to open image archive {}", archive.display()))?;
    let output = command
        .args(["--namespace", NAMESPACE, "images", "import", "-"])
        .stdin(file)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output()
        .await
        .context("failed to run ctr")?;
    if !output.status.success() {
        bail!(
            "failed to import image archive {}: {}",
            archive.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
