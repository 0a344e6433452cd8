//! One request on one entity: conditions, checks, change, answer.
//! In: the call with its state. Out: an answer or a refusal.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::contract::{Frame, View, Wanted, envelope, prepare, show};
use super::error::Refusal;
use super::{api, association, import, policy, product, subscription};
use crate::apim::answer::{self, Answer};
use crate::apim::kind::Kind;
use crate::apim::query::Query;
use crate::apim::state::{Shared, State};
use crate::apim::store::{Change, Document, Progress};
use crate::apim::switches::{ApiDeletion, AsyncHeaders, ImportVisible, MissingIfMatch};

pub(super) struct Call<'a> {
    pub(super) shared: &'a Shared,
    pub(super) state: &'a mut State,
    pub(super) now: Instant,
    pub(super) query: Query,
    pub(super) if_match: Option<String>,
    pub(super) body: &'a Bytes,
    /// The long operation that this call starts fails with this code and message.
    pub(super) fail: Option<(String, String)>,
}

impl Call<'_> {
    pub(super) fn service_url(&self) -> String {
        let config = &self.shared.config;
        format!("{}{}", config.arm_url, config.service_path())
    }

    pub(super) fn apply(&mut self, change: Change) {
        let delay = self.state.gateway_delay();
        self.state.store.apply(change, self.now, delay);
    }

    pub(super) fn existing(&self, id: &str) -> Option<Document> {
        self.state
            .store
            .world()
            .get(id)
            .map(|document| (**document).clone())
    }

    /// 404 in the name of what is missing above this entity or collection.
    pub(super) fn parent_exists(&self, kind: Kind, id: &str) -> Result<(), Refusal> {
        let parts: Vec<&str> = id.split('/').collect();
        let world = self.state.store.world();
        for depth in (2..parts.len()).step_by(2) {
            if world.get(&parts[..depth].join("/")).is_none() {
                return Err(Refusal::not_found(
                    match parts[depth - 2].to_lowercase().as_str() {
                        "apis" => Kind::Api,
                        "products" => Kind::Product,
                        "operations" => Kind::Operation,
                        _ => kind,
                    },
                ));
            }
        }
        Ok(())
    }

    /// 409 while an operation on the API, or on the entity itself, is in progress.
    fn not_busy(&self, id: &str) -> Result<(), Refusal> {
        let parts: Vec<&str> = id.split('/').collect();
        let root = parts[..parts.len().min(2)].join("/");
        if self.state.store.busy(id) || (root.starts_with("apis/") && self.state.store.busy(&root)) {
            return Err(Refusal::in_progress());
        }
        Ok(())
    }

    fn condition(&self, existing: Option<&Document>, missing: MissingIfMatch) -> Result<(), Refusal> {
        match (self.if_match.as_deref(), existing) {
            (Some("*"), _) => Ok(()),
            (Some(wanted), Some(document)) => {
                let wanted = wanted.trim_start_matches("W/").trim_matches('"');
                if wanted == document.etag_text() {
                    Ok(())
                } else {
                    Err(Refusal::stale())
                }
            }
            (Some(_), None) => Err(Refusal::stale()),
            (None, None) => Ok(()),
            (None, Some(_)) => match missing {
                MissingIfMatch::Allowed => Ok(()),
                MissingIfMatch::PreconditionFailed => Err(Refusal::new(
                    StatusCode::PRECONDITION_FAILED,
                    "PreconditionFailed",
                    "If-Match header is required.",
                )),
                MissingIfMatch::BadRequest => Err(Refusal::new(
                    StatusCode::BAD_REQUEST,
                    "MissingRequiredHeader",
                    "The required header If-Match is missing.",
                )),
            },
        }
    }

    fn properties(&self) -> Result<Map<String, Value>, Refusal> {
        let body: Value = serde_json::from_slice(self.body)
            .map_err(|error| Refusal::member("representation", format!("Invalid JSON: {error}")))?;
        match body.get("properties") {
            Some(Value::Object(properties)) => Ok(properties.clone()),
            _ => Err(Refusal::member(
                "properties",
                "The member 'properties' is required.",
            )),
        }
    }

    fn check_limits(
        &self,
        kind: Kind,
        id: &str,
        sent: &Map<String, Value>,
        partial: bool,
    ) -> Result<(), Refusal> {
        let name = id.rsplit('/').next().unwrap_or_default();
        let mut flaws = self.shared.limits.name(kind, name);
        // Later versions have members that the table does not know.
        let known_version = self
            .query
            .get("api-version")
            .is_some_and(|version| version <= "2024-05-01");
        let strict = known_version && self.state.switches.refuse_unknown_members;
        flaws.extend(self.shared.limits.body(kind, sent, partial, strict));
        if let (Some(schemas), false) = (&self.shared.schemas, partial)
            && flaws.is_empty()
        {
            flaws.extend(schemas.check(kind, sent));
        }
        if flaws.is_empty() {
            Ok(())
        } else {
            Err(Refusal::invalid(flaws))
        }
    }

    pub(super) fn prepare(
        &self,
        kind: Kind,
        id: &str,
        properties: Map<String, Value>,
        existing: Option<&Document>,
    ) -> Result<Document, Refusal> {
        prepare(Wanted {
            world: self.state.store.world(),
            switches: &self.state.switches,
            facts: &self.shared.facts,
            service: &self.shared.config.service_path(),
            kind,
            id,
            properties,
            existing,
        })
    }

    fn shown(&self, id: &str, view: View) -> Result<(Value, String), Refusal> {
        let document = self.existing(id).ok_or_else(|| {
            Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalServerError",
                format!("{id} was lost"),
            )
        })?;
        let frame = Frame {
            world: self.state.store.world(),
            service: &self.shared.config.service_path(),
            view,
            busy: self.state.store.busy(id),
            raw_policy: self
                .query
                .get("format")
                .is_some_and(|format| format.starts_with("rawxml")),
        };
        Ok((show(&document, &frame), format!("\"{}\"", document.etag_text())))
    }

    pub(super) fn answer(&self, status: StatusCode, id: &str, view: View) -> Result<Answer, Refusal> {
        let (body, etag) = self.shown(id, view)?;
        let mut answer = answer::indented(status, &body);
        answer::set(&mut answer, "etag", &etag);
        Ok(answer)
    }

    /// Starts a long operation and adds its polling headers to the answer.
    fn start(&mut self, mut answer: Answer, id: &str, code: u16, change: Change) -> Answer {
        let due = self.now + Duration::from_millis(self.state.switches.async_millis);
        let fail = self.fail.take();
        let operation = self.state.store.start(id, code, due, change, fail);
        let version = self.query.get("api-version").unwrap_or_default();
        let base = self.service_url();
        let headers = self.state.switches.async_headers;
        if headers != AsyncHeaders::AzureAsyncOperation {
            let url = format!("{base}/{id}?api-version={version}&asyncId={operation}&asyncCode={code}");
            answer::set(&mut answer, "location", &url);
        }
        if headers != AsyncHeaders::Location {
            let url = format!("{base}/tenant/operationResults/{operation}?api-version={version}");
            answer::set(&mut answer, "azure-asyncoperation", &url);
        }
        self.retry_after(&mut answer);
        answer
    }

    fn retry_after(&self, answer: &mut Answer) {
        if let Some(seconds) = self.state.switches.async_retry_after {
            answer::set(answer, "retry-after", &seconds.to_string());
        }
    }
}

pub(super) fn get(call: &mut Call<'_>, kind: Kind, id: &str, head: bool) -> Result<Answer, Refusal> {
    if let Some(operation) = call.query.get("asyncId").map(str::to_owned) {
        return poll_location(call, &operation);
    }
    call.parent_exists(kind, id)?;
    if kind.is_association() {
        return association::get(call, kind, id, head);
    }
    if call.existing(id).is_none() {
        return Err(Refusal::not_found(kind));
    }
    let mut answer = call.answer(StatusCode::OK, id, View::Get)?;
    if head {
        *answer.body_mut() = answer::empty(StatusCode::OK).into_body();
    }
    Ok(answer)
}

/// Recorded: 202 while running, then the code that `asyncCode` names.
fn poll_location(call: &mut Call<'_>, id: &str) -> Result<Answer, Refusal> {
    let gone = || Refusal::new(StatusCode::NOT_FOUND, "ResourceNotFound", "Operation not found.");
    let operation = call.state.store.operation(id).ok_or_else(gone)?;
    let (code, resource) = (operation.code, operation.resource.clone());
    match operation.progress.clone() {
        Progress::Running => {
            let mut answer = answer::empty(StatusCode::ACCEPTED);
            let url = format!(
                "{}/{resource}?api-version={}&asyncId={id}&asyncCode={code}",
                call.service_url(),
                call.query.get("api-version").unwrap_or_default()
            );
            answer::set(&mut answer, "location", &url);
            call.retry_after(&mut answer);
            Ok(answer)
        }
        Progress::Failed { code, message } => Err(Refusal::new(StatusCode::BAD_REQUEST, &code, message)),
        Progress::Succeeded if call.existing(&resource).is_none() => Ok(answer::empty(
            StatusCode::from_u16(code).unwrap_or(StatusCode::NO_CONTENT),
        )),
        Progress::Succeeded => call.answer(
            StatusCode::from_u16(code).unwrap_or(StatusCode::OK),
            &resource,
            View::Get,
        ),
    }
}

pub(super) fn operation_result(call: &mut Call<'_>, id: &str) -> Result<Answer, Refusal> {
    let gone = || Refusal::new(StatusCode::NOT_FOUND, "ResourceNotFound", "Operation not found.");
    let body = match &call.state.store.operation(id).ok_or_else(gone)?.progress {
        Progress::Running => json!({"status": "InProgress"}),
        Progress::Succeeded => json!({"status": "Succeeded"}),
        Progress::Failed { code, message } => {
            json!({"status": "Failed", "error": {"code": code, "message": message, "details": null}})
        }
    };
    let mut answer = answer::json(StatusCode::OK, &body);
    if body["status"] == "InProgress" {
        call.retry_after(&mut answer);
    }
    Ok(answer)
}

pub(super) fn put(call: &mut Call<'_>, kind: Kind, id: &str) -> Result<Answer, Refusal> {
    call.parent_exists(kind, id)?;
    call.not_busy(id)?;
    if kind.is_association() {
        call.check_limits(kind, id, &Map::new(), true)?;
        return association::put(call, kind, id);
    }
    let sent = call.properties()?;
    call.check_limits(kind, id, &sent, false)?;
    if kind == Kind::ProductApiLink {
        return association::put_link(call, id, &sent);
    }
    let existing = call.existing(id);
    call.condition(existing.as_ref(), call.state.switches.if_match_on_put)?;
    if kind == Kind::Api && sent.get("value").is_some_and(|value| !value.is_null()) {
        return put_import(call, id, sent, existing.as_ref());
    }
    let document = call.prepare(kind, id, sent, existing.as_ref())?;
    let id = document.id.clone();
    let status = if existing.is_some() {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    if matches!(kind, Kind::NamedValue | Kind::Fragment) {
        let shown = envelope(
            &document,
            &json!({"ProvisioningState": "InProgress"}),
            &call.shared.config.service_path(),
        );
        let answer = answer::indented(status, &shown);
        return Ok(call.start(
            answer,
            &id,
            status.as_u16(),
            Change {
                put: vec![document],
                remove: vec![],
            },
        ));
    }
    let groups = (kind == Kind::Product && existing.is_none()).then(|| association::first_group(&id));
    store(call, document, existing.as_ref());
    if let Some(group) = groups {
        call.apply(Change {
            put: vec![group],
            remove: vec![],
        });
    }
    call.answer(status, &id, View::Put)
}

/// Puts a document unless it says what is there already.
fn store(call: &mut Call<'_>, document: Document, existing: Option<&Document>) {
    let same = existing
        .is_some_and(|old| old.properties == document.properties && old.policies == document.policies);
    if !(same && call.state.switches.same_put_keeps_etag) {
        call.apply(Change {
            put: vec![document],
            remove: vec![],
        });
    }
}

/// An API with its operations: always a long operation. Operations that the document lacks are removed.
fn put_import(
    call: &mut Call<'_>,
    id: &str,
    mut sent: Map<String, Value>,
    existing: Option<&Document>,
) -> Result<Answer, Refusal> {
    if sent.get("format").and_then(Value::as_str) != Some("openapi+json") {
        return Err(Refusal::member(
            "format",
            "The stand-in imports openapi+json only.",
        ));
    }
    let text = sent
        .get("value")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let id = existing.map_or(id, |existing| existing.id.as_str()).to_owned();
    let imported = import::import(&text, &id, call.state.switches.imported_operation_ids)?;
    sent.insert(
        "serviceUrl".into(),
        imported.service_url.map_or(Value::Null, Value::from),
    );
    let mut default = |name: &str, value: Option<String>| {
        if let (true, Some(value)) = (sent.get(name).is_none_or(Value::is_null), value) {
            sent.insert(name.into(), Value::from(value));
        }
    };
    default("displayName", Some(imported.title));
    default("description", imported.description);
    let document = call.prepare(Kind::Api, &id, sent, existing)?;
    let kept: Vec<String> = imported
        .operations
        .iter()
        .map(|operation| operation.id.to_lowercase())
        .collect();
    let members = call.state.store.world().members(&format!("{id}/operations"));
    let remove = members
        .map(|old| old.id.clone())
        .filter(|old| !kept.contains(&old.to_lowercase()))
        .collect();
    if call.state.switches.import_visible == ImportVisible::AtOnce && call.fail.is_none() {
        call.apply(Change {
            put: vec![document.clone()],
            remove: vec![],
        });
    }
    let service = call.shared.config.service_path();
    let mut shown = envelope(&document, &Value::Object(document.properties.clone()), &service);
    shown["properties"]["provisioningState"] = json!("InProgress");
    let code = if existing.is_some() { 200 } else { 201 };
    let status = match call.state.switches.import_status {
        202 => StatusCode::ACCEPTED,
        _ if existing.is_some() => StatusCode::OK,
        _ => StatusCode::CREATED,
    };
    let answer = if status == StatusCode::ACCEPTED {
        answer::empty(status)
    } else {
        answer::indented(status, &shown)
    };
    let put = std::iter::once(document).chain(imported.operations).collect();
    Ok(call.start(answer, &id, code, Change { put, remove }))
}

pub(super) fn patch(call: &mut Call<'_>, kind: Kind, id: &str) -> Result<Answer, Refusal> {
    call.parent_exists(kind, id)?;
    let existing = call.existing(id).ok_or_else(|| Refusal::not_found(kind))?;
    call.not_busy(id)?;
    let sent = call.properties()?;
    call.check_limits(kind, id, &sent, true)?;
    call.condition(Some(&existing), call.state.switches.if_match_on_patch)?;
    let mut merged = existing.properties.clone();
    for (name, value) in sent {
        merge(merged.entry(name).or_insert(Value::Null), value);
    }
    let document = call.prepare(kind, id, merged, Some(&existing))?;
    let id = document.id.clone();
    store(call, document, Some(&existing));
    call.answer(StatusCode::OK, &id, View::Get)
}

/// Objects are merged, everything else is replaced.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

pub(super) fn delete(call: &mut Call<'_>, kind: Kind, id: &str) -> Result<Answer, Refusal> {
    if kind.is_association() || kind == Kind::ProductApiLink {
        call.parent_exists(kind, id)?;
        return association::delete(call, kind, id);
    }
    let Some(existing) = call.existing(id) else {
        return match call.state.switches.delete_missing_status {
            404 => Err(Refusal::not_found(kind)),
            _ => Ok(answer::empty(StatusCode::NO_CONTENT)),
        };
    };
    call.not_busy(id)?;
    call.condition(Some(&existing), call.state.switches.if_match_on_delete)?;
    let mut remove = vec![existing.id.clone()];
    let world = call.state.store.world();
    match kind {
        Kind::Backend if call.state.switches.refuse_deleting_used_backend => {
            let users = policy::users_of_backend(world, existing.name());
            if !users.is_empty() {
                let message = format!(
                    "Backend '{}' is used by policies of: {}.",
                    existing.name(),
                    users.join(", ")
                );
                return Err(Refusal::member("backendId", message));
            }
        }
        Kind::Product => {
            let subscriptions = product::subscriptions(world, &existing.id);
            if !subscriptions.is_empty() && !call.query.is_true("deleteSubscriptions") {
                let message =
                    "The product has subscriptions. Set deleteSubscriptions=true to delete them with it.";
                return Err(Refusal::member("deleteSubscriptions", message));
            }
            remove.extend(subscriptions);
        }
        Kind::Api => remove.extend(api::dependants(&existing, world, &call.state.switches)),
        Kind::Tag => remove.extend(association::assignments(world, existing.name())),
        _ => {}
    }
    let change = Change { put: vec![], remove };
    if kind == Kind::Api && call.state.switches.api_deletion == ApiDeletion::Async {
        let answer = answer::empty(StatusCode::ACCEPTED);
        return Ok(call.start(answer, &existing.id, 204, change));
    }
    call.apply(change);
    Ok(answer::empty(StatusCode::OK))
}

pub(super) fn verb(call: &mut Call<'_>, kind: Kind, id: &str, verb: &str) -> Result<Answer, Refusal> {
    let existing = call.existing(id).ok_or_else(|| Refusal::not_found(kind))?;
    let slot = match (kind, verb.to_lowercase().as_str()) {
        (Kind::Subscription, "listsecrets") => {
            let secrets = json!({
                "primaryKey": existing.properties.get("primaryKey"),
                "secondaryKey": existing.properties.get("secondaryKey"),
            });
            let mut answer = answer::json(StatusCode::OK, &secrets);
            answer::set(&mut answer, "etag", &format!("\"{}\"", existing.etag_text()));
            return Ok(answer);
        }
        (Kind::NamedValue, "listvalue") => {
            return Ok(answer::json(
                StatusCode::OK,
                &json!({"value": existing.properties.get("value")}),
            ));
        }
        (Kind::Backend, "reconnect") => return Ok(answer::empty(StatusCode::ACCEPTED)),
        (Kind::Subscription, "regenerateprimarykey") => "primaryKey",
        (Kind::Subscription, "regeneratesecondarykey") => "secondaryKey",
        _ => return Err(Refusal::not_found(kind)),
    };
    let mut document = existing;
    document.properties.insert(slot.into(), subscription::new_key());
    call.apply(Change {
        put: vec![document],
        remove: vec![],
    });
    Ok(answer::empty(StatusCode::NO_CONTENT))
}
