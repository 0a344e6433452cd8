//! Test controls of the stand-in, over plain HTTP: what is stored, what was asked, and how it shall behave.
//! In: small JSON requests. Out: JSON. Nothing here exists in Azure, and nothing shows a key.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::fault::Fault;
use super::journal::{ArmEntry, Counters, GatewayEntry};
use super::policy::write::write;
use super::policy::xml::Format;
use super::state::{Down, Shared, new_secret};
use super::store::Document;
use super::switches::Switches;

type Refused = (StatusCode, String);

/// Answer of `GET /requests`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Requests {
    pub counters: Counters,
    /// Sequence number of the last entry, to ask for what comes after it.
    pub last: u64,
    pub requests: Vec<ArmEntry>,
}

/// Answer of `GET /gateway/requests`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GatewayRequests {
    pub last: u64,
    pub requests: Vec<GatewayEntry>,
}

#[derive(Debug, Default, Deserialize)]
struct Since {
    #[serde(default)]
    since: u64,
}

pub(crate) fn router(shared: Arc<Shared>, ca_pem: String) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/ca.pem", get(|| async move { ca_pem }))
        .route("/documents", get(documents))
        .route("/requests", get(requests))
        .route("/gateway/requests", get(gateway_requests))
        .route("/switches", get(switches).post(set_switches))
        .route("/faults", post(add_fault).delete(clear_faults))
        .route("/down", get(is_down).post(set_down))
        .route("/tokens", delete(revoke_tokens))
        .route("/reset", post(reset))
        .with_state(shared)
}

async fn documents(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let state = shared.lock();
    let service = shared.config.service_path();
    let all: Vec<Value> = state
        .store
        .world()
        .all()
        .map(|document| shown(document, &service))
        .collect();
    Json(Value::Array(all))
}

fn shown(document: &Document, service: &str) -> Value {
    let mut properties: Map<String, Value> = document.properties.clone();
    for secret in ["primaryKey", "secondaryKey"] {
        if properties.contains_key(secret) {
            properties.insert(secret.into(), json!("(hidden)"));
        }
    }
    if document.flag("secret") == Some(true) {
        properties.insert("value".into(), json!("(hidden)"));
    }
    if document.kind.is_policy()
        && let Some(policies) = &document.policies
    {
        properties.insert("value".into(), json!(write(policies, Format::Raw)));
    }
    json!({
        "id": format!("{service}/{}", document.id),
        "path": document.id,
        "type": format!("Microsoft.ApiManagement/service/{}", document.kind.type_path()),
        "etag": document.etag_text(),
        "properties": properties,
    })
}

async fn requests(State(shared): State<Arc<Shared>>, Query(query): Query<Since>) -> Json<Requests> {
    let state = shared.lock();
    let journal = &state.journal;
    let requests = journal.arm_since(query.since);
    Json(Requests {
        counters: journal.counters(),
        last: journal.last(),
        requests,
    })
}

async fn gateway_requests(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<Since>,
) -> Json<GatewayRequests> {
    let state = shared.lock();
    Json(GatewayRequests {
        last: state.journal.last(),
        requests: state.journal.gateway_since(query.since),
    })
}

async fn switches(State(shared): State<Arc<Shared>>) -> Json<Switches> {
    Json(shared.lock().switches.clone())
}

/// Members that are left out keep their setting.
async fn set_switches(
    State(shared): State<Arc<Shared>>,
    Json(changes): Json<Map<String, Value>>,
) -> Result<Json<Switches>, Refused> {
    let mut state = shared.lock();
    let bad = |error: serde_json::Error| (StatusCode::BAD_REQUEST, error.to_string());
    let mut all = serde_json::to_value(&state.switches).map_err(bad)?;
    for (name, value) in changes {
        all[name] = value;
    }
    state.switches = serde_json::from_value(all).map_err(bad)?;
    Ok(Json(state.switches.clone()))
}

async fn add_fault(
    State(shared): State<Arc<Shared>>,
    Json(fault): Json<Fault>,
) -> Result<StatusCode, Refused> {
    let added = shared.lock().faults.add(fault);
    added.map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    Ok(StatusCode::NO_CONTENT)
}

async fn clear_faults(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.lock().faults.clear();
    StatusCode::NO_CONTENT
}

async fn is_down(State(shared): State<Arc<Shared>>) -> Json<Down> {
    Json(shared.lock().down)
}

/// `{"down": true}` is `{"arm": true}`; planes that are left out are up.
async fn set_down(State(shared): State<Arc<Shared>>, Json(body): Json<Value>) -> Result<Json<Down>, Refused> {
    let down = match body.get("down") {
        Some(Value::Bool(down)) => Down {
            arm: *down,
            ..Down::default()
        },
        _ => serde_json::from_value(body).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?,
    };
    shared.lock().down = down;
    Ok(Json(down))
}

/// Makes every access token that was issued invalid.
async fn revoke_tokens(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.lock().token_secret = new_secret();
    StatusCode::NO_CONTENT
}

async fn reset(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.reset();
    StatusCode::NO_CONTENT
}
