//! The HTTP client below the ARM client and the token requests.
//! In: an optional CA bundle; out: a client that always verifies TLS and never follows a redirect.

use std::time::Duration;

use reqwest::Certificate;

use super::{auth::chain, target::PlainHttp};
use crate::constants::USER_AGENT;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
#[error("failed to set up the HTTPS client: {0}")]
pub struct HttpError(String);

/// The HTTP client for ARM and for Entra: TLS always verified, no redirects (a token must not travel).
/// `ca_bundle` is PEM and is trusted beside the system's roots.
pub fn http_client(ca_bundle: Option<&[u8]>, plain_http: PlainHttp) -> Result<reqwest::Client, HttpError> {
    let mut builder = reqwest::Client::builder()
        .tls_backend_rustls()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(Duration::from_mins(1))
        .user_agent(USER_AGENT);
    builder = match plain_http {
        PlainHttp::Refused => builder.https_only(true),
        // Loopback is never behind a proxy.
        PlainHttp::LoopbackOnly => builder.no_proxy(),
    };
    if let Some(pem) = ca_bundle {
        let certificates = Certificate::from_pem_bundle(pem)
            .map_err(|error| HttpError(format!("CA bundle: {}", chain(&error))))?;
        if certificates.is_empty() {
            return Err(HttpError("the CA bundle holds no certificate".to_owned()));
        }
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|error| HttpError(chain(&error)))
}
