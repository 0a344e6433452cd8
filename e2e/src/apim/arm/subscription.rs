//! Subscriptions: their scope, their state and their keys.
//! In: what is wanted. Out: the document; keys are shown by PUT and listSecrets only.

use serde_json::{Value, json};

use super::contract::{View, Wanted};
use super::error::Refusal;
use crate::apim::store::{Document, Properties};

pub(super) fn prepare(wanted: &Wanted<'_>) -> Result<Document, Refusal> {
    let scope = scope(wanted)?;
    let kept = |name: &str| {
        wanted
            .existing
            .and_then(|existing| existing.properties.get(name))
            .cloned()
    };
    let given = |name: &str| {
        wanted
            .properties
            .get(name)
            .filter(|value| !value.is_null())
            .cloned()
    };
    let mut properties = Properties::new();
    properties.insert("scope".into(), json!(scope));
    properties.insert("displayName".into(), given("displayName").unwrap_or(Value::Null));
    if let Some(owner) = given("ownerId").or_else(|| kept("ownerId")) {
        properties.insert("ownerId".into(), owner);
    }
    let state = given("state").or_else(|| kept("state"));
    properties.insert(
        "state".into(),
        state.unwrap_or_else(|| json!(wanted.switches.new_subscription_state)),
    );
    let created = kept("createdDate").unwrap_or_else(|| json!(jiff::Timestamp::now().to_string()));
    properties.insert("createdDate".into(), created);
    for name in [
        "startDate",
        "expirationDate",
        "endDate",
        "notificationDate",
        "stateComment",
    ] {
        properties.insert(
            name.into(),
            given(name).or_else(|| kept(name)).unwrap_or(Value::Null),
        );
    }
    for name in ["primaryKey", "secondaryKey"] {
        let key = given(name).or_else(|| kept(name)).unwrap_or_else(new_key);
        let owner = key.as_str().and_then(|key| wanted.world.subscription_of_key(key));
        if owner.is_some_and(|owner| !owner.id.eq_ignore_ascii_case(wanted.id)) {
            return Err(Refusal::member(
                name,
                "The key is in use by another subscription.",
            ));
        }
        properties.insert(name.into(), key);
    }
    properties.insert(
        "allowTracing".into(),
        given("allowTracing").unwrap_or(json!(false)),
    );
    Ok(wanted.document(properties))
}

pub(super) fn new_key() -> Value {
    json!(uuid::Uuid::new_v4().simple().to_string())
}

/// `/apis`, `/apis/{id}` or `/products/{id}`, alone or below the service; comes back below the service (recorded).
fn scope(wanted: &Wanted<'_>) -> Result<String, Refusal> {
    let given = wanted.text("scope").unwrap_or_default();
    let lower = given.to_lowercase();
    let service = wanted.service.to_lowercase();
    let short = lower.strip_prefix(&service).unwrap_or(&lower).trim_matches('/');
    let original = &given.trim_end_matches('/')[given.trim_end_matches('/').len() - short.len()..];
    let known = match short.split('/').collect::<Vec<_>>()[..] {
        ["apis"] => true,
        ["apis", name] => wanted
            .world
            .get(&format!("apis/{}", name.split(";rev=").next().unwrap_or(name)))
            .is_some(),
        ["products", _] => wanted.world.get(short).is_some(),
        _ => {
            return Err(Refusal::member(
                "scope",
                "Subscription scope should be one of '/apis', '/apis/{apiId}', '/products/{productId}'.",
            ));
        }
    };
    if known {
        Ok(format!("{}/{original}", wanted.service))
    } else {
        Err(Refusal::member(
            "scope",
            format!("Subscription scope '/{original}' does not exist."),
        ))
    }
}

pub(super) fn show(document: &Document, view: View) -> Value {
    let mut properties = document.properties.clone();
    if view != View::Put {
        properties.remove("primaryKey");
        properties.remove("secondaryKey");
    }
    Value::Object(properties)
}
