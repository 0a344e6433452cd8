//! A little of Azure Resource Manager on loopback: documents by path. In: requests of an `ArmClient`; out: what was put
//! there, and answers as recorded ones look. It knows nothing of registrations; the stand-in of the end-to-end tests
//! does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::Response;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::azure::apim::{
    ArmClient, Cloud, Limits, PlainHttp, Rates, SecretString, StaticToken, Target, Throttle, Unobserved,
    http_client,
};

const SERVICE: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ApiManagement/service/contoso";

/// The service. Dropping it stops it.
pub(crate) struct Arm {
    base: String,
    state: Arc<Mutex<Content>>,
    _stop: DropGuard,
}

#[derive(Default)]
struct Content {
    /// By the path below the service: their `properties`.
    documents: BTreeMap<String, Value>,
    writes: Vec<String>,
    reads: usize,
    down: Option<(u16, String)>,
    hangs: bool,
    /// Part of a path, whether only writes to it fail, and the answer.
    broken: Vec<(String, bool, (u16, String))>,
    /// How often each document was written, which its ETag tells.
    versions: BTreeMap<String, u64>,
    /// Writes that still get an answer.
    cut_after: Option<usize>,
}

type Shared = Arc<Mutex<Content>>;

impl Arm {
    pub(crate) async fn start() -> Self {
        let state = Shared::default();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&state));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                served = axum::serve(listener, router) => served.unwrap(),
                () = stopped.cancelled() => {}
            }
        });
        Self {
            base,
            state,
            _stop: stop.drop_guard(),
        }
    }

    pub(crate) fn client(&self) -> ArmClient {
        let cloud = Cloud::Custom {
            endpoint: self.base.parse().unwrap(),
            authority: "https://login.example.com".parse().unwrap(),
            audience: "https://management.example.com".into(),
        };
        let target = Target::new("s", "g", "contoso", cloud, PlainHttp::LoopbackOnly).unwrap();
        let http = http_client(None, PlainHttp::LoopbackOnly).unwrap();
        let throttle = Arc::new(Throttle::new(Rates::default()));
        let tokens = Arc::new(StaticToken(SecretString::new("token")));
        let limit = Duration::from_secs(5);
        ArmClient::new(http, target, tokens, throttle, Arc::new(Unobserved)).with_limits(Limits {
            read: limit,
            write: limit,
            pause: Duration::ZERO,
            turn: Duration::from_secs(30),
            operation: limit,
            // What a test changes behind our back is seen at once.
            inventory: Duration::ZERO,
            again: Duration::from_millis(5),
        })
    }

    pub(crate) fn put(&self, path: &str, properties: Value) {
        let mut content = self.lock();
        content.documents.insert(path.to_owned(), properties);
        *content.versions.entry(path.to_owned()).or_default() += 1;
    }

    /// Requests to paths with this part get this error.
    pub(crate) fn break_path(&self, part: &str, (status, code): (u16, &str)) {
        let broken = (part.to_owned(), false, (status, code.to_owned()));
        self.lock().broken.push(broken);
    }

    /// The same for writes to exactly this path.
    pub(crate) fn break_write(&self, path: &str, (status, code): (u16, &str)) {
        let broken = (path.to_owned(), true, (status, code.to_owned()));
        self.lock().broken.push(broken);
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.lock().documents.get(path).cloned()
    }

    pub(crate) fn remove(&self, path: &str) {
        self.lock()
            .documents
            .retain(|key, _| key != path && !key.ends_with(path));
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.lock().documents.keys().cloned().collect()
    }

    /// The writes since the last call, as `VERB path`.
    pub(crate) fn take_writes(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().writes)
    }

    pub(crate) fn take_reads(&self) -> usize {
        std::mem::take(&mut self.lock().reads)
    }

    /// Every request gets this error; `None` ends it.
    pub(crate) fn fail(&self, with: Option<(u16, &str)>) {
        self.lock().down = with.map(|(status, code)| (status, code.to_owned()));
    }

    /// Requests from now on get no answer at all.
    pub(crate) fn hang(&self) {
        self.lock().hangs = true;
    }

    /// After so many writes one more is carried out without a word, and then nobody answers; `None` ends it.
    pub(crate) fn cut_after(&self, writes: Option<usize>) {
        let mut content = self.lock();
        content.cut_after = writes;
        content.down = None;
        content.writes.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.state.lock().unwrap()
    }
}

async fn answer(State(state): State<Shared>, method: Method, uri: Uri, body: Bytes) -> Response {
    let hangs = state.lock().unwrap().hangs;
    if hangs {
        std::future::pending::<()>().await;
    }
    let mut content = state.lock().unwrap();
    let path = uri.path().strip_prefix(SERVICE).unwrap_or("elsewhere").to_owned();
    let read = method == Method::GET;
    let broken = content.broken.iter().find(|(part, write, _)| {
        if *write {
            !read && path == *part
        } else {
            path.contains(part.as_str())
        }
    });
    let failure = content.down.as_ref().or(broken.map(|(.., answer)| answer));
    let (status, body) = if let Some((status, code)) = failure {
        (
            *status,
            Some(json!({"error": {"code": code, "message": "no luck"}})),
        )
    } else {
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let answer = content.act(&method, &path, &body);
        if !read {
            let document = path
                .rsplit_once("/regenerate")
                .map_or(path.as_str(), |(document, _)| document);
            *content.versions.entry(document.to_owned()).or_default() += 1;
        }
        if method != Method::GET && content.cut_after.is_some_and(|most| content.writes.len() > most) {
            // Refused as if by a firewall: the client repeats nothing.
            content.down = Some((403, "cut off".to_owned()));
            (403, None)
        } else {
            answer
        }
    };
    let mut response = Response::new(body.map_or_else(Body::empty, |body| Body::from(body.to_string())));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    let version = content.versions.get(&path).copied().unwrap_or_default();
    let etag = format!("\"{version}\"");
    response.headers_mut().insert("etag", etag.parse().unwrap());
    response
}

impl Content {
    fn act(&mut self, method: &Method, path: &str, body: &Value) -> (u16, Option<Value>) {
        if *method == Method::GET {
            self.reads += 1;
        } else {
            self.writes.push(format!("{method} {path}"));
        }
        match *method {
            Method::GET if path.is_empty() => (200, self.documents.get("").cloned()),
            Method::GET if path.starts_with("/products/") && path.ends_with("/apis") => self.list(path),
            Method::GET if ["/apis", "/backends", "/diagnostics", "/subscriptions"].contains(&path) => {
                self.list(path)
            }
            Method::GET if path.ends_with("/operations") => self.list(path),
            Method::GET => match self.documents.get(path) {
                Some(properties) => (200, Some(shown(path, properties))),
                None => missing(),
            },
            Method::PUT if path.starts_with("/products/") && path.contains("/apis/") => {
                let api = format!("/apis/{}", last(path));
                let Some(properties) = self.documents.get(&api).cloned() else {
                    return missing();
                };
                self.documents.insert(path.to_owned(), properties.clone());
                (201, Some(document(path, &properties)))
            }
            Method::PUT => self.create(path, &body["properties"]),
            Method::PATCH => {
                let Some(present) = self.documents.get_mut(path) else {
                    return missing();
                };
                for (name, value) in body["properties"].as_object().cloned().unwrap_or_default() {
                    present[name] = value;
                }
                (200, Some(document(path, present)))
            }
            Method::POST if path.contains("/regenerate") => {
                let (document, slot) = path.rsplit_once('/').unwrap_or_default();
                let key = if slot == "regeneratePrimaryKey" {
                    "primaryKey"
                } else {
                    "secondaryKey"
                };
                let anew = json!(format!("anew-{}", self.writes.len() + self.versions.len()));
                let Some(properties) = self.documents.get_mut(document) else {
                    return missing();
                };
                properties[key] = anew;
                (204, None)
            }
            Method::POST => {
                let parent = path.trim_end_matches("/listSecrets");
                self.documents
                    .get(parent)
                    .map_or_else(missing, |properties| (200, Some(properties.clone())))
            }
            Method::DELETE => {
                let before = self.documents.len();
                let inside = format!("{path}/");
                let scope = json!(path);
                self.documents.retain(|key, properties| {
                    key != path && !key.starts_with(&inside) && properties["scope"] != scope
                });
                (if self.documents.len() == before { 204 } else { 200 }, None)
            }
            _ => (405, None),
        }
    }

    fn create(&mut self, path: &str, properties: &Value) -> (u16, Option<Value>) {
        let mut properties = properties.clone();
        if path.starts_with("/subscriptions/") {
            let members = properties.as_object_mut();
            if let Some(members) = members {
                let key = json!(format!("key-{}", self.writes.len()));
                members.entry("primaryKey").or_insert(key);
                members.entry("secondaryKey").or_insert(json!("other"));
            }
        }
        let status = if self
            .documents
            .insert(path.to_owned(), properties.clone())
            .is_some()
        {
            200
        } else {
            201
        };
        // The answer to a PUT has the keys; a GET never has.
        (status, Some(document(path, &properties)))
    }

    fn list(&self, path: &str) -> (u16, Option<Value>) {
        let inside = format!("{path}/");
        let items = self
            .documents
            .iter()
            .filter(|(key, _)| key.strip_prefix(&inside).is_some_and(|name| !name.contains('/')));
        let value: Vec<Value> = items.map(|(key, properties)| shown(key, properties)).collect();
        (200, Some(json!({"value": value, "count": value.len()})))
    }
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

fn document(path: &str, properties: &Value) -> Value {
    json!({"id": format!("{SERVICE}{path}"), "name": last(path), "properties": properties})
}

fn shown(path: &str, properties: &Value) -> Value {
    let mut properties = properties.clone();
    if let Some(members) = properties.as_object_mut() {
        members.remove("primaryKey");
        members.remove("secondaryKey");
        if members.get("secret") == Some(&json!(true)) {
            members.remove("value");
        }
    }
    document(path, &properties)
}

fn missing() -> (u16, Option<Value>) {
    (
        404,
        Some(json!({"error": {"code": "ResourceNotFound", "message": "not found."}})),
    )
}
