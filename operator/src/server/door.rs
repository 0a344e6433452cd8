//! The secret that only the gateway and one server know, as the server's side has it: the Secret `<name>-gateway`.
//!
//! In: the object, its gateway's status and the operator's keys; out: in which header it is sent, what the Secret is to
//! hold, and what the operator's own probe sends. Pure.
//!
//! The bundled image always demands it: whether pods mount the Secret depends on the spec alone, so no trouble with a
//! gateway opens a door. Until a gateway is known the Secret holds what only the operator knows.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use kube::api::ObjectMeta;
use mcp_fleet_crds::{McpGateway, McpServer};

use super::build::{child_labels, names};
use super::validate::{Plan, Valid, is_bundled};
use crate::azure::apim::SecretString;
use crate::azure::apim::mark::key_print;
use crate::azure::gateway_secret::{GatewaySecret, accepted};
use crate::azure::probe_key::ProbeKeys;
use crate::constants::annotations;
use crate::runtime::context::Settings;

/// In which header the bundled image wants it.
const HEADER: &str = "X-Gateway-Secret";
/// A user who gives the bundled image a secret of their own looks after it too.
const FILE_VARIABLE: &str = "GATEWAY_SECRET_FILE";

/// In which header the server wants the secret; None for one that does not ask for it, or is in no gateway.
pub fn header(server: &McpServer, settings: &Settings) -> Option<String> {
    let registration = server.spec.gateway.as_ref();
    if registration.is_some_and(|registration| !registration.enabled) {
        return None;
    }
    let given = registration.and_then(|registration| registration.secret_header.clone());
    if is_bundled(server, settings) && !has_own_secret(server, settings) {
        Some(given.unwrap_or_else(|| HEADER.to_owned()))
    } else {
        given
    }
}

/// Whether the server is sure to refuse whoever does not bring the secret. A program of somebody else may be told the
/// header, but nobody can tell whether it asks for it.
pub fn is_enforced(server: &McpServer, settings: &Settings) -> bool {
    let spec = &server.spec;
    let own_program = !spec.command.is_empty() || !spec.args.is_empty();
    !own_program
        && is_bundled(server, settings)
        && !has_own_secret(server, settings)
        && header(server, settings).is_some()
}

/// Whether a user looks after the secret.
fn has_own_secret(server: &McpServer, settings: &Settings) -> bool {
    [&settings.weather_env, &server.spec.env]
        .into_iter()
        .flatten()
        .any(|variable| variable.name == FILE_VARIABLE)
}

/// What the annotation of the Secret tells of it: `<gateway> <numbers> <print>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Empty while the server has none.
    pub gateway: String,
    /// Those of the gateway's secrets that the server accepts, newest first.
    pub numbers: Vec<i64>,
    print: String,
}

impl Label {
    /// The label of a Secret.
    pub fn of(annotations: &BTreeMap<String, String>) -> Option<Self> {
        let mut parts = annotations.get(annotations::GATEWAY_SECRET)?.split(' ');
        let (gateway, numbers, print) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self {
            gateway: gateway.to_owned(),
            numbers: numbers
                .split(',')
                .filter_map(|number| number.parse().ok())
                .collect(),
            print: print.to_owned(),
        })
    }

    fn text(&self) -> String {
        let numbers: Vec<String> = self.numbers.iter().map(ToString::to_string).collect();
        format!("{} {} {}", self.gateway, numbers.join(","), self.print)
    }
}

/// What the Secret is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    label: Label,
    /// Newest first, at most two.
    values: Vec<SecretString>,
}

/// The contents; None to leave a Secret as it is: its gateway, or that gateway's secret, is not known at the moment. `present`
/// has the annotations of the Secret that is there.
pub fn contents(
    valid: &Valid,
    keys: &ProbeKeys,
    present: Option<&BTreeMap<String, String>>,
) -> Option<Contents> {
    let (gateway, numbers, values) = match gateway(valid) {
        Some((gateway, api_id)) => {
            let mut numbers = accepted(gateway.status.as_ref().and_then(|status| status.secret.as_ref()));
            if numbers.is_empty() {
                // Its status was lost, and comes back.
                let of_it = present.and_then(Label::of);
                if of_it.is_some_and(|label| label.gateway == gateway.name_any()) {
                    return None;
                }
                // The first one. A Secret from before the gateway was known asks for it too.
                numbers.push(1);
            }
            let values = numbers
                .iter()
                .map(|number| GatewaySecret::derive(keys, gateway, *number).of_server(api_id));
            (gateway.name_any(), numbers.clone(), values.collect())
        }
        None if present.is_some() => return None,
        None => (String::new(), vec![], vec![closed(valid, keys)]),
    };
    let texts: Vec<&str> = values.iter().map(SecretString::expose).collect();
    let print = key_print(&texts.join("\n"));
    let label = Label {
        gateway,
        numbers,
        print,
    };
    Some(Contents { label, values })
}

/// The header that the operator's own probe sends to the server.
pub fn key(valid: &Valid, keys: &ProbeKeys) -> Option<(HeaderName, HeaderValue)> {
    let header = valid.secret_header.as_ref()?.parse().ok()?;
    let secret = match gateway(valid) {
        Some((gateway, api_id)) => {
            let status = gateway.status.as_ref().and_then(|status| status.secret.as_ref());
            let number = status.map_or(1, |status| status.number);
            GatewaySecret::derive(keys, gateway, number).of_server(api_id)
        }
        None => closed(valid, keys),
    };
    let mut value = HeaderValue::from_str(secret.expose()).ok()?;
    value.set_sensitive(true);
    Some((header, value))
}

/// Nobody sends this but the operator's probe.
fn closed(valid: &Valid, keys: &ProbeKeys) -> SecretString {
    SecretString::new(keys.derive("no gateway", &valid.identity.uid))
}

fn gateway(valid: &Valid) -> Option<(&McpGateway, &str)> {
    match &valid.registration {
        Ok(Plan::Register(registration)) => {
            Some((&registration.gateway.object, registration.ids.api_id.as_str()))
        }
        Ok(Plan::Unregistered { .. }) | Err(_) => None,
    }
}

impl Contents {
    /// Whether a present Secret holds this, as far as its label tells.
    pub fn is_told_by(&self, annotations: &BTreeMap<String, String>) -> bool {
        Label::of(annotations).as_ref() == Some(&self.label)
    }

    /// The Secret.
    pub fn secret(&self, valid: &Valid) -> Secret {
        let names = [names::GATEWAY_SECRET_ENTRY, names::GATEWAY_SECRET_OTHER];
        let entries = names.into_iter().zip(&self.values);
        let data =
            entries.map(|(name, value)| (name.to_owned(), ByteString(value.expose().as_bytes().to_vec())));
        Secret {
            metadata: ObjectMeta {
                name: Some(names::gateway_secret(&valid.identity.name)),
                namespace: Some(valid.identity.namespace.clone()),
                labels: Some(child_labels(&valid.identity)),
                annotations: Some([(annotations::GATEWAY_SECRET.to_owned(), self.label.text())].into()),
                ..ObjectMeta::default()
            },
            data: Some(data.collect()),
            ..Secret::default()
        }
    }
}
