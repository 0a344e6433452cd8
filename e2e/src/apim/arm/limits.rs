//! Checks names and bodies against the limits of each resource type (facts/resources.json, and Microsoft's own JSON
//! schemas when a folder with them is given).
//! In: the type, the entity's name and the `properties` of its body. Out: flaws.

use std::collections::BTreeMap;

use regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::apim::kind::Kind;
use crate::apim::policy::check::Flaw;

/// The part of JSON Schema that the data file uses.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Limit {
    #[serde(rename = "type")]
    kind: String,
    min_length: Option<usize>,
    max_length: Option<usize>,
    pattern: Option<String>,
    #[serde(rename = "enum")]
    choices: Option<Vec<String>>,
    minimum: Option<i64>,
    maximum: Option<i64>,
    items: Option<Box<Limit>>,
    max_items: Option<usize>,
    properties: Option<BTreeMap<String, Limit>>,
    required: Vec<String>,
    /// Limit of the values of a dictionary.
    values: Option<Box<Limit>>,
}

#[derive(Debug, Deserialize)]
struct Resource {
    name: Limit,
    properties: Option<Limit>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Limits {
    resources: BTreeMap<String, Resource>,
}

/// Members that only answers carry; clients send them back with what they read.
const READ_ONLY: [&str; 9] = [
    "isOnline",
    "provisioningState",
    "groups",
    "createdDate",
    "startDate",
    "endDate",
    "notificationDate",
    "expirationDate",
    "stateComment",
];

impl Limits {
    pub(crate) fn load() -> serde_json::Result<Self> {
        serde_json::from_str(include_str!("../facts/resources.json"))
    }

    pub(crate) fn name(&self, kind: Kind, name: &str) -> Vec<Flaw> {
        let mut flaws = Vec::new();
        if let Some(resource) = self.resources.get(kind.limits_key()) {
            // Revision suffixes of API ids are not part of the name.
            check(&resource.name, "name", &Value::from(name), false, &mut flaws);
        }
        flaws
    }

    /// `partial`: a PATCH, which may leave required members out.
    pub(crate) fn body(
        &self,
        kind: Kind,
        properties: &Map<String, Value>,
        partial: bool,
        strict: bool,
    ) -> Vec<Flaw> {
        let mut flaws = Vec::new();
        let limit = self
            .resources
            .get(kind.limits_key())
            .and_then(|resource| resource.properties.as_ref());
        if let Some(limit) = limit {
            let known: Map<String, Value> = properties
                .iter()
                .filter(|(name, _)| !READ_ONLY.contains(&name.as_str()))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            object(limit, "", &known, partial, strict, &mut flaws);
        }
        flaws
    }
}

fn object(
    limit: &Limit,
    path: &str,
    members: &Map<String, Value>,
    partial: bool,
    strict: bool,
    flaws: &mut Vec<Flaw>,
) {
    let place = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    if !partial {
        for name in &limit.required {
            if members.get(name).is_none_or(Value::is_null) {
                flaws.push(flaw(&place(name), format!("'{name}' is required.")));
            }
        }
    }
    for (name, value) in members {
        if let Some(member) = limit.properties.as_ref().and_then(|known| known.get(name)) {
            check(member, &place(name), value, strict, flaws);
        } else if let Some(values) = &limit.values {
            check(values, &place(name), value, strict, flaws);
        } else if strict && limit.properties.is_some() {
            flaws.push(flaw(
                &place(name),
                format!("Could not find member '{name}' on object of this type."),
            ));
        }
    }
}

fn flaw(target: &str, message: String) -> Flaw {
    Flaw {
        target: target.into(),
        message,
    }
}

fn check(limit: &Limit, path: &str, value: &Value, strict: bool, flaws: &mut Vec<Flaw>) {
    match (limit.kind.as_str(), value) {
        (_, Value::Null) | ("", _) | ("boolean", Value::Bool(_)) => {}
        ("string", Value::String(text)) => string(limit, path, text, flaws),
        ("integer" | "number", Value::Number(number)) => {
            let whole = number.as_i64();
            let fits = whole.is_some_and(|n| {
                limit.minimum.is_none_or(|min| n >= min) && limit.maximum.is_none_or(|max| n <= max)
            });
            if !fits {
                flaws.push(flaw(
                    path,
                    format!(
                        "'{path}' must be a whole number between {:?} and {:?}.",
                        limit.minimum, limit.maximum
                    ),
                ));
            }
        }
        ("array", Value::Array(items)) => {
            if limit.max_items.is_some_and(|most| items.len() > most) {
                flaws.push(flaw(path, format!("'{path}' has too many members.")));
            }
            for item in items {
                if let Some(each) = &limit.items {
                    check(each, path, item, strict, flaws);
                }
            }
        }
        ("object", Value::Object(members)) => object(limit, path, members, false, strict, flaws),
        (expected, _) => flaws.push(flaw(path, format!("'{path}' must be of type {expected}."))),
    }
}

fn string(limit: &Limit, path: &str, text: &str, flaws: &mut Vec<Flaw>) {
    let length = text.chars().count();
    let (least, most) = (
        limit.min_length.unwrap_or(0),
        limit.max_length.unwrap_or(usize::MAX),
    );
    if length < least || length > most {
        let bound = limit.max_length.map_or_else(
            || format!("at least {least}"),
            |most| format!("between {least} and {most}"),
        );
        flaws.push(flaw(path, format!("'{path}' should be {bound} characters long.")));
    }
    if let Some(pattern) = &limit.pattern
        && !Regex::new(pattern).is_ok_and(|regex| regex.is_match(text))
    {
        flaws.push(flaw(path, format!("'{path}' must match the pattern {pattern}.")));
    }
    if let Some(choices) = &limit.choices
        && !choices.iter().any(|choice| choice.eq_ignore_ascii_case(text))
    {
        flaws.push(flaw(
            path,
            format!(
                "'{text}' is not a valid value of '{path}'. Valid values: {}.",
                choices.join(", ")
            ),
        ));
    }
}
