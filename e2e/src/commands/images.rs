//! `images`: what a cluster elsewhere needs. In: a folder and a build profile. Out: two OCI archives in it, and how to push
//! them, since no container engine is needed to make them.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::image::write_image;
use crate::install::images::spec;
use crate::install::programs::{compile, named};
use crate::progress::Progress;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Where the archives go
    folder: PathBuf,
    /// Cargo profile to build with
    #[arg(long, default_value = "release")]
    profile: String,
}

pub async fn run(options: Options) -> Result<()> {
    let progress = Progress::new();
    std::fs::create_dir_all(&options.folder)
        .with_context(|| format!("failed to make {}", options.folder.display()))?;
    let step = progress.start(format_args!(
        "building operator and weather server (static, profile {})",
        options.profile
    ));
    let programs = compile(
        &options.profile,
        &["mcp-fleet-operator", "mcp-weather"],
        &progress,
    )
    .await?;
    step.done();
    let version = env!("CARGO_PKG_VERSION");
    println!("\nTo push them, with skopeo for example:\n");
    for (image, program) in [("operator", "mcp-fleet-operator"), ("mcp-weather", "mcp-weather")] {
        let reference = format!("localhost/mcp-fleet/{image}:{version}");
        let archive = options.folder.join(format!("{image}-{version}.tar"));
        let image_spec = spec(&reference, &format!("/{program}"), &named(&programs, program)?);
        let to = archive.clone();
        tokio::task::spawn_blocking(move || write_image(&image_spec, &to)).await??;
        println!(
            "  skopeo copy oci-archive:{} docker://<registry>/mcp-fleet/{image}:{version}",
            archive.display()
        );
    }
    Ok(())
}
