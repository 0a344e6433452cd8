//! An API server in memory. In: requests of a `kube::Client`; out: answers as a real one gives them, as far as the
//! controllers use it: get, list, server-side apply, merge patch with preconditions, status, create, delete with
//! finalizers. Every write is remembered.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use http::{Method, Request, Response};
use kube::client::Body;
use serde_json::{Map, Value, json};

use super::apply::{apply, fields, kept};

/// The objects, by the path of their API, and what was written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cluster {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    writes: Vec<String>,
    /// What each field manager has applied last and nobody has changed since, by the object's path and the manager.
    applied: BTreeMap<(String, String), Value>,
    /// Paths whose whole object was read, and not its metadata alone.
    contents: Vec<String>,
    /// Reasons of Events.
    events: Vec<String>,
    /// Kinds that are installed later, by their plural.
    installed: Vec<&'static str>,
    admission: Vec<(&'static str, fn(&mut Value))>,
    /// Part of a path, and the status that requests to it get.
    broken: Option<(String, u16)>,
}

impl Cluster {
    pub(crate) fn client(&self) -> kube::Client {
        let cluster = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let cluster = cluster.clone();
            async move { Ok::<_, Infallible>(cluster.answer(request).await) }
        });
        kube::Client::new(service, "default")
    }

    /// Puts an object there, as if somebody had applied it.
    pub(crate) fn put(&self, path: &str, mut object: Value) {
        let mut state = self.lock();
        state.take_over(path, &mut object);
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        state.objects.insert(path.to_owned(), object);
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.lock().objects.get(path).cloned()
    }

    pub(crate) fn change(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.get(path).unwrap();
        change(&mut object);
        self.put(path, object);
    }

    pub(crate) fn remove(&self, path: &str) {
        self.lock().forget(path);
    }

    /// All objects of a kind, by the plural in their paths.
    pub(crate) fn list(&self, plural: &str) -> Vec<Value> {
        let state = self.lock();
        let of_kind = state
            .objects
            .iter()
            .filter(|(path, _)| path.rsplit('/').nth(1) == Some(plural));
        of_kind.map(|(_, object)| object.clone()).collect()
    }

    /// The writes since the last call, as `VERB path`; Events are left out.
    pub(crate) fn take_writes(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().writes)
    }

    /// Reasons of the Events since the last call.
    pub(crate) fn take_events(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().events)
    }

    /// The objects that were read with their content since the last call.
    pub(crate) fn take_contents(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().contents)
    }

    pub(crate) fn break_path(&self, part: &str, status: u16) {
        self.lock().broken = Some((part.to_owned(), status));
    }

    /// Installs the definition of a kind that is not there from the beginning.
    pub(crate) fn install(&self, plural: &'static str) {
        self.lock().installed.push(plural);
    }

    /// Admission: changes each object of a kind, by the plural in its path, that somebody applies.
    pub(crate) fn admit(&self, plural: &'static str, change: fn(&mut Value)) {
        self.lock().admission.push((plural, change));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let bytes = body.collect_bytes().await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let apply = parts
            .headers
            .get("content-type")
            .is_some_and(|kind| kind == "application/apply-patch+yaml");
        let manager = apply.then(|| field_manager(&parts.uri));
        let accepts = parts.headers.get("accept").and_then(|kinds| kinds.to_str().ok());
        let is_content = !accepts.is_some_and(|kinds| kinds.contains("PartialObjectMetadata"));
        if parts.method == Method::GET && is_content {
            self.lock().contents.push(parts.uri.path().to_owned());
        }
        let (status, answer) = self.lock().act(&parts.method, parts.uri.path(), body, manager);
        let mut response = Response::new(Body::from(answer.to_string().into_bytes()));
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
        response
    }
}

impl State {
    /// Answers a request; with a manager, it is an apply by that one.
    fn act(&mut self, method: &Method, path: &str, body: Value, manager: Option<String>) -> (u16, Value) {
        if let Some((part, status)) = &self.broken
            && path.contains(part.as_str())
        {
            return failure(*status, "Broken");
        }
        let (object_path, subresource) = match path.strip_suffix("/status") {
            Some(object) => (object.to_owned(), true),
            None => (path.to_owned(), false),
        };
        match *method {
            Method::GET => self.read(path),
            _ if path.contains("/events") => {
                self.events.extend(body["reason"].as_str().map(str::to_owned));
                (201, body)
            }
            Method::POST => {
                let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                self.writes.push(format!("POST {path}"));
                self.store(format!("{path}/{name}"), body)
            }
            Method::PATCH => {
                self.writes.push(format!("PATCH {path}"));
                self.patch(object_path, body, manager, subresource)
            }
            Method::DELETE => {
                self.writes.push(format!("DELETE {path}"));
                self.delete(&object_path)
            }
            _ => failure(405, "MethodNotAllowed"),
        }
    }

    fn read(&self, path: &str) -> (u16, Value) {
        if let Some(object) = self.objects.get(path) {
            return (200, object.clone());
        }
        let last = path.rsplit('/').next().unwrap_or_default();
        let is_list = ["mcpservers", "mcpaccesses", "mcpgateways", "secrets", "pods"].contains(&last)
            || self.installed.contains(&last);
        if !is_list {
            return failure(404, "NotFound");
        }
        let of_kind = self
            .objects
            .iter()
            .filter(|(path, _)| path.rsplit('/').nth(1) == Some(last));
        let items: Vec<&Value> = of_kind.map(|(_, object)| object).collect();
        (
            200,
            json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}),
        )
    }

    fn patch(&mut self, path: String, wanted: Value, manager: Option<String>, status: bool) -> (u16, Value) {
        let present = self.objects.get(&path).cloned();
        let creates = manager.is_some() && !status;
        let Some(mut object) = present.clone().or_else(|| creates.then(|| json!({}))) else {
            return failure(404, "NotFound");
        };
        for precondition in ["uid", "resourceVersion"] {
            let required = &wanted["metadata"][precondition];
            if !required.is_null() && *required != object["metadata"][precondition] {
                return failure(409, "Conflict");
            }
        }
        match manager {
            _ if status => object["status"] = wanted["status"].clone(),
            Some(manager) => {
                let key = (path.clone(), manager);
                let before = self.applied.get(&key).unwrap_or(&Value::Null);
                apply(&mut object, before, &wanted);
                // Before admission: what that makes of our write stays ours.
                object["metadata"]["managedFields"] = managed(&object, &key.1, &wanted);
                let plural = path.rsplit('/').nth(1);
                for (_, change) in self.admission.iter().filter(|(of, _)| Some(*of) == plural) {
                    change(&mut object);
                }
                self.applied.insert(key, wanted);
            }
            None => merge(&mut object, wanted),
        }
        // A write that changes nothing makes no new version.
        if present.as_ref() == Some(&object) {
            return (200, object);
        }
        self.store(path, object)
    }

    fn store(&mut self, path: String, mut object: Value) -> (u16, Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let finalizers = object["metadata"]["finalizers"]
            .as_array()
            .is_none_or(Vec::is_empty);
        if finalizers && object["metadata"].get("deletionTimestamp").is_some() {
            self.forget(&path);
        } else {
            self.objects.insert(path, object.clone());
        }
        (200, object)
    }

    /// Somebody changes an object: what he changes is his from now on.
    fn take_over(&mut self, path: &str, object: &mut Value) {
        let Some(before) = self.objects.get(path) else {
            return;
        };
        for ((of, manager), applied) in &mut self.applied {
            if of == path {
                *applied = kept(applied, before, object);
                object["metadata"]["managedFields"] = managed(object, manager, applied);
            }
        }
    }

    /// What is made anew under a name has no history.
    fn forget(&mut self, path: &str) {
        self.objects.remove(path);
        self.applied.retain(|(applied, _), _| applied != path);
    }

    fn delete(&mut self, path: &str) -> (u16, Value) {
        let Some(mut object) = self.objects.get(path).cloned() else {
            return failure(404, "NotFound");
        };
        object["metadata"]["deletionTimestamp"] = json!("2026-11-21T10:00:00Z");
        self.store(path.to_owned(), object)
    }
}

fn failure(code: u16, reason: &str) -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason, "code": code,
    });
    (code, status)
}

/// The managed fields of an object, with those of one manager anew.
fn managed(object: &Value, manager: &str, applied: &Value) -> Value {
    let entries = object["metadata"]["managedFields"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let others = entries
        .into_iter()
        .filter(|entry| entry["manager"] != manager || entry["operation"] != "Apply");
    let ours = json!({"manager": manager, "operation": "Apply", "apiVersion": object["apiVersion"],
        "fieldsType": "FieldsV1", "fieldsV1": fields(applied)});
    others.chain([ours]).collect()
}

/// Who applies, by the query of the request.
fn field_manager(uri: &http::Uri) -> String {
    let query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    query
        .into_iter()
        .find(|(key, _)| key == "fieldManager")
        .map(|(_, manager)| manager.into_owned())
        .unwrap_or_default()
}

/// JSON merge patch (RFC 7396).
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(members) = target.as_object_mut() else {
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            members.remove(&key);
        } else {
            merge(members.entry(key).or_insert(Value::Null), value);
        }
    }
}
