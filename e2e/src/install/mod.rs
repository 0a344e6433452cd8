//! Everything that a cluster needs for the main job, put there as a platform team would do it.
//!
//! In: a cluster and the workspace's sources. Out: [`Installed`]: the operator from its charts, Azure's and the weather
//! service's places taken by stand-ins, and what clients need to reach them. The line, one file a step:
//!
//! programs -> images -> authority -> stand-ins -> charts, then the examples; and back: removal

mod authority;
mod charts;
mod diagnosis;
mod examples;
pub(crate) mod images;
mod invocation;
mod kubectl;
pub mod programs;
mod removal;
mod stand_ins;
mod waiting;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

pub use self::charts::{CRDS_RELEASE, OPERATOR_NAMESPACE, RELEASE, Value};
pub use self::diagnosis::{diagnose, why};
pub use self::examples::{ACCESS, Example, GATEWAY, Ready, WEATHER, wait_for_ready};
pub use self::images::{OPERATOR_IMAGE, STAND_IN_IMAGE, WEATHER_IMAGE};
pub use self::kubectl::Kubectl;
pub use self::programs::{Programs, build as build_programs};
pub use self::removal::remove;
pub use self::stand_ins::{ARM_HOST, AZURE_NAMESPACE, GATEWAY_HOST, LOGIN_HOST, PORT};
pub use self::waiting::{Awaited, wait_for};
use crate::apim::Control;
use crate::cluster::Cluster;
use crate::image::ImageSpec;
use crate::progress::Progress;

/// The workspace's folder: charts and examples are taken from it as they are.
pub(crate) const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// What differs between the demo and the tests.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Port of the gateway on the host and in the cluster, so that one URL works in both. None: [`PORT`] in the cluster, any free
    /// one on the host.
    pub gateway_port: Option<u16>,
    /// Values of the chart beside those that the stand-ins ask for.
    pub values: Vec<Value>,
}

/// What was put into a cluster, and how to reach it from this process.
#[derive(Debug)]
pub struct Installed {
    folder: TempDir,
    /// Test controls of the stand-in.
    pub control: Control,
    /// The port of the gateway in the cluster.
    pub gateway_port: u16,
    /// Where the gateway listens on the host.
    pub gateway: SocketAddr,
    /// Where ARM and sign-in listen on the host.
    pub arm: SocketAddr,
    /// What was there before and stays at removal.
    before: removal::Before,
    pub programs: Programs,
    pub values: Vec<Value>,
}

impl Installed {
    /// The certificate authority that the stand-in's certificate is from (PEM).
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// A folder for files that go with this installation.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What the images are made of, to look inside.
    pub fn images(&self) -> Vec<ImageSpec> {
        images::specs(&self.programs)
    }

    /// Base URL of the gateway, the same inside and, mapped, outside.
    pub fn gateway_url(&self) -> String {
        format!("https://{GATEWAY_HOST}:{}", self.gateway_port)
    }
}

/// Puts everything into the cluster but the examples, and waits until it serves.
pub async fn install(cluster: &Cluster, settings: &Settings, progress: &Progress) -> Result<Installed> {
    cluster.check_images_can_be_loaded()?;
    let before = removal::Before::look(cluster).await?;
    let programs = programs::build(progress).await?;
    let folder = tempfile::Builder::new()
        .prefix("mcp-fleet-")
        .tempdir_in(cluster.scratch())
        .context("failed to make a folder for certificates")?;
    images::load(cluster, &programs, folder.path(), progress).await?;

    let certificates = authority::issue(folder.path())?;
    let gateway_port = settings.gateway_port.unwrap_or(PORT);
    let step = progress.start("starting the Azure stand-in and the weather replay");
    stand_ins::apply(cluster, &certificates, gateway_port).await?;
    stand_ins::wait(cluster, progress).await?;
    step.done();
    let control = stand_ins::control(cluster).await?;
    let arm = cluster.forward(AZURE_NAMESPACE, "arm", PORT, 0).await?;
    let gateway = cluster
        .forward(
            AZURE_NAMESPACE,
            "gateway",
            gateway_port,
            settings.gateway_port.unwrap_or(0),
        )
        .await?;

    let installed = Installed {
        folder,
        control,
        gateway_port,
        gateway,
        arm,
        before,
        programs,
        values: settings.values.clone(),
    };
    charts::install(cluster, &installed, progress).await?;
    Ok(installed)
}

/// Installs or upgrades the charts again with the same values: Helm decides what changes.
pub async fn upgrade(cluster: &Cluster, installed: &Installed, progress: &Progress) -> Result<()> {
    charts::install(cluster, installed, progress).await
}
