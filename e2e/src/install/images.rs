//! Second step of an installation: images, packed without a container engine and loaded into the cluster.
//!
//! In: static programs. Out: three images in the cluster, under names that no registry has.

use std::path::Path;

use anyhow::Result;

use super::programs::Programs;
use crate::cluster::Cluster;
use crate::image::{ImageFile, ImageSpec, write_image};
use crate::progress::Progress;

pub const OPERATOR_IMAGE: &str = "localhost/mcp-fleet/operator:dev";
pub const WEATHER_IMAGE: &str = "localhost/mcp-fleet/mcp-weather:dev";
pub const STAND_IN_IMAGE: &str = "localhost/mcp-fleet/stand-in:dev";

/// Every image with its program and its path inside.
pub(crate) fn specs(programs: &Programs) -> Vec<ImageSpec> {
    [
        (OPERATOR_IMAGE, "/mcp-fleet-operator", &programs.operator),
        (WEATHER_IMAGE, "/mcp-weather", &programs.weather),
        (STAND_IN_IMAGE, "/mcp-fleet-e2e", &programs.e2e),
    ]
    .map(|(reference, path, program)| spec(reference, path, program))
    .into()
}

/// One program and nothing else but certificate authorities.
pub(crate) fn spec(reference: &str, path: &str, program: &Path) -> ImageSpec {
    let (name, tag) = reference.rsplit_once(':').unwrap_or((reference, "dev"));
    ImageSpec {
        name: name.to_owned(),
        tag: tag.to_owned(),
        files: vec![ImageFile::program(path, program)],
        entrypoint: vec![path.to_owned()],
        ..ImageSpec::default()
    }
}

pub(crate) async fn load(
    cluster: &Cluster,
    programs: &Programs,
    folder: &Path,
    progress: &Progress,
) -> Result<()> {
    let step = progress.start("packing and loading images");
    for spec in specs(programs) {
        let archive = folder.join("image.tar");
        let (written, to) = (spec.clone(), archive.clone());
        tokio::task::spawn_blocking(move || write_image(&written, &to)).await??;
        cluster.load_image(&archive).await?;
        tokio::fs::remove_file(&archive).await?;
    }
    step.done();
    Ok(())
}
