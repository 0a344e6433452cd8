//! Clients that stay: a real one that calls when it is told to, and a bare reader of an event stream that sees what is on the wire.

use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use mcp_fleet_e2e::clients::Answer;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::server::LIMIT;

/// An SDK's client that is connected. It ends when this is dropped.
#[derive(Debug)]
pub struct Session {
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

/// What became of a call.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Outcome {
    Answered(Answer),
    Failed { failed: String },
}

impl Session {
    /// Runs a client's script with `--attend` and waits until it is connected.
    pub async fn start(mut command: Command) -> Result<Self> {
        command
            .arg("--attend")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        let mut child = command.spawn().context("failed to start a client")?;
        let orders = child.stdin.take().context("no input")?;
        let answers = BufReader::new(child.stdout.take().context("no output")?).lines();
        let mut session = Self {
            orders,
            answers,
            _child: child,
        };
        session.line().await.context("the client did not connect")?;
        Ok(session)
    }

    /// Tells it to call and does not wait.
    pub async fn order(&mut self, tool: &str, arguments: &Value) -> Result<()> {
        let line = format!("{}\n", json!([tool, arguments]));
        Ok(self.orders.write_all(line.as_bytes()).await?)
    }

    /// Of the oldest order.
    pub async fn outcome(&mut self) -> Result<Outcome> {
        let line = self.line().await?;
        serde_json::from_str(&line).with_context(|| format!("failed to understand the client: {line}"))
    }

    pub async fn call(&mut self, state: &str) -> Result<Outcome> {
        self.order("get_alerts", &json!({"state": state})).await?;
        self.outcome().await
    }

    /// A call that must be answered.
    pub async fn check_call(&mut self, state: &str) -> Result<()> {
        match self.call(state).await? {
            Outcome::Answered(answer) => answer.check(),
            Outcome::Failed { failed } => bail!("the call failed: {failed}"),
        }
    }

    async fn line(&mut self) -> Result<String> {
        let line = timeout(LIMIT, self.answers.next_line()).await;
        line.context("the client says nothing")??
            .context("the client ended")
    }
}

/// An event stream, block by block.
#[derive(Debug)]
pub struct Stream {
    response: reqwest::Response,
    text: String,
    /// Where to POST.
    endpoint: url::Url,
}

impl Stream {
    /// Opens the stream beside /mcp at `url`.
    pub async fn open(url: &str) -> Result<Self> {
        let url = url::Url::parse(url)?.join("sse")?;
        let response = client()?.get(url.clone()).send().await?.error_for_status()?;
        let mut stream = Self {
            response,
            text: String::new(),
            endpoint: url,
        };
        let first = stream.next().await?.context("the stream ended at once")?;
        let reference = first
            .strip_prefix("event: endpoint\ndata: ")
            .with_context(|| format!("the first event is not the endpoint: {first}"))?;
        stream.endpoint = stream.endpoint.join(reference)?;
        Ok(stream)
    }

    /// The next event or comment; none when the stream ended as it should. One that was cut off is an error.
    pub async fn next(&mut self) -> Result<Option<String>> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return Ok(Some(block));
            }
            let chunk = timeout(LIMIT, self.response.chunk()).await;
            let Some(chunk) = chunk.context("nothing comes on the stream")?? else {
                return Ok(None);
            };
            self.text.push_str(std::str::from_utf8(&chunk)?);
        }
    }

    /// A ping that comes back on the stream.
    pub async fn check(&mut self) -> Result<()> {
        let ping = json!({"jsonrpc": "2.0", "id": 7, "method": "ping"});
        let posted = client()?.post(self.endpoint.clone()).json(&ping).send().await?;
        ensure!(posted.status() == 202, "the message is taken: {posted:?}");
        while let Some(block) = self.next().await? {
            if let Some(data) = block.strip_prefix("event: message\ndata: ") {
                let answer: Value = serde_json::from_str(data)?;
                ensure!(
                    answer == json!({"jsonrpc": "2.0", "id": 7, "result": {}}),
                    "{answer}"
                );
                return Ok(());
            }
        }
        bail!("the stream ended")
    }
}

/// A connection for each request: a kept one may be closed by the server just as it is used.
pub fn client() -> Result<reqwest::Client> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .pool_max_idle_per_host(0);
    Ok(client.build()?)
}
