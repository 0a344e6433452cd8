//! How the Service is exposed. In: the spec, the gateway, what the platform allows, and the Service that is there; out:
//! [`Exposure`].
//!
//! It fails closed: a load balancer is there only for addresses that somebody named. What was refused or is not known
//! yet leaves an [`Exposure`] that can be built all the same, and is never wider than what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use kube::ResourceExt as _;
use mcp_fleet_crds::{
    ExternalTrafficPolicy, IpFamily, IpFamilyPolicy, McpGateway, McpServer, SOURCE_ANY, SOURCE_GATEWAY,
    ServerService, ServiceType,
};

use super::leave::Leave;
use crate::constants::labels;
use crate::server::error::{InvalidServer, Rule};

/// Nobody has an address in it (TEST-NET-1, RFC 5737): a load balancer for it alone keeps its address and lets no one in.
const NOBODY: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 2, 0), 24);

/// The Service as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    pub port: u16,
    pub annotations: BTreeMap<String, String>,
    /// Kubernetes' words; absent for the cluster's own.
    pub ip_family_policy: Option<&'static str>,
    pub ip_families: Option<Vec<&'static str>>,
    pub access: Access,
    /// What stands against the exposure that was asked for: `access` is then what is safe.
    pub refused: Option<InvalidServer>,
    /// The server itself refuses whoever does not come through the gateway.
    pub guarded: bool,
}

/// Who reaches the Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    ClusterOnly,
    LoadBalancer {
        /// Sorted; empty for everybody.
        sources: Vec<IpNet>,
        class: Option<String>,
        external_traffic_policy: Option<&'static str>,
    },
}

impl Exposure {
    /// Whether the gateway has a way to the server, or will have one as soon as the load balancer has an address.
    pub fn has_load_balancer(&self) -> bool {
        matches!(self.access, Access::LoadBalancer { .. })
    }

    /// While something is published under the load balancer's address, that is not given up: the cloud would give it to
    /// somebody else, and the gateway send them our callers. It keeps whom it lets in, and one that was open lets in
    /// nobody.
    pub fn keep_until_withdrawn(&mut self, present: Option<&Service>) {
        let Some((present, spec)) = balanced(present).filter(|_| !self.has_load_balancer()) else {
            return;
        };
        let mut sources = ranges(spec);
        if sources.is_empty() {
            sources.push(NOBODY.into());
        }
        // As they are: one that is refused must not be added now, nor one that is needed for the address be taken away.
        self.annotations = present
            .annotations()
            .iter()
            .filter(|(key, _)| !key.starts_with(labels::RESERVED[0]))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        self.access = kept(spec, sources);
    }
}

/// Validates. `gateway` is an error while nobody knows which addresses are the gateway's.
pub fn exposure(
    server: &McpServer,
    gateway: Result<Option<&McpGateway>, &InvalidServer>,
    leave: &Leave,
    guarded: bool,
    present: Option<&Service>,
) -> Result<Exposure, InvalidServer> {
    let ServerService {
        type_,
        port,
        sources,
        annotations,
        load_balancer_class,
        external_traffic_policy,
        ip_family_policy,
        ip_families,
    } = server.spec.service.clone().unwrap_or_default();
    let port = u16::try_from(port).map_err(|_| field("service.port", "must be between 1 and 65535"))?;
    let (annotations, unwanted) = judge_annotations(annotations, leave, present);
    let registers = server.spec.gateway.as_ref().is_none_or(|gateway| gateway.enabled);
    let balanced = match type_ {
        Some(type_) => type_ == ServiceType::LoadBalancer,
        None => registers || sources.is_some(),
    };
    let ip_family_policy = ip_family_policy.map(|policy| match policy {
        IpFamilyPolicy::SingleStack => "SingleStack",
        IpFamilyPolicy::PreferDualStack => "PreferDualStack",
        IpFamilyPolicy::RequireDualStack => "RequireDualStack",
    });
    let ip_families = ip_families.map(|families| families.into_iter().map(ip_family).collect());
    if !balanced {
        return Ok(Exposure {
            port,
            annotations,
            ip_family_policy,
            ip_families,
            access: Access::ClusterOnly,
            refused: unwanted.map(|unwanted| unwanted.refusal),
            guarded,
        });
    }
    let external_traffic_policy = external_traffic_policy.map(|policy| match policy {
        ExternalTrafficPolicy::Cluster => "Cluster",
        ExternalTrafficPolicy::Local => "Local",
    });
    let given = sources.unwrap_or_else(|| vec![SOURCE_GATEWAY.to_owned()]);
    let wanted = match &unwanted {
        // A load balancer that is what it is by an annotation that is no longer allowed goes.
        Some(unwanted) if unwanted.in_effect => Err(unwanted.refusal.clone()),
        _ => networks(&given, gateway, leave, guarded),
    };
    let (access, refused) = match wanted {
        Ok(sources) => {
            let access = Access::LoadBalancer {
                sources,
                class: load_balancer_class,
                external_traffic_policy,
            };
            (access, unwanted.map(|unwanted| unwanted.refusal))
        }
        Err(refusal) if refusal.revokes() => (Access::ClusterOnly, Some(refusal)),
        Err(refusal) => (held(present, guarded), Some(refusal)),
    };
    Ok(Exposure {
        port,
        annotations,
        ip_family_policy,
        ip_families,
        access,
        refused,
        guarded,
    })
}

fn ip_family(family: IpFamily) -> &'static str {
    match family {
        IpFamily::IPv4 => "IPv4",
        IpFamily::IPv6 => "IPv6",
    }
}

/// An annotation that may not be.
struct Unwanted {
    refusal: InvalidServer,
    /// The Service has it by now.
    in_effect: bool,
}

/// The annotations that may be, and the first of those that may not.
fn judge_annotations(
    given: BTreeMap<String, String>,
    leave: &Leave,
    present: Option<&Service>,
) -> (BTreeMap<String, String>, Option<Unwanted>) {
    let mut allowed = BTreeMap::new();
    let mut unwanted: Option<Unwanted> = None;
    for (key, value) in given {
        let judged = if key.starts_with(labels::RESERVED[0]) {
            Err(field(
                "service.annotations",
                &format!("{key} is the operator's: remove it"),
            ))
        } else {
            leave.service_annotation(&key)
        };
        match judged {
            Ok(()) => {
                allowed.insert(key, value);
            }
            Err(refusal) => {
                let in_effect = refusal.revokes()
                    && present.is_some_and(|service| service.annotations().get(&key) == Some(&value));
                if unwanted
                    .as_ref()
                    .is_none_or(|first| in_effect && !first.in_effect)
                {
                    unwanted = Some(Unwanted { refusal, in_effect });
                }
            }
        }
    }
    (allowed, unwanted)
}

/// What may stay while nothing better is known: a load balancer that is there and restricted keeps its sources. None is
/// made, and one that is open to all is closed, unless the server guards itself.
fn held(present: Option<&Service>, guarded: bool) -> Access {
    match balanced(present).map(|(_, spec)| (spec, ranges(spec))) {
        Some((spec, sources)) if guarded || !sources.is_empty() => kept(spec, sources),
        _ => Access::ClusterOnly,
    }
}

fn balanced(present: Option<&Service>) -> Option<(&Service, &ServiceSpec)> {
    let present = present?;
    let spec = present.spec.as_ref()?;
    (spec.type_.as_deref() == Some("LoadBalancer")).then_some((present, spec))
}

fn ranges(spec: &ServiceSpec) -> Vec<IpNet> {
    let ranges = spec.load_balancer_source_ranges.iter().flatten();
    ranges.filter_map(|range| range.parse().ok()).collect()
}

fn kept(spec: &ServiceSpec, sources: Vec<IpNet>) -> Access {
    Access::LoadBalancer {
        sources,
        class: spec.load_balancer_class.clone(),
        external_traffic_policy: match spec.external_traffic_policy.as_deref() {
            Some("Local") => Some("Local"),
            _ => None,
        },
    }
}

/// Whom to let in; empty for everybody, which the platform must allow, unless the server is guarded by itself and nobody
/// knows the gateway's addresses.
fn networks(
    given: &[String],
    gateway: Result<Option<&McpGateway>, &InvalidServer>,
    leave: &Leave,
    guarded: bool,
) -> Result<Vec<IpNet>, InvalidServer> {
    let mut networks = BTreeSet::new();
    let mut silent = None;
    for source in given {
        match source.as_str() {
            SOURCE_ANY => {
                leave.require(Rule::AnySource, "service.sources Any")?;
                return Ok(vec![]);
            }
            SOURCE_GATEWAY => {
                let gateway = gateway.map_err(Clone::clone)?;
                let addresses = gateway_addresses(gateway);
                if addresses.is_empty() {
                    silent = Some(why_unknown(gateway));
                }
                networks.extend(addresses);
            }
            text => {
                let network: IpNet = text.parse().map_err(|_| {
                    field(
                        "service.sources",
                        &format!("{text} is not a CIDR such as 203.0.113.0/24"),
                    )
                })?;
                if network.prefix_len() == 0 {
                    leave.require(Rule::AnySource, &format!("service.sources {text}"))?;
                }
                // The API server and clouds differ in what they make of host bits.
                networks.insert(network.trunc());
            }
        }
    }
    match silent {
        // With other sources beside it, a silent gateway leaves a restriction in place.
        Some(why) if networks.is_empty() && !guarded => Err(InvalidServer::NoSourceAddresses { why }),
        _ => Ok(networks.into_iter().collect()),
    }
}

fn why_unknown(gateway: Option<&McpGateway>) -> String {
    match gateway {
        Some(gateway) => {
            let tier = gateway.status.as_ref().and_then(|status| status.sku.as_deref());
            format!(
                "nobody knows from which addresses McpGateway {} calls, since its tier ({}) reports none",
                gateway.name_any(),
                tier.unwrap_or("unknown")
            )
        }
        None => "gateway.enabled is false, so there is no gateway to let in".to_owned(),
    }
}

/// Those that the service reports and those that the platform states.
fn gateway_addresses(gateway: Option<&McpGateway>) -> Vec<IpNet> {
    let Some(gateway) = gateway else { return vec![] };
    let reported = gateway
        .status
        .as_ref()
        .map(|status| &status.source_addresses)
        .into_iter()
        .flatten();
    let apim = gateway.spec.apim.as_ref();
    let stated = apim
        .and_then(|apim| apim.source_ranges.as_ref())
        .into_iter()
        .flatten();
    reported
        .chain(stated)
        .filter_map(|text| {
            text.parse::<IpNet>()
                .ok()
                .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
        })
        .map(|network| network.trunc())
        .collect()
}

fn field(field: &str, problem: &str) -> InvalidServer {
    InvalidServer::Field {
        field: field.to_owned(),
        problem: problem.to_owned(),
    }
}
