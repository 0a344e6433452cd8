//! How the Service is exposed. In: the spec and what the gateway reports; out: [`Exposure`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
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
    /// What stands against the exposure that was asked for: `access` is then what is safe, and never wider than what
    /// is there.
    pub refused: Option<InvalidServer>,
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

/// Validates. `gateway` is an error while nobody knows which addresses are the gateway's.
pub fn exposure(
    server: &McpServer,
    gateway: Result<Option<&McpGateway>, &InvalidServer>,
    present: Option<&Service>,
) -> Result<Exposure, InvalidServer> {
    let ServerService {
        type_,
        port,
        sources,
        annotations,
        load_balancer_class,
        external_traffic_policy,
    } = server.spec.service.clone().unwrap_or_default();
    let port = u16::try_from(port).map_err(|_| field("service.port", "must be between 1 and 65535"))?;
    let (annotations, reserved): (BTreeMap<_, _>, BTreeMap<_, _>) = annotations
        .into_iter()
        .partition(|(key, _)| !key.starts_with(labels::RESERVED[0]));
    let reserved = reserved.into_keys().next().map(|key| {
        field(
            "service.annotations",
            &format!("{key} is the operator's: remove it"),
        )
    });
    if type_ == ServiceType::ClusterIP {
        return Ok(Exposure {
            port,
            annotations,
            access: Access::ClusterOnly,
            refused: reserved,
        });
    }
    let external_traffic_policy = external_traffic_policy.map(|policy| match policy {
        ExternalTrafficPolicy::Cluster => "Cluster",
        ExternalTrafficPolicy::Local => "Local",
    });
    let given = sources.unwrap_or_else(|| vec![SOURCE_GATEWAY.to_owned()]);
    let wanted = reserved.map_or_else(|| networks(&given, gateway), Err);
    let (access, refused) = match wanted {
        Ok((sources, open_for_want_of_addresses)) => {
            let access = Access::LoadBalancer {
                sources,
                open_for_want_of_addresses,
                class: load_balancer_class,
                external_traffic_policy,
            };
            (access, None)
        }
        Err(refusal) => (held(present, external_traffic_policy), Some(refusal)),
    };
    Ok(Exposure {
        port,
        annotations,
        access,
        refused,
    })
}

/// What may stay while nothing better is known: a load balancer that is there and restricted keeps its sources. None is
/// made, and one that is open to all is closed.
fn held(present: Option<&Service>, external_traffic_policy: Option<&'static str>) -> Access {
    let spec = present.and_then(|service| service.spec.as_ref());
    let spec = spec.filter(|spec| spec.type_.as_deref() == Some("LoadBalancer"));
    let ranges = spec.and_then(|spec| spec.load_balancer_source_ranges.as_ref());
    let sources: Vec<IpNet> = ranges
        .into_iter()
        .flatten()
        .filter_map(|range| range.parse().ok())
        .collect();
    if sources.is_empty() {
        return Access::ClusterOnly;
    }
    Access::LoadBalancer {
        sources,
        open_for_want_of_addresses: false,
        class: spec.and_then(|spec| spec.load_balancer_class.clone()),
        external_traffic_policy,
    }
}

fn networks(
    given: &[String],
    gateway: Result<Option<&McpGateway>, &InvalidServer>,
) -> Result<(Vec<IpNet>, bool), InvalidServer> {
    let mut networks = BTreeSet::new();
    let mut unreported = false;
    for source in given {
        match source.as_str() {
            SOURCE_ANY => return Ok((vec![], false)),
            SOURCE_GATEWAY => {
                let addresses = gateway_addresses(gateway.map_err(Clone::clone)?);
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
