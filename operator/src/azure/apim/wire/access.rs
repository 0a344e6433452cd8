//! The wire form of a product and of a subscription.

use serde::{Deserialize, Serialize};

use super::{changed, same, same_text};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Product {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subscription_required: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) approval_required: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<String>,
}

impl Product {
    /// The description is judged apart: people edit it, and only its mark is ours.
    pub(crate) fn difference(&self, found: &Self) -> Option<Self> {
        let approval = found.approval_required.unwrap_or(false);
        let difference = Self {
            display_name: changed(self.display_name.as_ref(), found.display_name.as_ref(), |a, b| {
                same_text(a, b)
            }),
            description: None,
            subscription_required: changed(
                self.subscription_required.as_ref(),
                found.subscription_required.as_ref(),
                same,
            ),
            approval_required: changed(self.approval_required.as_ref(), Some(&approval), same),
            state: changed(self.state.as_ref(), found.state.as_ref(), |a, b| {
                a.eq_ignore_ascii_case(b)
            }),
        };
        (difference != Self::default()).then_some(difference)
    }
}

#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Subscription {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<String>,
    /// Written when we choose it; answered by PUT and listSecrets only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) primary_key: Option<String>,
    #[serde(skip_serializing)]
    pub(crate) secondary_key: Option<String>,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Subscription")
            .field("display_name", &self.display_name)
            .field("scope", &self.scope)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Subscription {
    /// A changed key shows in the display name, which carries its print.
    pub(crate) fn difference(&self, found: &Self) -> Option<Self> {
        let display_name = changed(self.display_name.as_ref(), found.display_name.as_ref(), |a, b| {
            same_text(a, b)
        });
        let difference = Self {
            primary_key: display_name.as_ref().and(self.primary_key.clone()),
            display_name,
            scope: changed(self.scope.as_ref(), found.scope.as_ref(), |wanted, found| {
                same_scope(wanted, found)
            }),
            state: changed(self.state.as_ref(), found.state.as_ref(), |a, b| {
                a.eq_ignore_ascii_case(b)
            }),
            secondary_key: None,
        };
        (difference != Self::default()).then_some(difference)
    }
}

/// A scope is sent as `/apis/x` and comes back as the full ARM id.
pub(crate) fn same_scope(one: &str, other: &str) -> bool {
    canonical_scope(one) == canonical_scope(other)
}

/// In lower case, from below the service on.
pub(super) fn canonical_scope(scope: &str) -> String {
    let scope = scope.trim_end_matches('/').to_ascii_lowercase();
    let below = scope
        .split_once("/service/")
        .and_then(|(_, rest)| rest.find('/').map(|slash| rest[slash..].to_owned()));
    below.unwrap_or(scope)
}
