//! How the Service is exposed. In: the spec and what the gateway reports; out: [`Exposure`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use mcp_fleet_crds::{
    ExternalTrafficPolicy, McpGateway, McpServer, SOURCE_ANY, SOURCE_GATEWAY, ServerService, ServiceType,
};

use crate::constants::labels;
use crate::server::error::InvalidServer;

/// The Service as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    pub port: u16,
    pub annotations: BTreeMap<String, String>,
    pub access: Access,
}

/// Who reaches the Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    ClusterOnly,
    LoadBalancer {
        /// Sorted; empty for everybody.
        sources: Vec<IpNet>,
        /// The gateway was to be the only source, but reports no addresses.
        open_for_want_of_addresses: bool,
        class: Option<String>,
        external_traffic_policy: Option<&'static str>,
    },
}

/// Validates.
pub fn exposure(server: &McpServer, gateway: Option<&McpGateway>) -> Result<Exposure, InvalidServer> {
    let ServerService {
        type_,
        port,
        sources,
        annotations,
        load_balancer_class,
        external_traffic_policy,
    } = server.spec.service.clone().unwrap_or_default();
    for key in annotations.keys() {
        if key.starts_with(labels::RESERVED[0]) {
            return Err(field(
                "service.annotations",
                &format!("{key} is the operator's: remove it"),
            ));
        }
    }
    let port = u16::try_from(port).map_err(|_| field("service.port", "must be between 1 and 65535"))?;
    let access = match type_ {
        ServiceType::ClusterIP => Access::ClusterOnly,
        ServiceType::LoadBalancer => {
            let given = sources.unwrap_or_else(|| vec![SOURCE_GATEWAY.to_owned()]);
            let (sources, open_for_want_of_addresses) = networks(&given, gateway)?;
            Access::LoadBalancer {
                sources,
                open_for_want_of_addresses,
                class: load_balancer_class,
                external_traffic_policy: external_traffic_policy.map(|policy| match policy {
                    ExternalTrafficPolicy::Cluster => "Cluster",
                    ExternalTrafficPolicy::Local => "Local",
                }),
            }
        }
    };
    Ok(Exposure {
        port,
        annotations,
        access,
    })
}

fn networks(given: &[String], gateway: Option<&McpGateway>) -> Result<(Vec<IpNet>, bool), InvalidServer> {
    let mut networks = BTreeSet::new();
    let mut unreported = false;
    for source in given {
        match source.as_str() {
            SOURCE_ANY => return Ok((vec![], false)),
            SOURCE_GATEWAY => {
                let addresses = gateway_addresses(gateway);
                unreported |= addresses.is_empty();
                networks.extend(addresses);
            }
            text => {
                let network: IpNet = text.parse().map_err(|_| {
                    field(
                        "service.sources",
                        &format!("{text} is not a CIDR such as 203.0.113.0/24"),
                    )
                })?;
                // The API server and clouds differ in what they make of host bits.
                networks.insert(network.trunc());
            }
        }
    }
    // With other sources beside it, an unreported gateway leaves a restriction in place.
    let open = unreported && networks.is_empty();
    Ok((networks.into_iter().collect(), open))
}

fn gateway_addresses(gateway: Option<&McpGateway>) -> Vec<IpNet> {
    gateway
        .and_then(|gateway| gateway.status.as_ref())
        .into_iter()
        .flat_map(|status| &status.source_addresses)
        .filter_map(|text| {
            text.parse::<IpNet>()
                .ok()
                .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
        })
        .collect()
}

fn field(field: &str, problem: &str) -> InvalidServer {
    InvalidServer::Field {
        field: field.to_owned(),
        problem: problem.to_owned(),
    }
}
