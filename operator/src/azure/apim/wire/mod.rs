//! The JSON that goes over the wire: only the members that we set and compare (api-version 2024-05-01).
//! In: the service's answers, which have many more members and null for what is absent; out: typed values, and for
//! each resource the difference between what we want and what is there.

use serde::{Deserialize, Serialize};
use url::Url;

mod access;
mod api;
mod named_value;
mod print;

use access::canonical_scope;
pub(crate) use access::{Product, Subscription, same_scope};
pub(crate) use api::{
    Api, KeyNames, ListedApi, Operation, OthersSettings, Policy, TemplateParameter, same_path,
};
pub(crate) use named_value::NamedValue;
pub(crate) use print::Print;

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
fn same_text(wanted: &str, found: &str) -> bool {
    canonical_text(wanted) == canonical_text(found)
}

fn canonical_text(text: &str) -> String {
    text.replace("\r\n", "\n").trim().to_owned()
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
            title: changed(title.as_ref(), found.title.as_ref(), |a, b| same_text(a, b)),
            description: changed(description.as_ref(), found.description.as_ref(), |a, b| {
                same_text(a, b)
            }),
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
    canonical_url(wanted) == canonical_url(found)
}

fn canonical_url(text: &str) -> String {
    Url::parse(text).map_or_else(
        |_| text.to_owned(),
        |url| url.as_str().trim_end_matches('/').to_owned(),
    )
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Service {
    pub(crate) gateway_url: Option<String>,
    #[serde(rename = "publicIPAddresses")]
    pub(crate) public_ip_addresses: Option<Vec<String>>,
    #[serde(rename = "outboundPublicIPAddresses")]
    pub(crate) outbound_public_ip_addresses: Option<Vec<String>>,
    pub(crate) additional_locations: Option<Vec<Location>>,
    pub(crate) hostname_configurations: Option<Vec<HostnameConfiguration>>,
    pub(crate) virtual_network_type: Option<String>,
    pub(crate) provisioning_state: Option<String>,
}

/// A host name of the service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct HostnameConfiguration {
    #[serde(rename = "type")]
    pub(crate) type_: Option<String>,
    pub(crate) host_name: Option<String>,
    pub(crate) default_ssl_binding: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Location {
    #[serde(rename = "publicIPAddresses")]
    pub(crate) public_ip_addresses: Option<Vec<String>>,
    #[serde(rename = "outboundPublicIPAddresses")]
    pub(crate) outbound_public_ip_addresses: Option<Vec<String>>,
}

/// A diagnostic of the service, as far as it concerns streams.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Diagnostic {
    frontend: Option<Pipeline>,
    backend: Option<Pipeline>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Pipeline {
    response: Option<LoggedMessage>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct LoggedMessage {
    body: Option<LoggedBody>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct LoggedBody {
    bytes: Option<u32>,
}

impl Diagnostic {
    /// Bytes of each answer that are logged, on either side of the gateway.
    pub(crate) fn logged_of_answers(&self) -> u32 {
        let bytes = |side: &Option<Pipeline>| side.as_ref()?.response.as_ref()?.body.as_ref()?.bytes;
        let sides = [bytes(&self.frontend), bytes(&self.backend)];
        sides.into_iter().flatten().max().unwrap_or_default()
    }
}
