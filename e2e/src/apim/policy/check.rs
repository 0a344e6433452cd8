//! Says whether the service would take a policy document.
//! In: the parsed document, its scope, and what it may refer to. Out: what is wrong, in the service's words where
//! they are known (they are those of .NET's schema validation).

use std::collections::BTreeSet;

use super::facts::{Attribute, Child, PolicyFact, PolicyFacts};
use super::values;
use super::xml::{Element, Node};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Global,
    Product,
    Api,
    Operation,
}

impl Scope {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Scope::Global => "global",
            Scope::Product => "product",
            Scope::Api => "api",
            Scope::Operation => "operation",
        }
    }
}

/// One member of an error's `details`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub(crate) target: String,
    pub(crate) message: String,
}

impl Flaw {
    pub(crate) fn at(element: &Element, message: impl std::fmt::Display) -> Self {
        let Element {
            name, line, column, ..
        } = element;
        Self {
            target: name.clone(),
            message: format!("Error in element '{name}' on line {line}, column {column}: {message}"),
        }
    }

    fn plain(target: &str, message: impl Into<String>) -> Self {
        Self {
            target: target.into(),
            message: message.into(),
        }
    }
}

/// What policies refer to by name.
pub(crate) trait References {
    fn has_backend(&self, id: &str) -> bool;
    fn has_fragment(&self, id: &str) -> bool;
    fn has_named_value(&self, name: &str) -> bool;
}

pub(crate) const SECTIONS: [&str; 4] = ["inbound", "backend", "outbound", "on-error"];

struct Check<'a> {
    facts: &'a PolicyFacts,
    scope: Scope,
    references: &'a dyn References,
    flaws: Vec<Flaw>,
    once: BTreeSet<String>,
}

/// The first flaws that the service would report; empty when it takes the document.
pub(crate) fn check(
    root: &Element,
    scope: Scope,
    facts: &PolicyFacts,
    references: &dyn References,
) -> Vec<Flaw> {
    let mut check = Check {
        facts,
        scope,
        references,
        flaws: Vec::new(),
        once: BTreeSet::new(),
    };
    if root.name != "policies" {
        return vec![Flaw::plain(
            &root.name,
            "Policy section is not allowed in the specified scope",
        )];
    }
    let mut seen = BTreeSet::new();
    for section in root.children() {
        if !SECTIONS.contains(&section.name.as_str()) {
            check.flaws.push(invalid_child(root, section, &SECTIONS));
        } else if !seen.insert(section.name.clone()) {
            check.flaws.push(Flaw::at(
                section,
                format!("Policy section '{}' is specified more than once", section.name),
            ));
        } else {
            check.section(section);
        }
    }
    check.flaws
}

fn invalid_child<T: AsRef<str>>(parent: &Element, child: &Element, expected: &[T]) -> Flaw {
    let list = expected.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    let tail = if list.is_empty() {
        String::new()
    } else {
        format!(" List of possible elements expected: '{list}'.")
    };
    Flaw::at(
        child,
        format!(
            "The element '{}' has invalid child element '{}'.{tail}",
            parent.name, child.name
        ),
    )
}

impl Check<'_> {
    fn section(&mut self, section: &Element) {
        if section.name == "backend" && section.children().count() > 1 {
            self.flaws.push(Flaw::plain(
                "backend",
                "backend section allows only one policy to be specified",
            ));
        }
        if let Some(Node::Text(_)) = section.nodes.iter().find(|node| matches!(node, Node::Text(_))) {
            self.flaws.push(Flaw::at(
                section,
                format!("The element '{}' cannot contain text.", section.name),
            ));
        }
        self.policies(section, section);
    }

    fn policies(&mut self, section: &Element, holder: &Element) {
        for policy in holder.children() {
            if policy.name == "base" {
                if holder != section || self.scope == Scope::Global {
                    self.flaws
                        .push(Flaw::at(policy, "'base' is not allowed in the specified scope"));
                }
                continue;
            }
            let Some(fact) = self.facts.policies.get(&policy.name) else {
                self.flaws.push(invalid_child::<&str>(holder, policy, &[]));
                continue;
            };
            if !fact.sections.contains(&section.name) {
                self.flaws
                    .push(Flaw::at(policy, "Policy is not allowed in the specified section"));
            } else if !fact.scopes.iter().any(|scope| scope == self.scope.name()) {
                self.flaws
                    .push(Flaw::at(policy, "Policy is not allowed in the specified scope"));
            } else if fact.once && !self.once.insert(policy.name.clone()) {
                self.flaws.push(Flaw::at(
                    policy,
                    "Policy can be used only once in a policy document",
                ));
            } else {
                self.policy(section, policy, fact);
            }
        }
    }

    fn policy(&mut self, section: &Element, policy: &Element, fact: &PolicyFact) {
        self.attributes(policy, &fact.attributes);
        if fact.holds.iter().any(|holder| holder == ".") {
            self.policies(section, policy);
            return;
        }
        if !fact.free {
            self.children(policy, &fact.children, fact.ordered);
            for child in policy.children() {
                if let Some(nested) = fact.nested.get(&child.name) {
                    if let Some(attributes) = &nested.attributes {
                        self.attributes(child, attributes);
                    }
                    if let Some(children) = &nested.children {
                        self.children(child, children, false);
                    }
                }
                if fact.holds.contains(&child.name) {
                    self.policies(section, child);
                }
            }
        }
        self.flaws.extend(values::check(policy, self.references));
    }

    fn attributes(&mut self, element: &Element, known: &[Attribute]) {
        for Attribute(name, required, _) in known {
            if *required && element.attribute(name).is_none() {
                self.flaws.push(Flaw::at(
                    element,
                    format!("The required attribute '{name}' is missing."),
                ));
            }
        }
        for (name, value) in &element.attributes {
            match known.iter().find(|attribute| attribute.0 == *name) {
                // The reference lists no attribute of its own for `id`, which every policy may carry.
                None if name == "id" => {}
                None => self.flaws.push(Flaw::at(
                    element,
                    format!("The '{name}' attribute is not declared."),
                )),
                Some(Attribute(_, _, false)) if value.starts_with("@(") || value.starts_with("@{") => {
                    let message = format!("Policy expressions are not allowed in the attribute '{name}'.");
                    self.flaws.push(Flaw::at(element, message));
                }
                Some(_) => {}
            }
            for named in named_values(value) {
                if !self.references.has_named_value(named) {
                    self.flaws
                        .push(Flaw::at(element, format!("Cannot find a property '{named}'")));
                }
            }
        }
    }

    fn children(&mut self, element: &Element, known: &[Child], ordered: bool) {
        let names: Vec<&str> = known.iter().map(|child| child.0.as_str()).collect();
        let text = element.nodes.iter().any(|node| matches!(node, Node::Text(_)));
        if text {
            let tail = if names.is_empty() {
                String::new()
            } else {
                format!(" List of possible elements expected: '{}'.", names.join(", "))
            };
            self.flaws.push(Flaw::at(
                element,
                format!("The element '{}' cannot contain text.{tail}", element.name),
            ));
        }
        let mut place = 0;
        for child in element.children() {
            match names.iter().position(|name| *name == child.name) {
                None => self.flaws.push(invalid_child(element, child, &names)),
                Some(at) if ordered && at < place => {
                    self.flaws.push(invalid_child(element, child, &names[place..]));
                }
                Some(at) => place = at,
            }
        }
        for Child(name, required) in known {
            if *required && element.child(name).is_none() {
                let message = format!(
                    "The element '{}' has incomplete content. List of possible elements expected: '{name}'.",
                    element.name
                );
                self.flaws.push(Flaw::at(element, message));
            }
        }
    }
}

/// Names inside `{{ }}`.
pub(crate) fn named_values(text: &str) -> impl Iterator<Item = &str> {
    text.split("{{")
        .skip(1)
        .filter_map(|rest| rest.split_once("}}"))
        .map(|(name, _)| name.trim())
}
