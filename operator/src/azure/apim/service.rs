//! What the API Management service says about itself.
//! In: the client; out: gateway URL, tier, addresses, state.

use std::net::IpAddr;

use serde::Deserialize;
use url::Url;

use super::{
    error::{ArmError, ErrorClass},
    request::{Verb, parse},
    target::Resource,
    transport::ArmClient,
    wire,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFacts {
    /// Where agents call it: the default host name of its gateway.
    pub gateway_url: Url,
    /// For example `BasicV2`.
    pub sku: String,
    /// From which the gateway calls backends, public and outbound ones of all regions, sorted; empty where the tier has
    /// none of its own.
    pub addresses: Vec<IpAddr>,
    /// In a virtual network of ours it calls from its subnet too.
    pub in_network: bool,
    /// For example `Succeeded` or `Updating`.
    pub state: String,
}

#[derive(Debug, Deserialize)]
struct Body {
    sku: Option<Sku>,
    properties: wire::Service,
}

#[derive(Debug, Deserialize)]
struct Sku {
    name: String,
}

/// Reads the service; [`ErrorClass::ServiceMissing`] when it is not there.
pub async fn service(client: &ArmClient) -> Result<ServiceFacts, ArmError> {
    let request = client.request(Verb::Get, &Resource::Service);
    let answer = client.send(&request).await.map_err(|error| match error.class {
        ErrorClass::NotFound => {
            let message = format!("no service named {}", client.target().service_name());
            ArmError {
                class: ErrorClass::ServiceMissing { message },
                ..error
            }
        }
        _ => error,
    })?;
    let Body { sku, properties } = parse(&request, &answer)?;
    let hosts = properties.hostname_configurations.unwrap_or_default();
    let custom = hosts
        .into_iter()
        .find(|host| host.type_.as_deref() == Some("Proxy") && host.default_ssl_binding == Some(true))
        .and_then(|host| host.host_name)
        .map(|host| format!("https://{host}"));
    let gateway_url = custom
        .or(properties.gateway_url)
        .as_deref()
        .and_then(|text| Url::parse(text).ok());
    let gateway_url = gateway_url.ok_or_else(|| {
        let message = "the service has no gateway URL (yet)".to_owned();
        request.failed(ErrorClass::Unexpected { message })
    })?;
    let regions = properties.additional_locations.unwrap_or_default();
    let of_regions = regions
        .into_iter()
        .flat_map(|region| [region.public_ip_addresses, region.outbound_public_ip_addresses]);
    let mut addresses: Vec<IpAddr> = [
        properties.public_ip_addresses,
        properties.outbound_public_ip_addresses,
    ]
    .into_iter()
    .chain(of_regions)
    .flatten()
    .flatten()
    .filter_map(|text| text.parse().ok())
    .collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(ServiceFacts {
        gateway_url,
        sku: sku.map_or_else(String::new, |sku| sku.name),
        addresses,
        in_network: properties
            .virtual_network_type
            .is_some_and(|type_| type_ != "None"),
        state: properties.provisioning_state.unwrap_or_default(),
    })
}

/// Which diagnostics of the whole service log bodies of answers, each with the number of bytes. The gateway holds an answer
/// back to log it, and then streams come late or in one piece (Microsoft's guides to server-sent events and to MCP
/// servers: 0 bytes of the frontend response).
pub async fn body_logging(client: &ArmClient) -> Result<Vec<String>, ArmError> {
    let diagnostics = client
        .list::<wire::Item<wire::Diagnostic>>(&Resource::Diagnostics, None)
        .await?;
    let mut logging: Vec<String> = diagnostics
        .unwrap_or_default()
        .iter()
        .filter_map(|item| {
            let bytes = item.properties.logged_of_answers();
            (bytes > 0).then(|| format!("{} ({bytes} bytes)", item.name))
        })
        .collect();
    logging.sort();
    Ok(logging)
}
