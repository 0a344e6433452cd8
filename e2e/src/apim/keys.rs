//! The public keys with which the cluster signs service-account tokens.
//! In: where they come from. Out: the keys and the issuer, read again when a token names a key that is not among
//! them.

use std::time::{Duration, Instant};

use anyhow::Context;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use serde_json::Value;
use tokio::sync::Mutex;

use super::config::KeySource;

#[derive(Clone, Debug)]
struct Known {
    set: JwkSet,
    issuer: Option<String>,
    read: Instant,
}

#[derive(Debug)]
pub(crate) struct KeyCache {
    source: KeySource,
    known: Mutex<Option<Known>>,
}

/// A wrong key id makes the keys be read again at most this often.
const REREAD: Duration = Duration::from_secs(5);

impl KeyCache {
    pub(crate) fn new(source: KeySource) -> Self {
        Self {
            source,
            known: Mutex::new(None),
        }
    }

    /// The key by this id, and the issuer if the source names one.
    pub(crate) async fn find(&self, id: Option<&str>) -> anyhow::Result<Option<(Jwk, Option<String>)>> {
        let mut known = self.known.lock().await;
        let pick = |known: &Known| {
            let key = match id {
                Some(id) => known.set.find(id),
                None => known.set.keys.first(),
            };
            key.map(|key| (key.clone(), known.issuer.clone()))
        };
        if let Some(current) = known.as_ref() {
            let found = pick(current);
            if found.is_some() || current.read.elapsed() < REREAD {
                return Ok(found);
            }
        }
        let fresh = read(&self.source).await?;
        let found = pick(&fresh);
        *known = Some(fresh);
        Ok(found)
    }
}

async fn read(source: &KeySource) -> anyhow::Result<Known> {
    let mut issuer = None;
    let set = match source {
        KeySource::None => JwkSet { keys: Vec::new() },
        KeySource::Keys(set) => set.clone(),
        KeySource::File(path) => {
            let text = tokio::fs::read(path)
                .await
                .with_context(|| format!("failed to read {}", path.display()))?;
            serde_json::from_slice(&text)?
        }
        KeySource::Url(url) => reqwest::get(url).await?.error_for_status()?.json().await?,
        KeySource::Kubernetes => {
            let client = kube::Client::try_default()
                .await
                .context("failed to reach the API server for its keys")?;
            let get = |path: &str| http::Request::get(path).body(Vec::new());
            let configuration: Value = client.request(get("/.well-known/openid-configuration")?).await?;
            issuer = configuration["issuer"].as_str().map(str::to_owned);
            client.request(get("/openid/v1/jwks")?).await?
        }
    };
    Ok(Known {
        set,
        issuer,
        read: Instant::now(),
    })
}
