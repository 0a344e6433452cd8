//! Rust client of the test controls.
//! In: the controls' base URL. Out: documents, journals, and changed behaviour.

use anyhow::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::control::{GatewayRequests, Requests};
use super::fault::Fault;
use super::journal::Counters;
use super::state::Down;
use super::switches::Switches;

#[derive(Clone, Debug)]
pub struct Control {
    base: String,
    http: reqwest::Client,
}

impl Control {
    /// `base` such as `http://127.0.0.1:9000`.
    pub fn new(base: impl Into<String>) -> Self {
        Self {
            base: base.into().trim_end_matches('/').to_owned(),
            http: reqwest::Client::new(),
        }
    }

    pub fn url(&self) -> &str {
        &self.base
    }

    async fn call(&self, request: reqwest::RequestBuilder) -> anyhow::Result<reqwest::Response> {
        let response = request
            .send()
            .await
            .with_context(|| format!("failed to reach the controls at {}", self.base))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        anyhow::bail!(
            "the controls answered {status}: {}",
            response.text().await.unwrap_or_default()
        )
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        Ok(self
            .call(self.http.get(format!("{}{path}", self.base)))
            .await?
            .json()
            .await?)
    }

    async fn post(&self, path: &str, body: &impl Serialize) -> anyhow::Result<reqwest::Response> {
        self.call(self.http.post(format!("{}{path}", self.base)).json(body))
            .await
    }

    /// All documents, with `path` below the service, `properties` and `etag`; keys are hidden.
    pub async fn documents(&self) -> anyhow::Result<Vec<Value>> {
        self.get("/documents").await
    }

    /// The document at this path below the service, such as `apis/weather`.
    pub async fn document(&self, path: &str) -> anyhow::Result<Option<Value>> {
        let all = self.documents().await?;
        let wanted = path.to_lowercase();
        Ok(all.into_iter().find(|document| {
            document["path"]
                .as_str()
                .is_some_and(|path| path.to_lowercase() == wanted)
        }))
    }

    /// Paths below the service of everything that is not there from the start.
    pub async fn paths(&self) -> anyhow::Result<Vec<String>> {
        let all = self.documents().await?;
        let paths = all.iter().filter_map(|document| document["path"].as_str());
        let built_in = |path: &str| path.starts_with("groups/") || path.ends_with("/groups/administrators");
        Ok(paths.filter(|path| !built_in(path)).map(str::to_owned).collect())
    }

    pub async fn requests(&self, since: u64) -> anyhow::Result<Requests> {
        self.get(&format!("/requests?since={since}")).await
    }

    pub async fn counters(&self) -> anyhow::Result<Counters> {
        Ok(self.requests(u64::MAX).await?.counters)
    }

    pub async fn gateway_requests(&self, since: u64) -> anyhow::Result<GatewayRequests> {
        self.get(&format!("/gateway/requests?since={since}")).await
    }

    pub async fn switches(&self) -> anyhow::Result<Switches> {
        self.get("/switches").await
    }

    /// Changes the named switches only, such as `{"importStatus": 202}`.
    pub async fn set(&self, changes: Value) -> anyhow::Result<Switches> {
        Ok(self.post("/switches", &changes).await?.json().await?)
    }

    pub async fn fault(&self, fault: &Fault) -> anyhow::Result<()> {
        self.post("/faults", fault).await.map(drop)
    }

    pub async fn clear_faults(&self) -> anyhow::Result<()> {
        self.call(self.http.delete(format!("{}/faults", self.base)))
            .await
            .map(drop)
    }

    pub async fn down(&self, down: Down) -> anyhow::Result<()> {
        self.post("/down", &down).await.map(drop)
    }

    pub async fn revoke_tokens(&self) -> anyhow::Result<()> {
        self.call(self.http.delete(format!("{}/tokens", self.base)))
            .await
            .map(drop)
    }

    /// Back to the first state: documents, switches, faults, journals.
    pub async fn reset(&self) -> anyhow::Result<()> {
        self.post("/reset", &json!({})).await.map(drop)
    }
}
