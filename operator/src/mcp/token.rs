//! The token that a server demands of its clients. In: an entry of a Secret; out: a header that `Debug` masks.
//!
//! One GET for each look, so that a changed Secret counts from the next look on, and nothing is kept. The Secret is read
//! up to a limit and only its one entry is looked into: it belongs to a tenant.
//!
//! RBAC: `get` on secrets.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt as _;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body;
use mcp_fleet_crds::TokenSecret;
use serde::Deserialize;

use super::error::cut;
use super::json::{self, Member};

/// Bytes of the Secret as the API server sends it, and of the token.
const SECRET: usize = 128 * 1024;
const TOKEN: usize = 8 * 1024;
const LIMIT: Duration = Duration::from_secs(15);

/// There is no token to send.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error(
        "probe.tokenSecretRef names Secret {secret}, which is not there: create it, or remove the reference"
    )]
    NoSecret { secret: String },
    #[error("Secret {secret} has no entry {key}, which probe.tokenSecretRef names")]
    NoKey { secret: String, key: String },
    #[error("entry {key} of Secret {secret} cannot be sent as a token: {problem}")]
    Unusable {
        secret: String,
        key: String,
        problem: &'static str,
    },
    #[error(
        "Secret {secret} takes more than {} KiB: keep the token of probe.tokenSecretRef in a Secret of its own",
        SECRET / 1024
    )]
    TooLarge { secret: String },
    #[error("failed to read Secret {secret} for probe.tokenSecretRef: {cause}")]
    Read { secret: String, cause: String },
}

#[derive(Default, Deserialize)]
struct Secret<'a> {
    #[serde(borrow, default)]
    data: Member<'a>,
}

/// Reads the token.
pub async fn read(
    client: &kube::Client,
    namespace: &str,
    reference: &TokenSecret,
) -> Result<HeaderValue, TokenError> {
    let TokenSecret { name, key } = reference;
    let secret = || format!("{namespace}/{name}");
    let text = match tokio::time::timeout(LIMIT, fetch(client, namespace, name)).await {
        Ok(Ok(text)) => text,
        Ok(Err(Fetch::Absent)) => return Err(TokenError::NoSecret { secret: secret() }),
        Ok(Err(Fetch::TooLarge)) => return Err(TokenError::TooLarge { secret: secret() }),
        Ok(Err(Fetch::Failed(cause))) => {
            return Err(TokenError::Read {
                secret: secret(),
                cause,
            });
        }
        Err(_) => {
            let cause = format!("no answer from the API server within {} s", LIMIT.as_secs());
            return Err(TokenError::Read {
                secret: secret(),
                cause,
            });
        }
    };
    let found: Secret<'_> = json::object(&text).unwrap_or_default();
    let entry = found.data.and_then(|data| json::member(data.get(), key));
    let entry = entry.ok_or_else(|| TokenError::NoKey {
        secret: secret(),
        key: key.clone(),
    })?;
    header(entry).map_err(|problem| TokenError::Unusable {
        secret: secret(),
        key: key.clone(),
        problem,
    })
}

/// Why there is no text of a Secret.
enum Fetch {
    Absent,
    TooLarge,
    Failed(String),
}

async fn fetch(client: &kube::Client, namespace: &str, name: &str) -> Result<String, Fetch> {
    let failed = |error: &dyn std::fmt::Display| Fetch::Failed(cut(&error.to_string()));
    // The schema asks for it; a path is no place for anything else, whatever the schema was when the object came.
    let plain = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
            && !text.starts_with('.')
    };
    if !plain(namespace) || !plain(name) {
        return Err(Fetch::Absent);
    }
    let request = Request::get(format!("/api/v1/namespaces/{namespace}/secrets/{name}"))
        .body(Body::empty())
        .map_err(|error| failed(&error))?;
    let response = client.send(request).await.map_err(|error| failed(&error))?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Err(Fetch::Absent),
        other => {
            return Err(Fetch::Failed(format!(
                "the API server answered {}",
                other.as_u16()
            )));
        }
    }
    let mut stream = response.into_body().into_data_stream();
    let mut text = Vec::new();
    while let Some(chunk) = stream.next().await {
        text.extend_from_slice(&chunk.map_err(|error| failed(&error))?);
        if text.len() > SECRET {
            return Err(Fetch::TooLarge);
        }
    }
    String::from_utf8(text).map_err(|error| failed(&error.utf8_error()))
}

/// `Bearer` and the token, without the line end that `echo` and editors leave behind it.
fn header(entry: &serde_json::value::RawValue) -> Result<HeaderValue, &'static str> {
    let encoded = json::string(Some(entry), 4 * TOKEN / 3 + 4).ok_or("it takes more than 8 KiB")?;
    let bytes = STANDARD
        .decode(encoded.as_bytes())
        .map_err(|_| "it is not base64")?;
    let token = bytes.trim_ascii();
    if token.is_empty() {
        return Err("it is empty");
    }
    if !token.iter().all(u8::is_ascii_graphic) {
        return Err("it has spaces, line ends or other characters that no token has");
    }
    let mut value = HeaderValue::from_bytes(&[b"Bearer ", token].concat())
        .map_err(|_| "it has characters that no header may have")?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// An API server with one Secret.
    fn client(status: u16, secret: &Value) -> kube::Client {
        let text = secret.to_string();
        let service = tower::service_fn(move |request: Request<Body>| {
            let text = text.clone();
            async move {
                assert_eq!(
                    request.uri().path(),
                    "/api/v1/namespaces/tools/secrets/weather-token"
                );
                let mut response = http::Response::new(Body::from(text.into_bytes()));
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        kube::Client::new(service, "default")
    }

    async fn token(status: u16, secret: &Value) -> Result<HeaderValue, TokenError> {
        let reference = TokenSecret {
            name: "weather-token".to_owned(),
            key: "token".to_owned(),
        };
        read(&client(status, secret), "tools", &reference).await
    }

    #[tokio::test]
    async fn an_entry_becomes_a_header_that_is_masked() {
        let secret = json!({"data": {"other": "eA==", "token": STANDARD.encode("s3cret\n")}});
        let header = token(200, &secret).await.unwrap();
        assert_eq!(header, "Bearer s3cret");
        assert!(header.is_sensitive());
        assert!(!format!("{header:?}").contains("s3cret"));
    }

    #[tokio::test]
    async fn what_is_no_token_is_told_and_never_shown() {
        let entry = |text: &str| json!({"data": {"token": STANDARD.encode(text)}});
        let cases = [
            (404, json!({}), "which is not there"),
            (403, json!({}), "the API server answered 403"),
            (200, json!({}), "has no entry token"),
            (200, json!({"data": {"tokens": "eA=="}}), "has no entry token"),
            (200, json!({"data": {"token": "s3cret"}}), "not base64"),
            (200, entry(" \n"), "it is empty"),
            (200, entry("s3cret two"), "spaces"),
            (200, entry(&"s3cret".repeat(2_000)), "more than 8 KiB"),
            (
                200,
                json!({"data": {"x": "s3cret".repeat(30_000)}}),
                "a Secret of its own",
            ),
        ];
        for (status, secret, part) in cases {
            let error = token(status, &secret).await.unwrap_err();
            let (shown, debug) = (error.to_string(), format!("{error:?}"));
            assert!(
                shown.contains(part) && shown.contains("tools/weather-token"),
                "{shown}"
            );
            assert!(!shown.contains("s3cret") && !debug.contains("s3cret"), "{shown}");
        }
    }

    #[tokio::test]
    async fn a_name_is_no_path() {
        let reference = TokenSecret {
            name: "../../../../apis".to_owned(),
            key: "token".to_owned(),
        };
        let error = read(&client(200, &json!({})), "tools", &reference).await;
        assert!(matches!(error, Err(TokenError::NoSecret { .. })));
    }
}
