//! The wire form of a named value.

use serde::{Deserialize, Serialize};

#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NamedValue {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) display_name: Option<String>,
    /// Written by us; a read of a secret one has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tags: Option<Vec<String>>,
}

impl std::fmt::Debug for NamedValue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("NamedValue")
            .field("display_name", &self.display_name)
            .field("secret", &self.secret)
            .field("tags", &self.tags)
            .finish_non_exhaustive()
    }
}

impl NamedValue {
    /// Whether what a read shows is this, as far as it shows. The tags carry a print of the value.
    pub(crate) fn is_shown_by(&self, found: &Self) -> bool {
        let tags = |of: &Self| {
            let mut tags = of.tags.clone().unwrap_or_default();
            tags.sort_unstable();
            tags
        };
        self.display_name == found.display_name
            && self.secret == Some(found.secret.unwrap_or(false))
            && tags(self) == tags(found)
    }
}
