//! The port for other replicas: a signed message for a stream of ours goes in, a signed status comes out.
//! The port is in no Service; what comes in here is delivered here or nowhere, so a message is forwarded once at most.

use super::signature::{CALLER, MAC, NONCE, Signed, TIME};
use super::{Place, Replica};
use crate::app::App;
use crate::audit::{Caller, Origin, SessionHash};
use crate::http::body::read_body;
use crate::sse::message::{Answer, Delivery, deliver};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::routing::post;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Difference of clocks and time on the way that a message may have.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(30);
/// Nonces that are remembered per half; beyond, the oldest are forgotten early rather than memory spent without bound.
const MAX_NONCES: usize = 100_000;

/// Routes of the peer port.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/messages/{id}", post(receive))
        .with_state(app)
}

async fn receive(State(app): State<Arc<App>>, Path(id): Path<String>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    // Only what may be signed is worth the memory for a body; whether it is shows with the body.
    let Some(proof) = Proof::read(&parts.headers).filter(Proof::is_recent) else {
        app.metrics.refused("peer_signature");
        return unsigned(StatusCode::UNAUTHORIZED);
    };
    let body = match read_body(&parts.headers, body, &app.limits).await {
        Ok(body) => body,
        Err(refusal) => return refusal.into_response(&app.metrics),
    };
    let signed = Signed {
        kind: "POST",
        subject: &id,
        time: proof.time,
        nonce: proof.nonce,
        caller: proof.caller,
        body: &body,
    };
    // The body may have taken its time.
    if !proof.is_recent()
        || !signed.verify(&app.replica.keys.ring(), proof.mac)
        || !app.nonces.is_first(proof.bytes)
    {
        app.metrics.refused("peer_signature");
        return unsigned(StatusCode::UNAUTHORIZED);
    }
    let delivery = match app.replica.locate(&id) {
        Place::Here(token) => deliver(&app, token, proof.origin(&id), None, &body).await,
        Place::Elsewhere(_) | Place::Nowhere => Delivery::Unknown,
    };
    answer(&app.replica, delivery.answer(&app.metrics), &proof)
}

struct Proof<'a> {
    time: &'a str,
    nonce: &'a str,
    bytes: [u8; 16],
    mac: &'a str,
    caller: &'a str,
}

impl Proof<'_> {
    fn read(headers: &HeaderMap) -> Option<Proof<'_>> {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let nonce = text(NONCE)?;
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(nonce).ok()?.try_into().ok()?;
        Some(Proof {
            time: text(TIME)?,
            nonce,
            bytes,
            mac: text(MAC)?,
            caller: text(CALLER).unwrap_or_default(),
        })
    }

    /// What the replica that the message reached first knew of its sender.
    fn origin(&self, id: &str) -> Origin {
        Origin {
            caller: Caller::from_replica(self.caller),
            session: Some(SessionHash::of(id)),
        }
    }

    fn is_recent(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let sent = self.time.parse::<u64>().map(Duration::from_secs);
        sent.is_ok_and(|sent| now.abs_diff(sent) <= CLOCK_DIFFERENCE)
    }
}

fn unsigned(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn answer(replica: &Replica, answer: Answer, proof: &Proof<'_>) -> Response<Body> {
    let Answer {
        status,
        body,
        retry_after,
    } = answer;
    let signed = Signed {
        kind: "answer",
        subject: status.as_str(),
        time: proof.time,
        nonce: proof.nonce,
        caller: "",
        body: &body,
    };
    let mac = signed.sign(replica.keys.ring().outgoing(Instant::now()));
    let mut response = unsigned(status);
    if let Ok(mac) = mac.parse() {
        response.headers_mut().insert(MAC, mac);
    }
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    if !body.is_empty() {
        response
            .headers_mut()
            .insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    }
    *response.body_mut() = Body::from(body);
    response
}

/// Nonces seen lately, so that no recorded message is delivered twice.
#[derive(Debug)]
pub struct Nonces(Mutex<Halves>);

#[derive(Debug)]
struct Halves {
    young: HashSet<[u8; 16]>,
    old: HashSet<[u8; 16]>,
    since: Instant,
}

impl Default for Nonces {
    fn default() -> Nonces {
        Nonces(Mutex::new(Halves {
            young: HashSet::new(),
            old: HashSet::new(),
            since: Instant::now(),
        }))
    }
}

impl Nonces {
    fn is_first(&self, nonce: [u8; 16]) -> bool {
        let mut halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A message is accepted for twice the difference of clocks at most, from the earliest to the latest.
        if halves.since.elapsed() > 2 * CLOCK_DIFFERENCE || halves.young.len() >= MAX_NONCES {
            halves.old = std::mem::take(&mut halves.young);
            halves.since = Instant::now();
        }
        !halves.old.contains(&nonce) && halves.young.insert(nonce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_counts_once() {
        let nonces = Nonces::default();
        assert!(nonces.is_first([1; 16]));
        assert!(!nonces.is_first([1; 16]));
        assert!(nonces.is_first([2; 16]));
    }
}
