//! The wire form of an API, its operations and its policy.

use serde::{Deserialize, Serialize};

use super::{changed, same, same_text};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Api {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) protocols: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subscription_required: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subscription_key_parameter_names: Option<KeyNames>,
    /// Only in PUT bodies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) format: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<String>,
    /// Only in answers.
    #[serde(skip_serializing)]
    pub(crate) provisioning_state: Option<String>,
    /// What others may have set and an import would reset: sent back as it was read.
    #[serde(flatten)]
    pub(crate) others: OthersSettings,
}

/// An API in a list, without what only people read: a page has a hundred of them.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ListedApi {
    display_name: Option<String>,
    description: Option<String>,
    path: Option<String>,
    protocols: Option<Vec<String>>,
    subscription_required: Option<bool>,
    subscription_key_parameter_names: Option<KeyNames>,
    pub(crate) provisioning_state: Option<String>,
}

impl ListedApi {
    pub(crate) fn api(self) -> Api {
        let Self {
            display_name,
            description,
            path,
            protocols,
            subscription_required,
            subscription_key_parameter_names,
            provisioning_state,
        } = self;
        Api {
            display_name,
            description,
            path,
            protocols,
            subscription_required,
            subscription_key_parameter_names,
            provisioning_state,
            ..Api::default()
        }
    }
}

/// Where the gateway looks for the subscription key. We set it, because our policy deletes the key by these names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct KeyNames {
    pub(crate) header: Option<String>,
    pub(crate) query: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct OthersSettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) contact: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) license: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) terms_of_service_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) authentication_settings: Option<serde_json::Value>,
}

impl OthersSettings {
    /// As the service accepts it back: without nulls, empty lists, and members that only answers have.
    pub(crate) fn sendable(&self) -> Self {
        let settings = self.authentication_settings.as_ref().and_then(|settings| {
            let known = [
                "oAuth2",
                "openid",
                "oAuth2AuthenticationSettings",
                "openidAuthenticationSettings",
            ];
            let kept: serde_json::Map<_, _> = settings
                .as_object()?
                .iter()
                .filter(|(key, value)| {
                    known.contains(&key.as_str())
                        && !value.is_null()
                        && value.as_array().is_none_or(|list| !list.is_empty())
                })
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            (!kept.is_empty()).then_some(serde_json::Value::Object(kept))
        });
        Self {
            authentication_settings: settings,
            ..self.clone()
        }
    }
}

impl Api {
    /// What a PATCH has to change, import members aside.
    pub(crate) fn difference(&self, found: &Self) -> Option<Self> {
        let difference = Self {
            display_name: changed(self.display_name.as_ref(), found.display_name.as_ref(), |a, b| {
                same_text(a, b)
            }),
            description: changed(self.description.as_ref(), found.description.as_ref(), |a, b| {
                same_text(a, b)
            }),
            path: changed(self.path.as_ref(), found.path.as_ref(), |wanted, found| {
                same_path(wanted, found)
            }),
            protocols: changed(self.protocols.as_ref(), found.protocols.as_ref(), same),
            subscription_required: changed(
                self.subscription_required.as_ref(),
                found.subscription_required.as_ref(),
                same,
            ),
            subscription_key_parameter_names: changed(
                self.subscription_key_parameter_names.as_ref(),
                found.subscription_key_parameter_names.as_ref(),
                same,
            ),
            ..Self::default()
        };
        (difference != Self::default()).then_some(difference)
    }
}

/// `/tools/weather` comes back as `tools/weather`; the gateway ignores case.
pub(crate) fn same_path(wanted: &str, found: &str) -> bool {
    wanted
        .trim_matches('/')
        .eq_ignore_ascii_case(found.trim_matches('/'))
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Operation {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) url_template: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) template_parameters: Option<Vec<TemplateParameter>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct TemplateParameter {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) required: Option<bool>,
}

impl Operation {
    pub(crate) fn difference(&self, found: &Self) -> Option<Self> {
        let found_parameters = found.template_parameters.clone().unwrap_or_default();
        let names = |parameters: &[TemplateParameter]| {
            let mut names: Vec<_> = parameters
                .iter()
                .map(|parameter| parameter.name.clone())
                .collect();
            names.sort();
            names
        };
        let mut difference = Self {
            display_name: changed(self.display_name.as_ref(), found.display_name.as_ref(), |a, b| {
                same_text(a, b)
            }),
            method: changed(self.method.as_ref(), found.method.as_ref(), |a, b| {
                a.eq_ignore_ascii_case(b)
            }),
            url_template: changed(self.url_template.as_ref(), found.url_template.as_ref(), same),
            description: changed(self.description.as_ref(), found.description.as_ref(), |a, b| {
                same_text(a, b)
            }),
            template_parameters: changed(
                self.template_parameters.as_ref(),
                Some(&found_parameters),
                |wanted, found| names(wanted) == names(found),
            ),
        };
        if difference.url_template.is_some() {
            // The service checks that a template and its parameters fit each other.
            difference
                .template_parameters
                .clone_from(&self.template_parameters);
        }
        (difference != Self::default()).then_some(difference)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Policy {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) format: Option<String>,
    pub(crate) value: String,
}
