//! Backends, named values, tags, version sets, fragments and groups.
//! In: what is wanted. Out: the document, and how it is shown.

use serde_json::{Value, json};

use super::contract::Wanted;
use super::error::Refusal;
use crate::apim::policy::xml::{self, Format};
use crate::apim::store::{Document, Properties};

fn nulls(properties: &mut Properties, names: &[&str]) {
    for name in names {
        properties.entry(*name).or_insert(Value::Null);
    }
}

pub(super) fn backend(mut wanted: Wanted<'_>) -> Result<Document, Refusal> {
    let pool = wanted
        .text("type")
        .is_some_and(|kind| kind.eq_ignore_ascii_case("pool"));
    if !pool {
        let url = wanted.text("url").unwrap_or_default();
        let valid =
            url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if !valid {
            return Err(Refusal::member(
                "url",
                "'url' must be an absolute http or https URL.",
            ));
        }
        wanted.properties.remove("type");
    }
    let properties = std::mem::take(&mut wanted.properties);
    Ok(wanted.document(without_nulls(properties)))
}

/// Members that are sent as null are as if they were not sent.
pub(super) fn without_nulls(properties: Properties) -> Properties {
    properties
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .collect()
}

/// Recorded: title, description, url and protocol always, the rest when set.
pub(super) fn show_backend(document: &Document) -> Value {
    let mut properties = document.properties.clone();
    nulls(&mut properties, &["title", "description", "url", "protocol"]);
    Value::Object(properties)
}

pub(super) fn named_value(mut wanted: Wanted<'_>) -> Result<Document, Refusal> {
    let display = wanted.text("displayName").unwrap_or_default().to_owned();
    if display.is_empty()
        || !display
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
    {
        return Err(Refusal::member(
            "displayName",
            "Name may contain only letters, digits, period, dash and underscore.",
        ));
    }
    let taken = wanted.world.members("namedValues").any(|other| {
        other.text("displayName") == Some(&display) && !other.id.eq_ignore_ascii_case(wanted.id)
    });
    if taken {
        return Err(Refusal::member(
            "displayName",
            "Property with such name already exists.",
        ));
    }
    if wanted.text("value").is_none_or(|value| value.trim().is_empty())
        && !wanted.properties.contains_key("keyVault")
    {
        return Err(Refusal::member(
            "value",
            "'value' cannot be empty or consist only of whitespace.",
        ));
    }
    let mut properties = without_nulls(std::mem::take(&mut wanted.properties));
    properties.entry("secret").or_insert(json!(false));
    Ok(wanted.document(properties))
}

/// A secret's value is never shown.
pub(super) fn show_named_value(document: &Document) -> Value {
    let mut properties = document.properties.clone();
    if document.flag("secret") == Some(true) {
        properties.remove("value");
    }
    nulls(&mut properties, &["tags"]);
    properties.insert("provisioningState".into(), json!("Succeeded"));
    Value::Object(properties)
}

/// Stored as it was sent, without nulls.
pub(super) fn as_sent(mut wanted: Wanted<'_>) -> Document {
    let properties = without_nulls(std::mem::take(&mut wanted.properties));
    wanted.document(properties)
}

pub(super) fn version_set(mut wanted: Wanted<'_>) -> Document {
    let mut properties = std::mem::take(&mut wanted.properties);
    nulls(
        &mut properties,
        &["description", "versionQueryName", "versionHeaderName"],
    );
    wanted.document(properties)
}

/// A fragment comes back as it was sent (recorded), not re-indented.
pub(super) fn fragment(mut wanted: Wanted<'_>) -> Result<Document, Refusal> {
    let format = if wanted.text("format") == Some("rawxml") {
        Format::Raw
    } else {
        Format::Xml
    };
    let root = xml::parse(wanted.text("value").unwrap_or_default(), format)
        .map_err(|error| Refusal::member("representation", error.to_string()))?;
    if root.name != "fragment" {
        return Err(Refusal::member(
            "representation",
            "A policy fragment must have the root element 'fragment'.",
        ));
    }
    let mut properties = without_nulls(std::mem::take(&mut wanted.properties));
    properties.remove("format");
    let mut document = wanted.document(properties);
    document.policies = Some(std::sync::Arc::new(root));
    Ok(document)
}

pub(super) fn show_fragment(document: &Document, busy: bool) -> Value {
    let mut properties = document.properties.clone();
    nulls(&mut properties, &["description"]);
    properties.insert(
        "provisioningState".into(),
        json!(if busy { "InProgress" } else { "Succeeded" }),
    );
    Value::Object(properties)
}

pub(super) fn group(mut wanted: Wanted<'_>) -> Document {
    let mut properties = without_nulls(std::mem::take(&mut wanted.properties));
    properties.insert("builtIn".into(), json!(false));
    properties.entry("type").or_insert(json!("custom"));
    wanted.document(properties)
}
