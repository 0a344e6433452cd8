//! Tokens for Azure Resource Manager.
//! In: the identity that the pod was given (workload identity); out: a bearer token, cached until shortly before it
//! expires.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use azure_core::{
    cloud::CustomConfiguration,
    credentials::TokenCredential,
    error::ErrorKind,
    http::{
        ClientOptions, Context, ExponentialRetryOptions, HttpClient, Request, RetryOptions, Transport,
        headers::USER_AGENT as USER_AGENT_HEADER,
        policies::{Policy, PolicyResult},
    },
    time::{Duration as TokenDuration, OffsetDateTime},
};
use azure_identity::{
    ClientAssertionCredentialOptions, WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};
use tokio::{sync::Mutex, time::Instant};
use url::Url;

use super::secret::SecretString;
use crate::constants::USER_AGENT;

/// Entra answers in well under a second; past this a pass had better tell its user.
const DEADLINE: Duration = Duration::from_secs(20);
/// As long as one failure answers for the callers that wait behind it.
const FAILURE_MEMORY: Duration = Duration::from_secs(3);
/// A token is renewed this long before it expires, and used until half a minute before, if renewing fails.
const RENEW_BEFORE: TokenDuration = TokenDuration::minutes(5);
const USABLE_BEFORE: TokenDuration = TokenDuration::seconds(30);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to get a token for {scope}: {message}")]
pub struct AuthError {
    pub scope: String,
    pub message: String,
    /// No answer came: the network or the authority is at fault, not the identity.
    pub unanswered: bool,
}

/// A source of bearer tokens for one audience.
#[async_trait]
pub trait TokenSource: Send + Sync + std::fmt::Debug {
    async fn token(&self) -> Result<SecretString, AuthError>;

    /// ARM refused the last token: the next one must be new.
    async fn invalidate(&self);
}

/// What the workload identity webhook (or our chart) gives a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub tenant_id: String,
    pub client_id: String,
    /// The projected service-account token, audience `api://AzureADTokenExchange`.
    pub token_file: PathBuf,
}

/// Exchanges the pod's service-account token for an Entra token.
#[derive(Debug)]
pub struct WorkloadIdentity {
    identity: Identity,
    authority: Url,
    scope: String,
    http: Arc<dyn HttpClient>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    credential: Option<Arc<WorkloadIdentityCredential>>,
    token: Option<(SecretString, OffsetDateTime)>,
    failed: Option<(Instant, AuthError)>,
}

impl WorkloadIdentity {
    /// `http` carries the token requests too, so that the gateway's CA bundle and our DNS resolver apply to them.
    pub fn new(identity: Identity, authority: Url, scope: String, http: reqwest::Client) -> Self {
        Self {
            identity,
            authority,
            scope,
            http: Arc::new(http),
            state: Mutex::default(),
        }
    }

    async fn request(&self, state: &mut State) -> Result<(SecretString, OffsetDateTime), AuthError> {
        let credential = if let Some(credential) = &state.credential {
            credential.clone()
        } else {
            state.credential.insert(self.credential()?).clone()
        };
        let scopes = [self.scope.as_str()];
        match tokio::time::timeout(DEADLINE, credential.get_token(&scopes, None)).await {
            Ok(Ok(token)) => Ok((SecretString::new(token.token.secret()), token.expires_on)),
            Ok(Err(error)) => Err(AuthError {
                unanswered: is_unanswered(&error),
                ..self.error(answered(&error, &self.authority))
            }),
            Err(_) => Err(AuthError {
                unanswered: true,
                ..self.error(format!(
                    "no answer from {} in {} s",
                    self.authority,
                    DEADLINE.as_secs()
                ))
            }),
        }
    }

    fn credential(&self) -> Result<Arc<WorkloadIdentityCredential>, AuthError> {
        let mut cloud = CustomConfiguration::default();
        cloud.authority_host = self.authority.to_string();
        let client_options = ClientOptions {
            transport: Some(Transport::new(Arc::clone(&self.http))),
            per_try_policies: vec![Arc::new(Introduction)],
            cloud: Some(Arc::new(cloud.into())),
            // The reconcile loop has its own backoff; these two tries only bridge a blink.
            retry: RetryOptions::exponential(ExponentialRetryOptions {
                max_retries: 2,
                max_total_elapsed: TokenDuration::seconds(8),
                ..ExponentialRetryOptions::default()
            }),
            ..ClientOptions::default()
        };
        WorkloadIdentityCredential::new(Some(WorkloadIdentityCredentialOptions {
            credential_options: ClientAssertionCredentialOptions { client_options },
            client_id: Some(self.identity.client_id.clone()),
            tenant_id: Some(self.identity.tenant_id.clone()),
            token_file_path: Some(self.identity.token_file.clone()),
        }))
        .map_err(|error| self.error(chain(&error)))
    }

    fn error(&self, message: String) -> AuthError {
        AuthError {
            scope: self.scope.clone(),
            message,
            unanswered: false,
        }
    }
}

/// Puts our name before that of the SDK, which has a place only for a word without a version.
#[derive(Debug)]
struct Introduction;

#[async_trait]
impl Policy for Introduction {
    async fn send(&self, context: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        let own = request.headers().get_optional_str(&USER_AGENT_HEADER);
        let name = own.map_or_else(|| USER_AGENT.to_owned(), |own| format!("{USER_AGENT} {own}"));
        request.insert_header(USER_AGENT_HEADER, name);
        match next {
            [first, rest @ ..] => first.send(context, request, rest).await,
            [] => Err(azure_core::Error::with_message(
                ErrorKind::Other,
                "the pipeline has no transport",
            )),
        }
    }
}

#[async_trait]
impl TokenSource for WorkloadIdentity {
    async fn token(&self) -> Result<SecretString, AuthError> {
        let mut state = self.state.lock().await;
        let now = OffsetDateTime::now_utc();
        if let Some((token, expires)) = &state.token
            && *expires - RENEW_BEFORE > now
        {
            return Ok(token.clone());
        }
        if let Some((at, error)) = &state.failed
            && at.elapsed() < FAILURE_MEMORY
        {
            return usable(&state, now).ok_or_else(|| error.clone());
        }
        match self.request(&mut state).await {
            Ok((token, expires)) => {
                state.failed = None;
                state.token = Some((token.clone(), expires));
                Ok(token)
            }
            Err(error) => {
                // The credential holds a copy of the token file for ten minutes; a new one reads it again.
                state.credential = None;
                state.failed = Some((Instant::now(), error.clone()));
                usable(&state, now).ok_or(error)
            }
        }
    }

    async fn invalidate(&self) {
        let mut state = self.state.lock().await;
        state.credential = None;
        state.token = None;
    }
}

fn usable(state: &State, now: OffsetDateTime) -> Option<SecretString> {
    state
        .token
        .as_ref()
        .filter(|(_, expires)| *expires - USABLE_BEFORE > now)
        .map(|(token, _)| token.clone())
}

/// One fixed token, for tests and for a token made outside (`az account get-access-token`).
#[derive(Debug)]
pub struct StaticToken(pub SecretString);

#[async_trait]
impl TokenSource for StaticToken {
    async fn token(&self) -> Result<SecretString, AuthError> {
        Ok(self.0.clone())
    }

    async fn invalidate(&self) {}
}

/// The errors of azure_core among an error and its causes, from the outside in.
fn azure_errors(error: &azure_core::Error) -> impl Iterator<Item = &azure_core::Error> {
    let error: &(dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(error), |error| error.source()).filter_map(|error| error.downcast_ref())
}

fn is_unanswered(error: &azure_core::Error) -> bool {
    azure_errors(error).any(|error| matches!(error.kind(), ErrorKind::Connection | ErrorKind::Io))
        && azure_errors(error).all(|error| error.http_status().is_none())
}

/// The error's text, with the status of the answer that the text leaves out when its body is not Entra's.
fn answered(error: &azure_core::Error, authority: &Url) -> String {
    let text = chain(error);
    match azure_errors(error).find_map(azure_core::Error::http_status) {
        Some(status) if !text.contains("AADSTS") => {
            format!("{authority} answered {}: {text}", u16::from(status))
        }
        _ => text,
    }
}

/// An error and its causes by their `Display`; the `Debug` form of azure_core's errors carries a backtrace of a
/// hundred frames. Anything that looks like a signed token is masked.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut parts = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        source = cause.source();
    }
    masked(&parts.join(": "))
}

fn masked(text: &str) -> String {
    text.split_whitespace()
        .map(|word| match word.find("eyJ") {
            Some(start) if word.len() - start > 40 => format!("{}***", &word[..start]),
            _ => word.to_owned(),
        })
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_shown_once_and_tokens_never() {
        let token = format!("eyJ{}", "x".repeat(60));
        let error = AuthError {
            scope: "s".into(),
            message: format!("bad assertion={token} here"),
            unanswered: false,
        };
        let shown = chain(&error);
        assert!(
            !shown.contains(&token) && shown.contains("assertion=*** here"),
            "{shown}"
        );
    }

    #[tokio::test]
    async fn a_missing_token_file_is_named() {
        let source = WorkloadIdentity::new(
            Identity {
                tenant_id: "00000000-0000-0000-0000-00000000000a".into(),
                client_id: "client".into(),
                token_file: "/nonexistent/token".into(),
            },
            Url::parse("https://login.example.com/").unwrap(),
            "https://management.azure.com/.default".into(),
            reqwest::Client::new(),
        );
        let error = source.token().await.unwrap_err();
        assert!(error.message.contains("/nonexistent/token"), "{error}");
        assert!(
            error
                .to_string()
                .starts_with("failed to get a token for https://management.azure.com/.default: ")
        );
        assert!(!error.to_string().contains("backtrace"), "{error}");
    }

    /// Refuses every request, and remembers who made it.
    #[derive(Debug, Default)]
    struct Refusing(std::sync::Mutex<Vec<String>>);

    #[async_trait]
    impl HttpClient for Refusing {
        async fn execute_request(
            &self,
            request: &Request,
        ) -> azure_core::Result<azure_core::http::AsyncRawResponse> {
            let name = request.headers().get_optional_str(&USER_AGENT_HEADER);
            self.0.lock().unwrap().push(name.unwrap_or_default().to_owned());
            Err(azure_core::Error::with_message(ErrorKind::Other, "refused"))
        }
    }

    #[tokio::test]
    async fn token_requests_say_who_makes_them() {
        let folder = std::env::temp_dir().join(format!("mcp-fleet-name-{}", std::process::id()));
        std::fs::write(&folder, "assertion").unwrap();
        let refusing = Arc::new(Refusing::default());
        let source = WorkloadIdentity {
            http: refusing.clone(),
            ..WorkloadIdentity::new(
                Identity {
                    tenant_id: "00000000-0000-0000-0000-00000000000a".into(),
                    client_id: "client".into(),
                    token_file: folder.clone(),
                },
                Url::parse("https://login.example.com/").unwrap(),
                "https://management.azure.com/.default".into(),
                reqwest::Client::new(),
            )
        };
        source.token().await.unwrap_err();
        std::fs::remove_file(folder).unwrap();
        let names = refusing.0.lock().unwrap();
        assert!(!names.is_empty());
        let ours = format!("{USER_AGENT} azsdk-rust-identity/");
        assert!(names.iter().all(|name| name.starts_with(&ours)), "{names:?}");
    }

    #[tokio::test]
    async fn an_authority_that_cannot_be_reached_is_no_fault_of_the_identity() {
        // azure_core insists on https, so what refuses the connection is a proxy on loopback that nobody serves.
        let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = unused.local_addr().unwrap().port();
        drop(unused);
        let proxy = reqwest::Proxy::all(format!("http://127.0.0.1:{port}")).unwrap();
        let file = std::env::temp_dir().join(format!("mcp-fleet-token-{port}"));
        std::fs::write(&file, "assertion").unwrap();
        let source = WorkloadIdentity::new(
            Identity {
                tenant_id: "00000000-0000-0000-0000-00000000000a".into(),
                client_id: "client".into(),
                token_file: file.clone(),
            },
            Url::parse("https://login.example.com/").unwrap(),
            "https://management.azure.com/.default".into(),
            reqwest::Client::builder().proxy(proxy).build().unwrap(),
        );
        let error = source.token().await.unwrap_err();
        std::fs::remove_file(file).unwrap();
        assert!(error.unanswered, "{error}");
    }
}
