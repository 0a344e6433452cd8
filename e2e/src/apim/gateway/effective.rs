//! Which policies a call meets: those of its operation, API, product and the service, joined at each `<base />`.
//! In: the policy documents from the narrowest scope outwards. Out: the policies of one section in order.

use std::sync::Arc;

use crate::apim::policy::xml::Element;
use crate::apim::store::{Document, World};
use crate::apim::switches::Switches;

/// A policy and the id of the document that it stands in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step<'a> {
    pub(super) policy: &'a Element,
    pub(super) document: &'a str,
}

#[derive(Debug)]
pub(super) struct Effective {
    documents: Vec<Arc<Document>>,
    /// What a section that is left out means.
    absent_inherits: bool,
}

impl Effective {
    pub(super) fn new(
        default: &Arc<Document>,
        switches: &Switches,
        world: &World,
        api: &Document,
        operation: Option<&Document>,
        product: Option<&Document>,
    ) -> Self {
        let ids = [
            operation.map(|operation| format!("{}/policies/policy", operation.id)),
            Some(format!("{}/policies/policy", api.id)),
            product.map(|product| format!("{}/policies/policy", product.id)),
        ];
        let mut documents: Vec<_> = ids
            .into_iter()
            .flatten()
            .filter_map(|id| world.get(&id).cloned())
            .collect();
        documents.push(Arc::clone(world.get("policies/policy").unwrap_or(default)));
        Self {
            documents,
            absent_inherits: switches.absent_section_inherits,
        }
    }

    /// A scope without a document inherits everything; a section without `<base />` inherits nothing.
    pub(super) fn section(&self, name: &str) -> Vec<Step<'_>> {
        let mut steps = Vec::new();
        self.expand(&self.documents, name, &mut steps);
        steps
    }

    fn expand<'a>(&self, documents: &'a [Arc<Document>], name: &str, out: &mut Vec<Step<'a>>) {
        let Some((document, outer)) = documents.split_first() else {
            return;
        };
        let section = document.policies.as_deref().and_then(|root| root.child(name));
        if section.is_none() && self.absent_inherits {
            self.expand(outer, name, out);
        }
        for policy in section.into_iter().flat_map(Element::children) {
            if policy.name == "base" {
                self.expand(outer, name, out);
            } else {
                out.push(Step {
                    policy,
                    document: &document.id,
                });
            }
        }
    }
}
