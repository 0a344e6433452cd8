//! Operations of an API: method, URL template and its parameters.
//! In: what is wanted. Out: the document in its normal form.

use serde_json::{Value, json};

use super::contract::Wanted;
use super::error::Refusal;
use crate::apim::store::{Document, Properties, World};

pub(super) fn prepare(mut wanted: Wanted<'_>) -> Result<Document, Refusal> {
    let properties = normal(std::mem::take(&mut wanted.properties));
    check_template(&properties)?;
    let document = wanted.document(properties);
    check_unique(wanted.world, &wanted.parent(1), &document)?;
    Ok(document)
}

/// Absent members come back as null or empty lists.
pub(super) fn normal(mut properties: Properties) -> Properties {
    if let Some(method) = properties
        .get("method")
        .and_then(Value::as_str)
        .map(str::to_uppercase)
    {
        properties.insert("method".into(), json!(method));
    }
    if let Some(template) = properties.get("urlTemplate").and_then(Value::as_str)
        && !template.starts_with('/')
    {
        let template = format!("/{template}");
        properties.insert("urlTemplate".into(), json!(template));
    }
    for (name, empty) in [
        ("templateParameters", json!([])),
        ("description", Value::Null),
        (
            "request",
            json!({"queryParameters": [], "headers": [], "representations": []}),
        ),
        ("responses", json!([])),
        ("policies", Value::Null),
    ] {
        let member = properties.entry(name).or_insert(Value::Null);
        if member.is_null() {
            *member = empty;
        }
    }
    properties
}

/// Names in braces, without the `*` that marks a wildcard parameter.
pub(crate) fn template_names(template: &str) -> impl Iterator<Item = &str> {
    let path = template
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split_once('}'));
    path.map(|(name, _)| name.trim_start_matches('*'))
}

fn check_template(properties: &Properties) -> Result<(), Refusal> {
    let template = properties
        .get("urlTemplate")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let declared: Vec<&str> = properties
        .get("templateParameters")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|parameter| parameter["name"].as_str())
        .collect();
    let all_declared = template_names(template).all(|name| declared.contains(&name));
    let all_used = declared
        .iter()
        .all(|name| template_names(template).any(|used| used == *name));
    if all_declared && all_used {
        return Ok(());
    }
    Err(Refusal::member(
        "templateParameters",
        "All template parameters used in the UriTemplate must be defined in the Operation, please ensure names match.",
    ))
}

/// Parameter names do not tell two templates apart.
fn shape(template: &str) -> String {
    let segments = template
        .split('/')
        .map(|part| if part.contains('{') { "{}" } else { part });
    segments.collect::<Vec<_>>().join("/").to_lowercase()
}

fn check_unique(world: &World, api: &str, document: &Document) -> Result<(), Refusal> {
    let template = document.text("urlTemplate").unwrap_or_default();
    let other = world.members(&format!("{api}/operations")).find(|other| {
        !other.id.eq_ignore_ascii_case(&document.id)
            && other.text("method") == document.text("method")
            && shape(other.text("urlTemplate").unwrap_or_default()) == shape(template)
    });
    match other {
        None => Ok(()),
        Some(other) => Err(Refusal::member(
            "urlTemplate",
            format!(
                "Operation '{}' has the same method and URL template.",
                other.name()
            ),
        )),
    }
}
