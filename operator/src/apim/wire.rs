//! The JSON that goes over the wire: only the members that we set and compare (api-version 2024-05-01).
//! In: the service's answers, which have many more members and null for what is absent; out: typed values, and for
//! each resource the difference between what we want and what is there.

use serde::{Deserialize, Serialize};
use url::Url;

/// The frame of every resource; id, type and name are implied by the address.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Envelope<T> {
    pub(crate) properties: T,
}

/// An item of a list: its name is its id inside the collection.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Item<T> {
    pub(crate) name: String,
    pub(crate) properties: T,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Page<T> {
    #[serde(default = "Vec::new")]
    pub(crate) value: Vec<T>,
    #[serde(default)]
    pub(crate) next_link: Option<String>,
}

/// Keeps the wanted value where it differs from the one that is there.
fn changed<T: Clone>(wanted: Option<&T>, found: Option<&T>, same: impl Fn(&T, &T) -> bool) -> Option<T> {
    let wanted = wanted?;
    (!found.is_some_and(|found| same(wanted, found))).then(|| wanted.clone())
}

/// The service may change line ends and outer space of texts.
fn same_text(wanted: &String, found: &String) -> bool {
    let lines = |text: &str| text.replace("\r\n", "\n").trim().to_owned();
    lines(wanted) == lines(found)
}

fn same<T: PartialEq>(wanted: &T, found: &T) -> bool {
    wanted == found
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Backend {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) protocol: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<BackendTls>,
}

/// Verification of an https backend. The service leaves the object out where both have their default, true.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct BackendTls {
    #[serde(deserialize_with = "null_is_true")]
    pub(crate) validate_certificate_chain: bool,
    #[serde(deserialize_with = "null_is_true")]
    pub(crate) validate_certificate_name: bool,
}

impl Default for BackendTls {
    fn default() -> Self {
        Self {
            validate_certificate_chain: true,
            validate_certificate_name: true,
        }
    }
}

fn null_is_true<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(true))
}

impl Backend {
    /// What has to change; `None` when nothing has to.
    pub(crate) fn difference(&self, found: &Self) -> Option<Self> {
        let Self {
            title,
            description,
            url,
            protocol,
            tls,
        } = self;
        let found_tls = found.tls.clone().unwrap_or_default();
        let difference = Self {
            title: changed(title.as_ref(), found.title.as_ref(), same_text),
            description: changed(description.as_ref(), found.description.as_ref(), same_text),
            url: changed(url.as_ref(), found.url.as_ref(), |wanted, found| {
                same_url(wanted, found)
            }),
            protocol: changed(protocol.as_ref(), found.protocol.as_ref(), |a, b| {
                a.eq_ignore_ascii_case(b)
            }),
            tls: changed(tls.as_ref(), Some(&found_tls), same),
        };
        (difference != Self::default()).then_some(difference)
    }
}

/// A trailing slash and the case of the host say nothing.
fn same_url(wanted: &str, found: &str) -> bool {
    let canonical = |text: &str| {
        Url::parse(text).map_or_else(
            |_| text.to_owned(),
            |url| url.as_str().trim_end_matches('/').to_owned(),
        )
    };
    canonical(wanted) == canonical(found)
}

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
            display_name: changed(self.display_name.as_ref(), found.display_name.as_ref(), same_text),
            description: changed(self.description.as_ref(), found.description.as_ref(), same_text),
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
            display_name: changed(self.display_name.as_ref(), found.display_name.as_ref(), same_text),
            method: changed(self.method.as_ref(), found.method.as_ref(), |a, b| {
                a.eq_ignore_ascii_case(b)
            }),
            url_template: changed(self.url_template.as_ref(), found.url_template.as_ref(), same),
            description: changed(self.description.as_ref(), found.description.as_ref(), same_text),
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
            display_name: changed(self.display_name.as_ref(), found.display_name.as_ref(), same_text),
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
        let display_name = changed(self.display_name.as_ref(), found.display_name.as_ref(), same_text);
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
pub(crate) fn same_scope(wanted: &str, found: &str) -> bool {
    let tail = |text: &str| {
        let lower = text.trim_end_matches('/').to_ascii_lowercase();
        let start = ["/apis/", "/products/"]
            .iter()
            .filter_map(|kind| lower.rfind(kind))
            .max();
        start.map_or(lower.clone(), |start| lower[start..].to_owned())
    };
    tail(wanted) == tail(found)
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Service {
    pub(crate) gateway_url: Option<String>,
    #[serde(rename = "publicIPAddresses")]
    pub(crate) public_ip_addresses: Option<Vec<String>>,
    pub(crate) additional_locations: Option<Vec<Location>>,
    pub(crate) provisioning_state: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Location {
    #[serde(rename = "publicIPAddresses")]
    pub(crate) public_ip_addresses: Option<Vec<String>>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_service_normalises_is_no_difference() {
        let wanted = Backend {
            title: Some("weather".into()),
            description: Some("a\n\nb".into()),
            url: Some("http://203.0.113.7".into()),
            protocol: Some("http".into()),
            tls: Some(BackendTls::default()),
        };
        let found: Backend = serde_json::from_value(json!({
            "title": "weather", "description": "a\r\n\r\nb", "url": "http://203.0.113.7/", "protocol": "Http",
            "tls": {"validateCertificateChain": null}, "circuitBreaker": null
        }))
        .unwrap();
        assert_eq!(wanted.difference(&found), None);
        let moved = Backend {
            url: Some("http://203.0.113.8/".into()),
            ..found
        };
        let change = wanted.difference(&moved).unwrap();
        assert_eq!(
            serde_json::to_value(change).unwrap(),
            json!({"url": "http://203.0.113.7"})
        );
    }

    #[test]
    fn paths_and_scopes_are_compared_in_canonical_form() {
        assert!(same_path("tools/weather", "/Tools/weather"));
        assert!(!same_path("tools/weather", "tools/weather2"));
        let full = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ApiManagement/service/c/apis/x";
        assert!(same_scope("/apis/x", full));
        assert!(!same_scope("/apis/x", "/apis/y"));
        assert!(!same_scope("/apis/x", "/products/x"));
    }

    #[test]
    fn others_settings_are_sent_back_without_what_only_answers_have() {
        let api: Api = serde_json::from_value(json!({
            "displayName": "x", "termsOfServiceUrl": "https://example.com/tos", "contact": {"name": "Ann"},
            "serviceUrl": null, "authenticationSettings": {
                "oAuth2": null, "openid": null, "oAuth2AuthenticationSettings": [],
                "openidAuthenticationSettings": [{"openidProviderId": "p"}], "returnProtectedResourceMetadata": false
            }
        }))
        .unwrap();
        assert_eq!(
            serde_json::to_value(api.others.sendable()).unwrap(),
            json!({
                "contact": {"name": "Ann"}, "termsOfServiceUrl": "https://example.com/tos",
                "authenticationSettings": {"openidAuthenticationSettings": [{"openidProviderId": "p"}]}
            })
        );
    }

    #[test]
    fn keys_are_never_shown() {
        let subscription = Subscription {
            primary_key: Some("secret".into()),
            ..Subscription::default()
        };
        assert!(!format!("{subscription:?}").contains("secret"));
    }
}
