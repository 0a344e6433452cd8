//! The cluster that end-to-end tests, demo and benchmarks run on: a real Kubernetes.
//!
//! In: MCP_FLEET_KUBECONFIG to attach to a cluster that is there, else nothing: one is built and started, in namespaces of its own.
//! Out: clients, commands and addresses to use it by. The line of a start, one file a step:
//!
//! prerequisites -> tools -> pki -> sandbox -> configuration -> components -> images -> dns -> load balancer, and back: teardown
//!
//! All but the first two happen in the keeper, a process that ends the cluster when its parent is gone.

mod components;
mod configuration;
mod dns;
mod forward;
mod images;
pub mod keeper;
mod layout;
pub mod load_balancer;
mod local;
mod modules;
mod namespace;
pub mod packages;
mod pki;
mod prerequisites;
mod sandbox;
mod teardown;
pub mod tools;
mod waiting;

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

pub use self::components::ISSUER;
use self::layout::From;
use self::local::Local;
pub use crate::progress::Progress;

/// The kubeconfig of a cluster to use instead of a local one.
pub const KUBECONFIG_VARIABLE: &str = "MCP_FLEET_KUBECONFIG";
/// How a foreign cluster takes an image archive, `{}` being its path: `kind load image-archive {}`.
pub const IMAGE_LOAD_VARIABLE: &str = "MCP_FLEET_IMAGE_LOAD";
/// Addresses of the outside namespace, in order: the default source, and a second one to be refused or let in by.
pub const OUTSIDE_ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 7)];

/// A running cluster. A local one ends when this is dropped; [`Cluster::stop`] also waits for it.
pub struct Cluster {
    kubeconfig: PathBuf,
    client: Client,
    kubectl: PathBuf,
    helm: PathBuf,
    local: Option<Local>,
    forwards: Mutex<Vec<AbortHandle>>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Cluster")
            .field("kubeconfig", &self.kubeconfig)
            .finish_non_exhaustive()
    }
}

/// Which end of the local cluster's cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The node: cluster addresses, pods and the API server at 127.0.0.1:6443 can be reached.
    Inside,
    /// Where the cluster's users are: load-balancer addresses can be reached, and pods reach servers that listen here.
    Outside,
}

impl Cluster {
    /// MCP_FLEET_KUBECONFIG set: attaches to that cluster. Else builds and starts one.
    pub async fn start(progress: &Progress) -> Result<Self> {
        match std::env::var_os(KUBECONFIG_VARIABLE).filter(|path| !path.is_empty()) {
            Some(path) => Self::attach(Path::new(&path), progress).await,
            None => Self::start_local(progress).await,
        }
    }

    /// Uses a cluster that is there.
    pub async fn attach(kubeconfig: &Path, progress: &Progress) -> Result<Self> {
        let kubeconfig = std::path::absolute(kubeconfig)?;
        let client = client_of(&kubeconfig).await?;
        let version = client.apiserver_version().await;
        let version =
            version.with_context(|| format!("failed to reach the cluster of {}", kubeconfig.display()))?;
        progress.say(format_args!(
            "using the cluster of {} ({})",
            kubeconfig.display(),
            version.git_version
        ));
        Ok(Self {
            kubeconfig,
            client,
            kubectl: installed_or_built("kubectl", progress).await?,
            helm: installed_or_built("helm", progress).await?,
            local: None,
            forwards: Mutex::default(),
        })
    }

    async fn start_local(progress: &Progress) -> Result<Self> {
        let local = Local::start(progress).await?;
        let kubeconfig = local.folder.kubeconfig(From::Host);
        Ok(Self {
            client: client_of(&kubeconfig).await?,
            kubeconfig,
            kubectl: local.tools.kubernetes.join("kubectl"),
            helm: local.tools.helm.join("helm"),
            local: Some(local),
            forwards: Mutex::default(),
        })
    }

    /// Whether this is a cluster of our own, with a known network and an outside.
    pub fn is_local(&self) -> bool {
        self.local.is_some()
    }

    /// For clients on the host.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Where files go that are of use only as long as this cluster: a local one takes them along, however it ends.
    pub fn scratch(&self) -> PathBuf {
        match &self.local {
            Some(local) => local.folder.path().to_owned(),
            None => std::env::temp_dir(),
        }
    }

    /// An administrator, from the host.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    pub fn kubectl(&self) -> PathBuf {
        self.kubectl.clone()
    }

    pub fn helm(&self) -> PathBuf {
        self.helm.clone()
    }

    /// A command on the node's network that looks names up in cluster DNS. KUBECONFIG is set; the host's files are all there.
    /// With a foreign cluster: a command on the host.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        Ok(self.command_from(From::Inside, program.as_ref()))
    }

    /// A command on the outside network, with source address 192.0.2.1 or, if it binds to it, 198.51.100.7. It knows the names of
    /// [`Cluster::map_host`] and no others. With a foreign cluster: a command on the host.
    pub fn outside_command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        Ok(self.command_from(From::Outside, program.as_ref()))
    }

    fn command_from(&self, from: From, program: &OsStr) -> Command {
        if let Some(local) = &self.local {
            return local.command(from, program);
        }
        let mut command = Command::new(program);
        command.env("KUBECONFIG", &self.kubeconfig).kill_on_drop(true);
        command
    }

    /// A runtime whose sockets belong to one end of the cluster's cable: servers and clients of this process go there by
    /// `cluster.runtime(Side::Outside)?.spawn(..)`. Local clusters only.
    pub fn runtime(&self, side: Side) -> Result<Handle> {
        let local = self
            .local
            .as_ref()
            .context("failed to enter the cluster's network: it is not a local cluster")?;
        Ok(match side {
            Side::Inside => local.inside.handle().clone(),
            Side::Outside => local.outside.handle().clone(),
        })
    }

    /// Makes a host name mean an address, in cluster DNS and outside. Takes effect within a second. Local clusters only.
    pub fn map_host(&self, name: &str, address: Ipv4Addr) -> Result<()> {
        let local = self
            .local
            .as_ref()
            .with_context(|| format!("failed to map {name}: not a local cluster; add it to its DNS"))?;
        dns::map_host(&local.folder, name, address)
    }

    /// What every write to the API server was and who made it, an audit event (JSON) a line; without events and leases.
    /// Local clusters only.
    pub fn audit_log(&self) -> Result<PathBuf> {
        let local = self
            .local
            .as_ref()
            .context("failed to find the audit log: not a local cluster")?;
        Ok(local.folder.logs().join("audit.log"))
    }

    /// Puts an image archive ([`crate::image::write_image`]) where the cluster's pods find it, with imagePullPolicy Never or IfNotPresent.
    pub async fn load_image(&self, archive: &Path) -> Result<()> {
        if let Some(local) = &self.local {
            return images::import(&mut local.containerd_client(), archive).await;
        }
        load_by_template(&image_loader()?, archive).await
    }

    /// Whether images can get in, asked before minutes are spent on building them.
    pub fn check_images_can_be_loaded(&self) -> Result<()> {
        if self.local.is_none() {
            image_loader()?;
        }
        Ok(())
    }

    /// What [`IMAGE_LOAD_VARIABLE`] is for another process that uses this local cluster.
    pub fn image_load_template(&self) -> Option<String> {
        self.local.as_ref().map(Local::image_load_template)
    }

    /// Listens on 127.0.0.1 of the host (port 0: any free one) and forwards connections to a Service's pods, until this cluster is dropped.
    pub async fn forward(
        &self,
        namespace: &str,
        service: &str,
        service_port: u16,
        local_port: u16,
    ) -> Result<SocketAddr> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, local_port)).await;
        let listener = listener.with_context(|| format!("failed to listen on 127.0.0.1:{local_port}"))?;
        let address = listener.local_addr()?;
        let target = forward::Target {
            namespace: namespace.to_owned(),
            service: service.to_owned(),
            port: service_port,
        };
        let node = self.local.as_ref().map(|local| local.inside.handle().clone());
        let task = tokio::spawn(forward::serve(listener, self.client(), target, node));
        self.forwards
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(task.abort_handle());
        Ok(address)
    }

    /// Ends a local cluster and waits until nothing of it is left; lets go of a foreign one.
    pub async fn stop(mut self) -> Result<()> {
        match self.local.take() {
            Some(local) => local.stop().await,
            None => Ok(()),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for task in self
            .forwards
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            task.abort();
        }
    }
}

async fn installed_or_built(name: &str, progress: &Progress) -> Result<PathBuf> {
    match packages::find_program(name) {
        Some(path) => Ok(path),
        None => tools::tool(name, progress).await,
    }
}

fn image_loader() -> Result<String> {
    let template = std::env::var(IMAGE_LOAD_VARIABLE)
        .ok()
        .filter(|template| template.contains("{}"));
    template.with_context(|| {
        format!("failed to find out how this cluster takes image archives: set {IMAGE_LOAD_VARIABLE} to a command with {{}} for the path, such as \"kind load image-archive {{}}\"")
    })
}

/// The path is an argument of its own, whatever characters it has.
async fn load_by_template(template: &str, archive: &Path) -> Result<()> {
    let mut words = template.split_whitespace();
    let Some(program) = words.next() else {
        bail!(
            "failed to load {}: {IMAGE_LOAD_VARIABLE} is empty",
            archive.display()
        );
    };
    let arguments = words.map(|word| word.replace("{}", &archive.display().to_string()));
    let status = Command::new(program)
        .args(arguments)
        .status()
        .await
        .with_context(|| format!("failed to run {program}"))?;
    ensure!(
        status.success(),
        "failed to load {}: {program} ended with {status}",
        archive.display()
    );
    Ok(())
}

async fn client_of(kubeconfig: &Path) -> Result<Client> {
    let context = || format!("failed to use kubeconfig {}", kubeconfig.display());
    let options = KubeConfigOptions::default();
    let config =
        Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig).with_context(context)?, &options)
            .await;
    let mut config = config.with_context(context)?;
    let name = concat!("mcp-fleet-e2e/", env!("CARGO_PKG_VERSION"));
    config
        .headers
        .push((http::header::USER_AGENT, http::HeaderValue::from_static(name)));
    Client::try_from(config).with_context(context)
}
