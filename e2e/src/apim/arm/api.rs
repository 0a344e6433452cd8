//! APIs: their path, their normal form, and what is shown of them.
//! In: what is wanted. Out: the document, and its JSON.

use serde_json::{Value, json};

use super::contract::{Frame, View, Wanted};
use super::error::Refusal;
use crate::apim::kind::Kind;
use crate::apim::store::{Document, Properties};
use crate::apim::switches::Switches;

/// Of a PUT, not of the API: what an import reads, and aliases.
const NOT_STORED: [&str; 8] = [
    "format",
    "value",
    "wsdlSelector",
    "translateRequiredQueryParameters",
    "apiType",
    "type",
    "provisioningState",
    "isOnline",
];

pub(super) fn prepare(mut wanted: Wanted<'_>) -> Result<Document, Refusal> {
    for alias in ["type", "apiType"] {
        if let Some(kind) = wanted.text(alias)
            && !kind.eq_ignore_ascii_case("http")
        {
            return Err(Refusal::member(
                alias,
                "The stand-in serves APIs of type http only.",
            ));
        }
    }
    if wanted.properties.contains_key("sourceApiId") {
        return Err(Refusal::member("sourceApiId", "The stand-in does not copy APIs."));
    }
    let name = wanted.name().to_owned();
    let mut properties = super::simple::without_nulls(std::mem::take(&mut wanted.properties));
    for member in NOT_STORED {
        properties.remove(member);
    }
    let path = normal_path(properties.get("path").and_then(Value::as_str).unwrap_or_default())?;
    properties.insert("path".into(), json!(path));
    properties.insert("apiRevision".into(), json!("1"));
    properties.insert("isCurrent".into(), json!(true));
    properties.entry("displayName").or_insert(json!(name));
    properties.entry("subscriptionRequired").or_insert(json!(true));
    properties.entry("protocols").or_insert(json!(["https"]));
    properties
        .entry("subscriptionKeyParameterNames")
        .or_insert(json!({"header": "Ocp-Apim-Subscription-Key", "query": "subscription-key"}));
    version_set(&wanted, &properties)?;
    let document = wanted.document(properties);
    path_is_free(&wanted, &document)?;
    Ok(document)
}

/// `/path/` becomes `path`.
fn normal_path(path: &str) -> Result<String, Refusal> {
    let path = path.trim_matches('/');
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_' | '/' | ':' | '~');
    if path.chars().all(allowed) && !path.contains("//") {
        Ok(path.to_owned())
    } else {
        Err(Refusal::member(
            "path",
            "'path' contains characters that are not allowed.",
        ))
    }
}

fn version_set(wanted: &Wanted<'_>, properties: &Properties) -> Result<(), Refusal> {
    let Some(id) = properties.get("apiVersionSetId").and_then(Value::as_str) else {
        return Ok(());
    };
    let name = id.rsplit('/').next().unwrap_or_default();
    if wanted.world.get(&format!("apiVersionSets/{name}")).is_none() {
        return Err(Refusal::member("apiVersionSetId", "ApiVersionSet not found."));
    }
    Ok(())
}

fn path_is_free(wanted: &Wanted<'_>, document: &Document) -> Result<(), Refusal> {
    let path = wanted.world.gateway_path(document);
    let other = wanted.world.members("apis").find(|other| {
        other.kind == Kind::Api
            && !other.id.eq_ignore_ascii_case(wanted.id)
            && wanted.world.gateway_path(other) == path
    });
    let Some(other) = other else { return Ok(()) };
    let message = format!(
        "Cannot create API '{}' with the same Path '{path}' as API '{}'.",
        wanted.name(),
        other.name()
    );
    let mut refusal = Refusal::member("path", message.clone());
    if wanted.switches.taken_path_status == 409 {
        refusal = Refusal::new(http::StatusCode::CONFLICT, "Conflict", message);
    }
    Err(refusal)
}

/// Recorded shape: some members are always there, null when unset.
pub(super) fn show(document: &Document, frame: &Frame<'_>) -> Value {
    let mut properties = document.properties.clone();
    for name in [
        "description",
        "serviceUrl",
        "backendId",
        "mcpProperties",
        "a2aProperties",
        "agent",
        "jsonRpcProperties",
    ] {
        properties.entry(name).or_insert(Value::Null);
    }
    properties.insert("isAgent".into(), json!(false));
    let mut authentication = json!({
        "oAuth2": null,
        "openid": null,
        "oAuth2AuthenticationSettings": [],
        "openidAuthenticationSettings": [],
        "returnProtectedResourceMetadata": false,
    });
    if let Some(Value::Object(set)) = properties.get("authenticationSettings") {
        for (name, value) in set {
            authentication[name] = value.clone();
        }
    }
    properties.insert("authenticationSettings".into(), authentication);
    match frame.view {
        View::Put => {
            if let Some(set) = expanded_version_set(document, frame) {
                properties.insert("apiVersionSet".into(), set);
            }
        }
        View::Get => {
            properties.insert("provisioningState".into(), json!("Succeeded"));
        }
        View::List => {}
    }
    Value::Object(properties)
}

fn expanded_version_set(document: &Document, frame: &Frame<'_>) -> Option<Value> {
    let id = document.text("apiVersionSetId")?;
    let set = frame
        .world
        .get(&format!("apiVersionSets/{}", id.rsplit('/').next()?))?;
    Some(json!({
        "id": id,
        "name": set.properties.get("displayName"),
        "description": set.properties.get("description"),
        "versioningScheme": set.properties.get("versioningScheme"),
        "versionQueryName": set.properties.get("versionQueryName"),
        "versionHeaderName": set.properties.get("versionHeaderName"),
    }))
}

/// What goes with an API: its product links, and the subscriptions whose scope it is.
pub(super) fn dependants(
    document: &Document,
    world: &crate::apim::store::World,
    switches: &Switches,
) -> Vec<String> {
    use crate::apim::switches::OrphanSubscriptions;
    let suffix = format!("/{}", document.id.to_lowercase());
    let points_here = |other: &Document, member: &str| {
        other
            .text(member)
            .is_some_and(|id| id.to_lowercase().ends_with(&suffix))
    };
    world
        .all()
        .filter(|other| match other.kind {
            Kind::ProductApiLink => points_here(other, "apiId"),
            Kind::Subscription => {
                switches.subscriptions_of_deleted_api == OrphanSubscriptions::Deleted
                    && points_here(other, "scope")
            }
            _ => false,
        })
        .map(|other| other.id.clone())
        .collect()
}
