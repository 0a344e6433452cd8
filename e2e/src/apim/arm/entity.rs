//! One request on one entity: conditions, checks, change, answer.
//! In: the call with its state. Out: an answer or a refusal.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::call::Call;
use super::contract::{View, envelope};
use super::error::Refusal;
use super::{api, association, import, policy, polling, product, subscription};
use crate::apim::answer::{self, Answer};
use crate::apim::kind::Kind;
use crate::apim::store::{Change, Document};
use crate::apim::switches::{ApiDeletion, ImportVisible};

pub(super) fn get(call: &mut Call<'_>, kind: Kind, id: &str, head: bool) -> Result<Answer, Refusal> {
    if let Some(operation) = call.query.get("asyncId").map(str::to_owned) {
        return polling::location(call, &operation);
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
        return Ok(association::delete(call, kind, id));
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
        Kind::NamedValue if call.state.switches.refuse_deleting_used_backend => {
            let name = existing.text("displayName").unwrap_or_default();
            let users = policy::users_of_named_value(world, name);
            if !users.is_empty() {
                let message = format!("Property '{name}' is used by policies of: {}.", users.join(", "));
                return Err(Refusal::member("displayName", message));
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
