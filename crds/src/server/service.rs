//! The Service in front of the pods.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The Service in front of the pods.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.sources) || !has(self.type) || self.type != 'ClusterIP'").message("sources restrict a load balancer: a ClusterIP Service has none"),
    validation = Rule::new("!has(self.loadBalancerClass) || !has(self.type) || self.type != 'ClusterIP'").message("loadBalancerClass needs type LoadBalancer"),
    validation = Rule::new("!has(self.externalTrafficPolicy) || !has(self.type) || self.type != 'ClusterIP'").message("externalTrafficPolicy needs type LoadBalancer"),
    validation = Rule::new("!has(self.sources) || !('Any' in self.sources) || size(self.sources) == 1").message("sources: Any stands alone"),
    validation = Rule::new("!has(self.ipFamilies) || size(self.ipFamilies) < 2 || (has(self.ipFamilyPolicy) && self.ipFamilyPolicy != 'SingleStack')").message("two ipFamilies need ipFamilyPolicy PreferDualStack or RequireDualStack")
)]
pub struct ServerService {
    /// Default: LoadBalancer for a server that is registered in a gateway or names `sources`, else ClusterIP.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<ServiceType>,
    /// Port of the Service.
    #[serde(default = "default_service_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Who may reach the load balancer: CIDRs, `Gateway` (the addresses that the gateway calls from; the default) or
    /// `Any`, alone, where the gateway allows it. Where no address is known, there is no load balancer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 49)))]
    #[x_kube(validation = Rule::new("self.all(source, source == 'Gateway' || source == 'Any' || isCIDR(source))").message("each source is a CIDR such as 203.0.113.0/24 or 2001:db8::/32, or Gateway, or Any"))]
    pub sources: Option<Vec<String>>,
    /// Annotations of the Service, for the cloud's load balancer; those that the gateway allows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Which load balancer implementation serves it; fixed once set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub load_balancer_class: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
    /// Whether the Service has addresses of one or both IP families. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_family_policy: Option<IpFamilyPolicy>,
    /// The families, the first one first. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2))]
    #[x_kube(validation = Rule::new("size(self) == 1 || self[0] != self[1]").message("ipFamilies names each family once"))]
    pub ip_families: Option<Vec<IpFamily>>,
}

impl Default for ServerService {
    fn default() -> Self {
        Self {
            type_: None,
            port: default_service_port(),
            sources: None,
            annotations: BTreeMap::new(),
            load_balancer_class: None,
            external_traffic_policy: None,
            ip_family_policy: None,
            ip_families: None,
        }
    }
}

fn default_service_port() -> i32 {
    80
}

/// Type of the Service.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum ServiceType {
    LoadBalancer,
    ClusterIP,
}

/// Whether a load balancer keeps the client's address.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum ExternalTrafficPolicy {
    Cluster,
    Local,
}

/// How many IP families a Service has.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum IpFamilyPolicy {
    SingleStack,
    PreferDualStack,
    RequireDualStack,
}

/// An IP family.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum IpFamily {
    IPv4,
    IPv6,
}
