//! An agent's calls, in a few lines: JSON-RPC over HTTPS with a subscription key.
//!
//! In: the gateway's URL of a server, a key, the certificate authority. Out: results of MCP methods at revision 2026-07-28.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::{Certificate, Client, RequestBuilder};
use serde_json::{Value, json};

const REVISION: &str = "2026-07-28";
const LIMIT: Duration = Duration::from_secs(30);

/// An HTTPS client that trusts `authority` beside nothing else and finds `host` at `address`.
pub fn client(authority: &Path, host: &str, address: SocketAddr) -> Result<Client> {
    let pem = std::fs::read(authority).with_context(|| format!("failed to read {}", authority.display()))?;
    let builder = Client::builder()
        .tls_certs_only([Certificate::from_pem(&pem)?])
        .resolve(host, address)
        .no_proxy()
        .timeout(LIMIT);
    builder.build().context("failed to make a client")
}

/// A caller with a key.
#[derive(Debug, Clone)]
pub struct Agent {
    pub client: Client,
    pub url: String,
    pub key: Option<String>,
}

impl Agent {
    /// The request of an MCP method; `name` is the tool for tools/call.
    pub fn request(&self, method: &str, name: Option<&str>, parameters: Value) -> RequestBuilder {
        let mut parameters = parameters;
        parameters["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": REVISION,
            "io.modelcontextprotocol/clientInfo": {"name": "mcp-fleet-demo", "version": env!("CARGO_PKG_VERSION")},
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let mut request = self
            .client
            .post(&self.url)
            .header("Accept", "application/json, text/event-stream")
            .header("MCP-Protocol-Version", REVISION)
            .header("Mcp-Method", method)
            .json(&json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}));
        // get_alerts marks its state with `x-mcp-header`; no other tool called here has such an argument.
        if let Some(state) = parameters["arguments"]["state"].as_str() {
            request = request.header("Mcp-Param-State", state);
        }
        if let Some(name) = name {
            request = request.header("Mcp-Name", name);
        }
        match &self.key {
            Some(key) => request.header("Ocp-Apim-Subscription-Key", key),
            None => request,
        }
    }

    /// The result of a method, or what the server said instead.
    pub async fn call(&self, method: &str, name: Option<&str>, parameters: Value) -> Result<Value> {
        let what = name.unwrap_or(method);
        let response = self
            .request(method, name, parameters)
            .send()
            .await
            .with_context(|| format!("failed to call {what}"))?;
        let status = response.status();
        let text = response
            .text()
            .await
            .with_context(|| format!("failed to read the answer of {what}"))?;
        if !status.is_success() {
            bail!("failed to call {what}: {status}: {text}");
        }
        let message: Value = serde_json::from_str(json_of(&text))
            .with_context(|| format!("failed to understand the answer of {what}: {text}"))?;
        match message.get("result") {
            Some(result) if result["isError"] != json!(true) => Ok(result.clone()),
            _ => bail!("failed to call {what}: {text}"),
        }
    }

    /// Names of the tools.
    pub async fn tools(&self) -> Result<Vec<String>> {
        let result = self.call("tools/list", None, json!({})).await?;
        let tools = result["tools"].as_array().cloned().unwrap_or_default();
        Ok(tools
            .iter()
            .filter_map(|tool| tool["name"].as_str().map(str::to_owned))
            .collect())
    }

    /// The text that a tool answers.
    pub async fn tool(&self, name: &str, arguments: Value) -> Result<String> {
        let result = self
            .call(
                "tools/call",
                Some(name),
                json!({"name": name, "arguments": arguments}),
            )
            .await?;
        let blocks = result["content"].as_array().cloned().unwrap_or_default();
        let texts: Vec<_> = blocks.iter().filter_map(|block| block["text"].as_str()).collect();
        Ok(texts.join("\n"))
    }
}

/// A server may answer with JSON or with one event.
fn json_of(text: &str) -> &str {
    text.lines()
        .find_map(|line| line.strip_prefix("data:"))
        .map_or(text, str::trim)
}
