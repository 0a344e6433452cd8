//! What the trials share: programs, clients, a replay of the weather service, and two replicas that ask it.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use mcp_fleet_e2e::clients::{Clients, Report, Sdk, Visit, Way};
use mcp_fleet_e2e::install::programs;
use mcp_fleet_e2e::nws::{self, Replay};
use mcp_fleet_e2e::progress::Progress;
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::conformance::Suite;
use crate::proxy::Proxy;
use crate::server::Replicas;

/// Every SDK, by what trials are named after.
pub const SDKS: [(Sdk, &str); 5] = [
    (Sdk::Python, "python_2"),
    (Sdk::Python1, "python_1"),
    (Sdk::TypeScript, "typescript_2"),
    (Sdk::TypeScript1, "typescript_1"),
    (Sdk::FastMcp, "fastmcp"),
];

/// Where a client finds the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// One replica, at its own address.
    Direct,
    /// Two replicas that take turns, behind a proxy that strips a prefix.
    Proxied,
}

pub const PLACES: [(Place, &str); 2] = [
    (Place::Direct, "directly"),
    (Place::Proxied, "through_a_prefix_and_two_replicas"),
];

#[derive(Debug)]
pub struct World {
    /// The program.
    pub weather: PathBuf,
    pub clients: Clients,
    pub nws: Replay,
    pub replicas: Replicas,
    pub progress: Progress,
    /// Made by the first trial that needs them.
    suite: OnceCell<Suite>,
    conformance_server: OnceCell<PathBuf>,
}

impl World {
    pub async fn start(progress: Progress) -> Result<Self> {
        let weather = programs::build_weather(&progress).await?;
        let clients = Clients::prepare(&SDKS.map(|(sdk, _)| sdk), &progress).await?;
        let nws = Replay::start(nws::Options::default()).await?;
        let replicas = Replicas::start(&weather, &nws.url, &[]).await?;
        Ok(Self {
            weather,
            clients,
            nws,
            replicas,
            progress,
            suite: OnceCell::new(),
            conformance_server: OnceCell::new(),
        })
    }

    pub async fn suite(&self) -> Result<&Suite> {
        let prepare = || Suite::prepare(self.clients.node(), &self.progress);
        self.suite.get_or_try_init(prepare).await
    }

    pub async fn conformance_server(&self) -> Result<&Path> {
        let build = || programs::build_conformance(&self.progress);
        Ok(self.conformance_server.get_or_try_init(build).await?)
    }

    /// Runs a trial with the URL of /mcp at `place`. Behind the proxy, both replicas must have been asked.
    pub async fn at(&self, place: Place, trial: impl AsyncFnOnce(&str) -> Result<()>) -> Result<()> {
        if place == Place::Direct {
            return trial(&self.replicas.servers[0].url()).await;
        }
        let proxy = Proxy::start(&self.replicas.addresses()).await?;
        trial(&proxy.url).await?;
        let seen = proxy.seen();
        for replica in 0..self.replicas.servers.len() {
            ensure!(
                seen.iter().any(|seen| seen.replica == Some(replica)),
                "replica {replica} was asked: {seen:?}"
            );
        }
        ensure!(
            seen.iter().all(|seen| seen.replica.is_some()),
            "every request kept to the prefix: {seen:?}"
        );
        Ok(())
    }

    /// The command of an SDK's client.
    pub fn client(&self, sdk: Sdk, way: Way, url: &str) -> Result<Command> {
        self.clients.visit(&here, visit(sdk, way, &way.endpoint(url)))
    }

    /// Lists and calls the tools with an SDK's client.
    pub async fn call(&self, sdk: Sdk, way: Way, url: &str) -> Result<Report> {
        self.clients
            .call(&here, visit(sdk, way, &way.endpoint(url)))
            .await
    }
}

/// Clients run where the tests do.
#[expect(
    clippy::unnecessary_wraps,
    reason = "elsewhere a client's place may not be there"
)]
pub fn here(program: &Path) -> Result<Command> {
    Ok(Command::new(program))
}

fn visit(sdk: Sdk, way: Way, url: &str) -> Visit<'_> {
    Visit {
        sdk,
        url,
        way,
        key: None,
        authority: None,
    }
}
