//! Products, and the APIs and groups that belong to them.
//! In: what is wanted. Out: documents, and their JSON.

use serde_json::{Value, json};

use super::contract::{Wanted, envelope};
use super::error::Refusal;
use crate::apim::kind::Kind;
use crate::apim::store::{Document, World};

pub(super) fn prepare(mut wanted: Wanted<'_>) -> Result<Document, Refusal> {
    let title = wanted.text("displayName").unwrap_or_default().to_owned();
    let same_title = |other: &Document| {
        other.kind == Kind::Product
            && !other.id.eq_ignore_ascii_case(wanted.id)
            && other
                .text("displayName")
                .is_some_and(|name| name.eq_ignore_ascii_case(&title))
    };
    if wanted.switches.unique_product_names && wanted.world.members("products").any(|other| same_title(other))
    {
        return Err(Refusal::member(
            "displayName",
            "Product with such name already exists.",
        ));
    }
    let mut properties = std::mem::take(&mut wanted.properties);
    properties.remove("groups");
    for name in ["description", "terms", "approvalRequired", "subscriptionsLimit"] {
        properties.entry(name).or_insert(Value::Null);
    }
    let required = properties.entry("subscriptionRequired").or_insert(Value::Null);
    if required.is_null() {
        *required = json!(true);
    }
    if *required == json!(false) {
        let given = |name: &str| properties.get(name).is_some_and(|value| !value.is_null());
        if given("subscriptionsLimit") || properties["approvalRequired"] == json!(true) {
            return Err(Refusal::member(
                "subscriptionRequired",
                "approvalRequired and subscriptionsLimit need a product that requires a subscription.",
            ));
        }
    }
    if properties.get("state").is_none_or(Value::is_null) {
        properties.insert("state".into(), json!("notPublished"));
    }
    Ok(wanted.document(properties))
}

/// Recorded: the answer to a PUT names the administrators' group, a GET an empty list.
pub(super) fn show(document: &Document, frame: &super::contract::Frame<'_>) -> Value {
    let mut properties = document.properties.clone();
    let groups = if frame.view == super::contract::View::Put {
        json!([{
            "id": format!("{}/groups/administrators", frame.service),
            "name": "Administrators",
            "description": "Administrators is a built-in group containing the admin email account provided at the \
                time of service creation. Its membership is managed by the system.",
            "builtIn": true,
            "type": "system",
            "externalId": null,
        }])
    } else {
        json!([])
    };
    properties.insert("groups".into(), groups);
    Value::Object(properties)
}

/// Name of the API that a link's `apiId` or a scope points at.
pub(super) fn api_name(id: &str) -> Option<&str> {
    let (before, name) = id.trim_end_matches('/').rsplit_once('/')?;
    let collection = before.rsplit('/').next()?;
    let name = name.split(";rev=").next()?;
    (collection.eq_ignore_ascii_case("apis") && !name.is_empty()).then_some(name)
}

/// The link of a product to an API, if there is one.
pub(crate) fn link<'a>(world: &'a World, product: &str, api: &str) -> Option<&'a Document> {
    world
        .members(&format!("{product}/apiLinks"))
        .map(AsRef::as_ref)
        .find(|link| {
            link.text("apiId")
                .and_then(api_name)
                .is_some_and(|name| name.eq_ignore_ascii_case(api))
        })
}

/// A new link. Its id is given, or taken from the API's name.
pub(super) fn new_link(service: &str, product: &str, id: &str, api: &Document) -> Document {
    let properties = json!({"apiId": format!("{service}/{}", api.id)});
    Document::new(
        Kind::ProductApiLink,
        format!("{product}/apiLinks/{id}"),
        crate::apim::state::json_map(&properties),
    )
}

/// Recorded: the API below the product, with less in it than the API itself has.
pub(super) fn show_api(product: &str, api: &Document, service: &str) -> Value {
    let mut shown = Document::new(
        Kind::ProductApi,
        format!("{product}/apis/{}", api.name()),
        api.properties.clone(),
    );
    for name in [
        "description",
        "serviceUrl",
        "backendId",
        "mcpProperties",
        "a2aProperties",
        "agent",
        "jsonRpcProperties",
    ] {
        shown.properties.entry(name).or_insert(Value::Null);
    }
    for name in [
        "protocols",
        "authenticationSettings",
        "subscriptionKeyParameterNames",
    ] {
        shown.properties.insert(name.into(), Value::Null);
    }
    for name in ["apiVersionSetId", "contact", "termsOfServiceUrl", "license"] {
        shown.properties.remove(name);
    }
    shown.properties.insert("isAgent".into(), json!(false));
    shown.properties.insert(
        "specificationLastUpdated".into(),
        json!(jiff::Timestamp::now().to_string()),
    );
    envelope(&shown, &Value::Object(shown.properties.clone()), service)
}

/// Subscriptions whose scope is this product.
pub(super) fn subscriptions(world: &World, product: &str) -> Vec<String> {
    let suffix = format!("/{}", product.to_lowercase());
    world
        .members("subscriptions")
        .filter(|subscription| {
            subscription
                .text("scope")
                .is_some_and(|scope| scope.to_lowercase().ends_with(&suffix))
        })
        .map(|subscription| subscription.id.clone())
        .collect()
}
