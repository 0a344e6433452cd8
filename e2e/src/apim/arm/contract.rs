//! What the service makes of a body, and how it shows an entity.
//! In: the type, the wanted properties, and the world. Out: the properties to store, or a refusal; and the JSON of
//! an entity in the answer to a PUT, a GET or a list.

use serde_json::{Value, json};

use super::error::Refusal;
use super::{api, operation, policy, product, simple, subscription};
use crate::apim::kind::Kind;
use crate::apim::policy::facts::PolicyFacts;
use crate::apim::store::{Document, Properties, World};
use crate::apim::switches::Switches;

/// An entity as a PUT or PATCH wants it.
pub(crate) struct Wanted<'a> {
    pub(crate) world: &'a World,
    pub(crate) switches: &'a Switches,
    pub(crate) facts: &'a PolicyFacts,
    /// Path of the service in ARM.
    pub(crate) service: &'a str,
    pub(crate) kind: Kind,
    pub(crate) id: &'a str,
    pub(crate) properties: Properties,
    pub(crate) existing: Option<&'a Document>,
}

impl Wanted<'_> {
    pub(crate) fn name(&self) -> &str {
        self.id.rsplit('/').next().unwrap_or_default()
    }

    pub(crate) fn text(&self, property: &str) -> Option<&str> {
        self.properties.get(property).and_then(Value::as_str)
    }

    /// Id of the entity `levels` above, such as the API of an operation.
    pub(crate) fn parent(&self, levels: usize) -> String {
        let parts: Vec<&str> = self.id.split('/').collect();
        parts[..parts.len().saturating_sub(levels * 2)].join("/")
    }

    pub(crate) fn document(&self, properties: Properties) -> Document {
        let id = self.existing.map_or(self.id, |existing| existing.id.as_str());
        Document::new(self.kind, id, properties)
    }
}

/// The document that a PUT or PATCH makes.
pub(crate) fn prepare(wanted: Wanted<'_>) -> Result<Document, Refusal> {
    match wanted.kind {
        Kind::Backend => simple::backend(wanted),
        Kind::Api => api::prepare(wanted),
        Kind::Operation => operation::prepare(wanted),
        kind if kind.is_policy() => policy::prepare(&wanted),
        Kind::Product => product::prepare(wanted),
        Kind::Subscription => subscription::prepare(&wanted),
        Kind::NamedValue => simple::named_value(wanted),
        Kind::Tag | Kind::Diagnostic => Ok(simple::as_sent(wanted)),
        Kind::VersionSet => Ok(simple::version_set(wanted)),
        Kind::Fragment => simple::fragment(wanted),
        Kind::Group => Ok(simple::group(wanted)),
        _ => Err(Refusal::member("type", "The stand-in does not serve this type.")),
    }
}

/// Where an entity is shown. Answers differ slightly between verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Put,
    Get,
    List,
}

/// Facts that a view needs beside the entity.
pub(crate) struct Frame<'a> {
    pub(crate) world: &'a World,
    pub(crate) service: &'a str,
    pub(crate) view: View,
    /// An operation on the entity is in progress.
    pub(crate) busy: bool,
    /// `?format=rawxml`
    pub(crate) raw_policy: bool,
}

pub(crate) fn show(document: &Document, frame: &Frame<'_>) -> Value {
    let mut properties = match document.kind {
        Kind::Backend => simple::show_backend(document),
        Kind::Api => api::show(document, frame),
        kind if kind.is_policy() => policy::show(document, frame),
        Kind::Product => product::show(document, frame),
        Kind::Subscription => subscription::show(document, frame.view),
        Kind::NamedValue => simple::show_named_value(document),
        Kind::Fragment => simple::show_fragment(document, frame.busy),
        _ => Value::Object(document.properties.clone()),
    };
    if frame.busy && document.kind == Kind::Api {
        properties["provisioningState"] = json!("InProgress");
    }
    envelope(document, &properties, frame.service)
}

/// id, type and name around the properties.
pub(crate) fn envelope(document: &Document, properties: &Value, service: &str) -> Value {
    json!({
        "id": format!("{service}/{}", document.id),
        "type": format!("Microsoft.ApiManagement/service/{}", document.kind.type_path()),
        "name": document.name(),
        "properties": properties,
    })
}
