//! What is known about the gateway policies: sections, scopes, attributes and children (facts/policies.json).
//! In: the data file. Out: one entry per policy.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub(crate) struct PolicyFacts {
    pub(crate) policies: BTreeMap<String, PolicyFact>,
}

/// `[name, required, expressions allowed]`
#[derive(Debug, Deserialize)]
pub(crate) struct Attribute(pub(crate) String, pub(crate) bool, pub(crate) bool);

/// `[name, required]`
#[derive(Debug, Deserialize)]
pub(crate) struct Child(pub(crate) String, pub(crate) bool);

#[derive(Debug, Deserialize)]
pub(crate) struct Nested {
    pub(crate) attributes: Option<Vec<Attribute>>,
    pub(crate) children: Option<Vec<Child>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PolicyFact {
    pub(crate) sections: Vec<String>,
    pub(crate) scopes: Vec<String>,
    pub(crate) attributes: Vec<Attribute>,
    #[serde(default)]
    pub(crate) children: Vec<Child>,
    #[serde(default)]
    pub(crate) nested: BTreeMap<String, Nested>,
    /// Children that hold policies; `.` is the policy itself.
    #[serde(default)]
    pub(crate) holds: Vec<String>,
    #[serde(default)]
    pub(crate) free: bool,
    #[serde(default)]
    pub(crate) ordered: bool,
    #[serde(default)]
    pub(crate) once: bool,
}

impl PolicyFacts {
    pub(crate) fn load() -> serde_json::Result<Self> {
        serde_json::from_str(include_str!("../facts/policies.json"))
    }
}
