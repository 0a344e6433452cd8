//! Clients that are not written here: the official Python and TypeScript SDKs in both their lines and FastMCP's client, called by
//! small scripts, and MCP Inspector.
//!
//! In: package registries, once; later a cache in the user's cache folder. Out: [`Clients`], which run a script where the caller
//! wants it to run.

pub mod environment;
mod report;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

pub use self::report::{Answer, Arrival, Call, MODERN, Report};
use crate::progress::Progress;

const TYPESCRIPT: [&str; 3] = ["visit.mjs", "mcp_client.mjs", "mcp_client_1.mjs"];

/// Which SDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sdk {
    /// The official one, second line.
    Python,
    /// The official one, first line.
    Python1,
    FastMcp,
    /// The official one, second line.
    TypeScript,
    /// The official one, first line.
    TypeScript1,
}

/// A transport and an era.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    pub name: &'static str,
    /// `streamable-http` or `sse`.
    pub transport: &'static str,
    /// `auto`, `legacy`, or a revision.
    pub mode: &'static str,
    pub modern: bool,
}

/// Every way in which an agent may come.
pub const WAYS: [Way; 3] = [
    Way {
        name: "streamable_http_modern",
        transport: "streamable-http",
        mode: MODERN,
        modern: true,
    },
    Way {
        name: "streamable_http_handshake",
        transport: "streamable-http",
        mode: "legacy",
        modern: false,
    },
    Way {
        name: "sse",
        transport: "sse",
        mode: "legacy",
        modern: false,
    },
];

/// What a script is asked to do.
#[derive(Debug, Clone, Copy)]
pub struct Visit<'a> {
    pub sdk: Sdk,
    pub url: &'a str,
    pub way: Way,
    pub key: Option<&'a str>,
    /// Certificates to trust, when the URL is HTTPS.
    pub authority: Option<&'a Path>,
}

/// Programs and scripts of the clients.
#[derive(Debug)]
pub struct Clients {
    pythons: BTreeMap<Sdk, PathBuf>,
    node: PathBuf,
    typescript: PathBuf,
    inspector: PathBuf,
}

/// Makes the command for a program, in the network where the client shall be.
pub type Start<'a> = &'a (dyn Fn(&Path) -> Result<Command> + Sync);

impl Sdk {
    /// Revisions without a handshake are known to the second lines alone.
    pub fn speaks(self, way: Way) -> bool {
        !way.modern || !matches!(self, Self::Python1 | Self::TypeScript1)
    }

    /// The script, and what its interpreter must find; nothing for TypeScript, whose lines share one folder.
    fn files(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Python => ("mcp_client.py", Some("requirements.txt")),
            Self::Python1 => ("mcp_client_1.py", Some("requirements-1.txt")),
            Self::FastMcp => ("fastmcp_client.py", Some("requirements-fastmcp.txt")),
            Self::TypeScript => ("mcp_client.mjs", None),
            Self::TypeScript1 => ("mcp_client_1.mjs", None),
        }
    }
}

impl Way {
    /// The endpoint of this transport, where /mcp is at `url`: the SSE endpoint stands beside it.
    pub fn endpoint(self, url: &str) -> String {
        match self.transport {
            "sse" => format!("{}/sse", url.trim_end_matches("/mcp")),
            _ => url.to_owned(),
        }
    }
}

impl Clients {
    /// Installs these, MCP Inspector and a Node.js into the user's cache, by what their requirements say.
    pub async fn prepare(sdks: &[Sdk], progress: &Progress) -> Result<Self> {
        let step = progress.start("installing the official MCP clients");
        let scripts = environment::scripts();
        let node = environment::node().await?;
        let mut pythons = BTreeMap::new();
        for sdk in sdks {
            if let (_, Some(requirements)) = sdk.files() {
                let python = environment::python(&scripts.join("python").join(requirements)).await?;
                pythons.insert(*sdk, python);
            }
        }
        let typescript = environment::modules(&node, &scripts.join("typescript"), &TYPESCRIPT).await?;
        let inspector = environment::modules(&node, &scripts.join("inspector"), &[]).await?;
        step.done();
        Ok(Self {
            pythons,
            node,
            typescript,
            inspector,
        })
    }

    /// A Node.js that is new enough for everything here.
    pub fn node(&self) -> &Path {
        &self.node
    }

    /// MCP Inspector without its browser: one method, as JSON.
    pub async fn inspect(&self, start: Start<'_>, arguments: &[OsString]) -> Result<serde_json::Value> {
        let mut command = start(&self.node)?;
        command
            .arg(self.inspector.join("node_modules/.bin/mcp-inspector"))
            .arg("--cli")
            .args(arguments)
            // It starts a program of its own, by name.
            .env("PATH", environment::path_with(&self.node)?);
        let text = output(command).await?;
        serde_json::from_str(&text).with_context(|| format!("failed to understand MCP Inspector: {text}"))
    }

    /// Lists and calls the weather tools.
    pub async fn call(&self, start: Start<'_>, visit: Visit<'_>) -> Result<Report> {
        let text = output(self.visit(start, visit)?).await?;
        serde_json::from_str(&text).with_context(|| format!("failed to understand the client: {text}"))
    }

    /// The command of a visit.
    pub fn visit(&self, start: Start<'_>, visit: Visit<'_>) -> Result<Command> {
        let Visit {
            sdk,
            url,
            way,
            key,
            authority,
        } = visit;
        let (script, requirements) = sdk.files();
        let mut command = if requirements.is_some() {
            let python = self.pythons.get(&sdk).context("an SDK that was not prepared")?;
            let mut command = start(python)?;
            command.arg(environment::scripts().join("python").join(script));
            command
        } else {
            let mut command = start(&self.node)?;
            command.arg(self.typescript.join(script));
            command
        };
        command
            .args(["--url", url])
            .args(["--transport", way.transport])
            .args(["--mode", way.mode])
            .env_remove("MCP_KEY");
        if let Some(key) = key {
            command.env("MCP_KEY", key);
        }
        if let Some(authority) = authority {
            command
                .env("SSL_CERT_FILE", authority)
                .env("NODE_EXTRA_CA_CERTS", authority);
        }
        Ok(command)
    }

    /// What Microsoft's management library for Python reads.
    pub async fn read_back(
        &self,
        start: Start<'_>,
        token: &str,
        authority: &Path,
        arguments: &BTreeMap<&str, String>,
    ) -> Result<serde_json::Value> {
        let python = self
            .pythons
            .get(&Sdk::Python)
            .context("Python was not prepared")?;
        let mut command = start(python)?;
        command
            .arg(environment::scripts().join("python/read_back.py"))
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
        "the client ended with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
