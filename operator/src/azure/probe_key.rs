//! Keys of probe subscriptions, derived instead of stored: a restart needs no listSecrets, which counts as a write.
//!
//! In: a master key from the operator's Secret, made once, and what the key is for. Out: the key.

use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};

use crate::constants::{PROBE_SECRET, PROBE_SECRET_KEY, field_managers, labels};
use crate::kube_write::{WriteError, Writer, limited};

const KIND: &str = "Secret";
const MASTER_BYTES: usize = 32;

/// The master key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ProbeKeyError {
    #[error(transparent)]
    Kubernetes(#[from] WriteError),
    #[error(
        "the Secret {namespace}/{PROBE_SECRET} has no entry {PROBE_SECRET_KEY} of {MASTER_BYTES} bytes: delete it, and a new one is made"
    )]
    Malformed { namespace: String },
}

/// Derives keys.
#[derive(Clone)]
pub struct ProbeKeys {
    master: Arc<hmac::Key>,
}

impl std::fmt::Debug for ProbeKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("ProbeKeys")
    }
}

impl ProbeKeys {
    pub fn new(master: &[u8]) -> Self {
        Self {
            master: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, master)),
        }
    }

    /// The key of a probe: base64url of HMAC-SHA256 over an ARM id (of a server's API, or of the subscription of a
    /// gateway's probe) and the uid of the object that it belongs to.
    pub fn derive(&self, arm_id: &str, uid: &str) -> String {
        let tag = hmac::sign(
            &self.master,
            format!("probe\n{}\n{uid}", arm_id.to_ascii_lowercase()).as_bytes(),
        );
        URL_SAFE_NO_PAD.encode(tag.as_ref())
    }

    /// HMAC-SHA256 over a text that begins with what it is for: no two uses may share one.
    pub(super) fn sign(&self, text: &str) -> [u8; 32] {
        let tag = hmac::sign(&self.master, text.as_bytes());
        let mut bytes = [0; 32];
        for (to, from) in bytes.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        bytes
    }
}

impl ProbeKeys {
    /// What stands for a content that nobody must be able to guess from it: the beginning of an HMAC-SHA256 over its JSON.
    pub fn digest<T: serde::Serialize>(&self, content: &T) -> String {
        // Maps are sorted, so equal contents have equal JSON; a map of texts always has one.
        let json = serde_json::to_vec(content).unwrap_or_default();
        let mut signer = hmac::Context::with_key(&self.master);
        signer.update(b"config\n");
        signer.update(&json);
        let mut digest = hex::encode(signer.sign());
        digest.truncate(16);
        digest
    }
}

/// Reads the master key, or makes it from `random` when the Secret is absent.
pub async fn load(
    writer: &Writer,
    namespace: &str,
    random: [u8; MASTER_BYTES],
) -> Result<ProbeKeys, ProbeKeyError> {
    let api = Api::<Secret>::namespaced(writer.client.clone(), namespace);
    let present = limited("get", KIND, PROBE_SECRET, api.get_opt(PROBE_SECRET)).await?;
    let secret = match present {
        Some(secret) => secret,
        None => create(writer, &api, random).await?,
    };
    let master = secret.data.as_ref().and_then(|data| data.get(PROBE_SECRET_KEY));
    match master {
        Some(ByteString(bytes)) if bytes.len() >= MASTER_BYTES => Ok(ProbeKeys::new(bytes)),
        _ => Err(ProbeKeyError::Malformed {
            namespace: namespace.to_owned(),
        }),
    }
}

async fn create(
    writer: &Writer,
    api: &Api<Secret>,
    random: [u8; MASTER_BYTES],
) -> Result<Secret, ProbeKeyError> {
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(PROBE_SECRET.to_owned()),
            // Not the label that the cache of children selects by: this Secret belongs to no object.
            labels: Some([(labels::COMPONENT.to_owned(), "probe".to_owned())].into()),
            ..ObjectMeta::default()
        },
        immutable: Some(true),
        data: Some([(PROBE_SECRET_KEY.to_owned(), ByteString(random.to_vec()))].into()),
        ..Secret::default()
    };
    let parameters = PostParams {
        field_manager: Some(field_managers::CHILDREN.to_owned()),
        ..PostParams::default()
    };
    match writer
        .write("create", KIND, PROBE_SECRET, api.create(&parameters, &secret))
        .await
    {
        // Another instance was faster.
        Err(error) if error.code() == Some(409) => {
            Ok(limited("get", KIND, PROBE_SECRET, api.get(PROBE_SECRET)).await?)
        }
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::ProbeKeys;

    #[test]
    fn keys_differ_by_everything_and_fit_the_service() {
        let keys = ProbeKeys::new(&[7; 32]);
        let key = keys.derive("/apis/a", "uid");
        assert_eq!(
            key,
            keys.derive("/APIS/a", "uid"),
            "ARM ids are equal in any case"
        );
        assert_eq!(key, ProbeKeys::new(&[7; 32]).derive("/apis/a", "uid"));
        assert_ne!(key, keys.derive("/apis/a", "other"));
        assert_ne!(key, keys.derive("/apis/b", "uid"));
        assert_ne!(key, ProbeKeys::new(&[8; 32]).derive("/apis/a", "uid"));
        // API Management takes keys of 1 to 256 characters.
        assert_eq!(key.len(), 43);
    }
}
