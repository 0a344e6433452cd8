//! Policy documents in the ARM plane: parsed and checked when put, re-indented when read.
//! In: what is wanted. Out: the document with its parsed policies, and its JSON.

use std::sync::Arc;

use serde_json::{Value, json};

use super::contract::{Frame, Wanted};
use super::error::Refusal;
use crate::apim::kind::Kind;
use crate::apim::policy::check::{References, Scope, check, named_values};
use crate::apim::policy::write::write;
use crate::apim::policy::xml::{self, Element, Format};
use crate::apim::store::{Document, World};

/// Bytes of a policy document (not in the Consumption tier).
const LARGEST: usize = 256 * 1024;

struct Known<'a>(&'a World);

impl References for Known<'_> {
    fn has_backend(&self, id: &str) -> bool {
        self.0.get(&format!("backends/{id}")).is_some()
    }

    fn has_fragment(&self, id: &str) -> bool {
        self.0.get(&format!("policyFragments/{id}")).is_some()
    }

    fn has_named_value(&self, name: &str) -> bool {
        self.0
            .members("namedValues")
            .any(|value| value.text("displayName") == Some(name))
    }
}

fn scope(kind: Kind) -> Scope {
    match kind {
        Kind::ProductPolicy => Scope::Product,
        Kind::ApiPolicy => Scope::Api,
        Kind::OperationPolicy => Scope::Operation,
        _ => Scope::Global,
    }
}

pub(super) fn prepare(wanted: &Wanted<'_>) -> Result<Document, Refusal> {
    let format = match wanted.text("format") {
        None | Some("xml") => Format::Xml,
        Some("rawxml") => Format::Raw,
        Some(other) => {
            return Err(Refusal::member(
                "format",
                format!("The stand-in does not fetch policies ({other})."),
            ));
        }
    };
    let text = wanted.text("value").unwrap_or_default();
    if text.len() > LARGEST {
        return Err(Refusal::member(
            "representation",
            "The policy document is larger than 256 KiB.",
        ));
    }
    let root =
        xml::parse(text, format).map_err(|error| Refusal::member("representation", error.to_string()))?;
    let mut flaws = check(&root, scope(wanted.kind), wanted.facts, &Known(wanted.world));
    if wanted.kind == Kind::OperationPolicy {
        let operation = wanted.world.get(&wanted.parent(1));
        flaws.extend(
            operation
                .into_iter()
                .flat_map(|operation| check_rewrite(&root, operation)),
        );
    }
    if !flaws.is_empty() {
        return Err(Refusal::invalid(flaws));
    }
    let name = if format == Format::Raw { "rawxml" } else { "xml" };
    let mut document = wanted.document(crate::apim::state::json_map(&json!({"format": name})));
    document.policies = Some(Arc::new(root));
    Ok(document)
}

fn check_rewrite(root: &Element, operation: &Document) -> Vec<crate::apim::policy::check::Flaw> {
    let template = operation.text("urlTemplate").unwrap_or_default();
    let known: Vec<&str> = super::operation::template_names(template).collect();
    let inbound = root.child("inbound").into_iter().flat_map(Element::children);
    inbound
        .filter(|policy| policy.name == "rewrite-uri")
        .filter(|policy| {
            let target = policy.attribute("template").unwrap_or_default();
            !target.starts_with('@')
                && super::operation::template_names(target).any(|name| !known.contains(&name))
        })
        .map(|policy| {
            let message =
                "Only parameters specified in the original URL template can be used in the rewrite template";
            crate::apim::policy::check::Flaw::at(policy, message)
        })
        .collect()
}

/// A PUT answers in the format it was sent in, a GET in the one that is asked for (`xml` without).
pub(super) fn show(document: &Document, frame: &Frame<'_>) -> Value {
    let sent_raw = frame.view == super::contract::View::Put && document.text("format") == Some("rawxml");
    let (format, name) = if frame.raw_policy || sent_raw {
        (Format::Raw, "rawxml")
    } else {
        (Format::Xml, "xml")
    };
    let value = document
        .policies
        .as_deref()
        .map(|root| write(root, format))
        .unwrap_or_default();
    json!({"format": name, "value": value})
}

/// Ids of the policy documents that refer to a named value.
pub(super) fn users_of_named_value(world: &World, name: &str) -> Vec<String> {
    fn uses(element: &Element, name: &str) -> bool {
        let refers = |text: &str| named_values(text).any(|named| named == name);
        element.attributes.iter().any(|(_, value)| refers(value))
            || refers(&element.text())
            || element.children().any(|child| uses(child, name))
    }
    world
        .all()
        .filter(|document| document.policies.as_deref().is_some_and(|root| uses(root, name)))
        .map(|document| document.id.clone())
        .collect()
}

/// Ids of the policy documents that send requests to a backend by this id.
pub(super) fn users_of_backend(world: &World, backend: &str) -> Vec<String> {
    fn uses(element: &Element, backend: &str) -> bool {
        let this = element.name == "set-backend-service"
            && element
                .attribute("backend-id")
                .is_some_and(|id| id.eq_ignore_ascii_case(backend));
        this || element.children().any(|child| uses(child, backend))
    }
    world
        .all()
        .filter(|document| {
            document
                .policies
                .as_deref()
                .is_some_and(|root| uses(root, backend))
        })
        .map(|document| document.id.clone())
        .collect()
}
