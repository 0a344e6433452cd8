//! A message that landed on the wrong replica: it is signed, sent once to the owner of its stream, and the owner's answer comes back.

use super::keys::{KeyError, Keys};
use super::signature::{CALLER, MAC, NONCE, Signed, TIME};
use crate::audit::Caller;
use crate::sse::message::Answer;
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A pod that does not take a connection within a second is gone.
const CONNECT: Duration = Duration::from_secs(1);
/// The owner answers as soon as it has read the message; it does not wait for the tool.
const ANSWER: Duration = Duration::from_secs(5);
/// An owner's answer is a status and at most a short error.
const MAX_ANSWER: usize = 16 << 10;

/// The way to the other replicas: plain HTTP to an address out of a genuine id, never a name, never a redirect, never a proxy.
#[derive(Debug, Clone)]
pub struct Forwarder {
    port: u16,
    http: Client<HttpConnector, Full<Bytes>>,
}

/// Why a message did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// Nothing of ours listens at the owner's address any more.
    #[error("the replica that owned the stream is gone")]
    Gone,
    /// It has no memory for the message now.
    #[error("the replica that owns the stream is short of memory")]
    Full,
    /// It took the message, perhaps, and then nothing was heard of it.
    #[error("the replica that owns the stream did not answer")]
    Silent,
    /// Signing failed.
    #[error("failed to sign a message for another replica")]
    Sign(#[from] KeyError),
}

impl Forwarder {
    /// To replicas that listen on `port`.
    pub fn to_port(port: u16) -> Forwarder {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_nodelay(true);
        let http = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(8))
            .build(connector);
        Forwarder { port, http }
    }

    /// Send `body`, which `caller` is said to have sent, for the stream `id` to `owner`; its answer comes back.
    pub async fn forward(
        &self,
        keys: &Keys,
        owner: IpAddr,
        id: &str,
        caller: Option<&Caller>,
        body: Bytes,
    ) -> Result<Answer, ForwardError> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs()
            .to_string();
        let mut nonce = [0; 16];
        rand::fill(&mut nonce).map_err(|_| KeyError::Random)?;
        let nonce = BASE64_URL_SAFE_NO_PAD.encode(nonce);
        let ring = keys.ring();
        let caller = caller.map_or_else(String::new, Caller::to_replica);
        let signed = Signed {
            kind: "POST",
            subject: id,
            time: &now,
            nonce: &nonce,
            caller: &caller,
            body: &body,
        };
        let mac = signed.sign(ring.outgoing(std::time::Instant::now()));
        let request = Request::post(format!(
            "http://{}/messages/{id}",
            SocketAddr::new(owner, self.port)
        ))
        .header(CONTENT_TYPE, "application/json")
        .header(TIME, &now)
        .header(NONCE, &nonce)
        .header(CALLER, &caller)
        .header(MAC, mac)
        .body(Full::new(body))
        .map_err(|_| ForwardError::Gone)?;
        let answered = tokio::time::timeout(ANSWER, self.exchange(request)).await;
        let (status, headers, answer) = answered.map_err(|_| ForwardError::Silent)??;
        // Whoever has the address now may not be one of us: only a signed answer counts.
        let mac = headers
            .get(MAC)
            .and_then(|mac| mac.to_str().ok())
            // A replica without memory for the body cannot know yet whom it answers; its stream is still there, and a false one
            // does no more harm than a client that tries again.
            .ok_or(match status {
                StatusCode::SERVICE_UNAVAILABLE => ForwardError::Full,
                _ => ForwardError::Gone,
            })?;
        let signed = Signed {
            kind: "answer",
            subject: status.as_str(),
            time: &now,
            nonce: &nonce,
            caller: "",
            body: &answer,
        };
        if signed.verify(&keys.ring(), mac) {
            // Not signed, since a false one does no more harm than a client that waits.
            let retry_after = headers
                .get(RETRY_AFTER)
                .and_then(|seconds| seconds.to_str().ok()?.parse().ok());
            Ok(Answer {
                status,
                body: answer,
                retry_after,
            })
        } else {
            Err(ForwardError::Gone)
        }
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, HeaderMap, Bytes), ForwardError> {
        let response: Response<Incoming> = self.http.request(request).await.map_err(|error| {
            if error.is_connect() {
                ForwardError::Gone
            } else {
                ForwardError::Silent
            }
        })?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER)
            .collect()
            .await
            .map_err(|_| ForwardError::Silent)?;
        Ok((parts.status, parts.headers, body.to_bytes()))
    }
}
