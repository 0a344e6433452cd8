//! A second opinion on bodies: Microsoft's own ARM JSON schemas, when a folder with them is given.
//! In: the folder, a type, a name and properties. Out: what the schema says against them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, anyhow};
use jsonschema::Validator;
use serde_json::{Map, Value, json};

use crate::apim::kind::Kind;
use crate::apim::policy::check::Flaw;

const FILE: &str = "2024-05-01-Microsoft.ApiManagement.json";
const KINDS: [Kind; 13] = [
    Kind::Backend,
    Kind::Api,
    Kind::Operation,
    Kind::ApiPolicy,
    Kind::OperationPolicy,
    Kind::GlobalPolicy,
    Kind::ProductPolicy,
    Kind::Product,
    Kind::ProductApiLink,
    Kind::Subscription,
    Kind::NamedValue,
    Kind::Diagnostic,
    Kind::Tag,
];

pub(crate) struct Schemas(BTreeMap<Kind, Validator>);

impl std::fmt::Debug for Schemas {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Schemas").field(&self.0.keys()).finish()
    }
}

impl Schemas {
    pub(crate) fn load(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(FILE);
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
        let mut root: Value = serde_json::from_str(&text)?;
        drop_template_expressions(&mut root);
        let mut validators = BTreeMap::new();
        for kind in KINDS {
            let name = format!("service_{}", kind.type_path().replace('/', "_"));
            let properties = &root["resourceDefinitions"][&name]["properties"]["properties"];
            if properties.is_null() {
                return Err(anyhow!("{} has no definition {name}", path.display()));
            }
            let schema = json!({
                "$schema": "http://json-schema.org/draft-04/schema#",
                "definitions": root["definitions"],
                "allOf": [properties],
            });
            let validator = jsonschema::draft4::new(&schema).map_err(|error| anyhow!("{name}: {error}"))?;
            validators.insert(kind, validator);
        }
        Ok(Self(validators))
    }

    pub(crate) fn check(&self, kind: Kind, properties: &Map<String, Value>) -> Vec<Flaw> {
        let Some(validator) = self.0.get(&kind) else {
            return Vec::new();
        };
        let sent: Map<String, Value> = properties
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        let sent = Value::Object(sent);
        validator
            .iter_errors(&sent)
            .map(|error| Flaw {
                target: error
                    .instance_path()
                    .to_string()
                    .trim_start_matches('/')
                    .replace('/', "."),
                message: error.to_string(),
            })
            .collect()
    }
}

/// Templates may hold `[expressions]` everywhere; a request to ARM may not.
fn drop_template_expressions(value: &mut Value) {
    if let Some(choices) = value.get("oneOf").and_then(Value::as_array) {
        let real: Vec<Value> = choices
            .iter()
            .filter(|choice| {
                !choice["$ref"]
                    .as_str()
                    .is_some_and(|to| to.starts_with("https://"))
            })
            .cloned()
            .collect();
        if real.len() < choices.len() && real.len() == 1 {
            *value = real.into_iter().next().unwrap_or_default();
        }
    }
    match value {
        Value::Object(members) => members.values_mut().for_each(drop_template_expressions),
        Value::Array(items) => items.iter_mut().for_each(drop_template_expressions),
        _ => {}
    }
}
