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
    pub gateway_url: Url,
    /// For example `BasicV2`.
    pub sku: String,
    /// From which the gateway calls backends, of all regions, sorted; empty where the tier has none of its own.
    pub public_ip_addresses: Vec<IpAddr>,
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
    let gateway_url = properties
        .gateway_url
        .as_deref()
        .and_then(|text| Url::parse(text).ok());
    let gateway_url = gateway_url.ok_or_else(|| {
        let message = "the service has no gateway URL (yet)".to_owned();
        request.failed(ErrorClass::Unexpected { message })
    })?;
    let regions = properties.additional_locations.unwrap_or_default();
    let mut addresses: Vec<IpAddr> = properties
        .public_ip_addresses
        .into_iter()
        .chain(
            regions
                .into_iter()
                .filter_map(|region| region.public_ip_addresses),
        )
        .flatten()
        .filter_map(|text| text.parse().ok())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(ServiceFacts {
        gateway_url,
        sku: sku.map_or_else(String::new, |sku| sku.name),
        public_ip_addresses: addresses,
        state: properties.provisioning_state.unwrap_or_default(),
    })
}
