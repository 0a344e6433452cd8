//! What the platform leaves to the teams: `McpGateway.spec.allow`. In: the object and all gateways; out: [`Leave`],
//! which answers for each rule, and refuses by the rule's name.
//!
//! The rules are those of the gateway that governs the server, so that neither `gateway.enabled: false` nor the name of
//! a gateway that is not there, or not for this namespace, is a way round them. Where nobody governs, all is closed.

use kube::ResourceExt as _;
use mcp_fleet_crds::{Allow, GatewayRegistration, McpGateway, McpServer};

use super::gateway::{admits, defaults};
use crate::server::claim::Claim;
use crate::server::error::{InvalidServer, Rule};
use crate::server::load::Loaded;

/// Annotations that move or widen nothing: whether the load balancer is an internal one, and how it treats connections.
const HARMLESS_ANNOTATIONS: [&str; 12] = [
    "service.beta.kubernetes.io/azure-load-balancer-internal",
    "service.beta.kubernetes.io/azure-load-balancer-tcp-idle-timeout",
    "service.beta.kubernetes.io/azure-load-balancer-disable-tcp-reset",
    "service.beta.kubernetes.io/azure-load-balancer-health-probe-*",
    "service.beta.kubernetes.io/port_*_health-probe_*",
    "service.beta.kubernetes.io/aws-load-balancer-type",
    "service.beta.kubernetes.io/aws-load-balancer-nlb-target-type",
    "service.beta.kubernetes.io/aws-load-balancer-scheme",
    "service.beta.kubernetes.io/aws-load-balancer-internal",
    "service.beta.kubernetes.io/aws-load-balancer-healthcheck-*",
    "networking.gke.io/load-balancer-type",
    "cloud.google.com/load-balancer-type",
];
/// The account of pods that name none.
const DEFAULT_ACCOUNT: &str = "default";

/// The rules for one server.
#[derive(Clone, Debug)]
pub struct Leave {
    /// One, or both of two gateways that are marked as default: then both must allow a thing. Empty: nobody does.
    gateways: Vec<(String, Allow)>,
}

impl Leave {
    /// The rules of the gateway that governs a server: the one it names or is registered in, where that is there and for
    /// its namespace, else the default one.
    pub fn of(server: &McpServer, registration: &GatewayRegistration, loaded: &Loaded) -> Self {
        let claimed = Claim::of(server).map(|claim| claim.gateway);
        let named = registration.name.as_ref().or(claimed.as_ref());
        let namespace = server.namespace().unwrap_or_default();
        let own = loaded
            .gateways
            .iter()
            .find(|gateway| Some(&gateway.name_any()) == named && admits(gateway, &namespace));
        let governing = match own {
            Some(own) => vec![&**own],
            None => defaults(loaded.gateways.iter().map(AsRef::as_ref)),
        };
        Self::from_gateways(&governing)
    }

    /// The rules of one gateway, for an object whose gateway is known.
    pub fn of_gateway(gateway: &McpGateway) -> Self {
        Self::from_gateways(&[gateway])
    }

    fn from_gateways(gateways: &[&McpGateway]) -> Self {
        let rules = gateways.iter().map(|gateway| {
            let allow = gateway.spec.allow.clone().unwrap_or_default();
            (gateway.name_any(), allow)
        });
        Self {
            gateways: rules.collect(),
        }
    }

    pub fn allows(&self, rule: Rule) -> bool {
        !self.gateways.is_empty() && self.gateways.iter().all(|(_, allow)| switch(rule, allow))
    }

    /// Refuses what a switch leaves closed. `what` is the field with its value.
    pub fn require(&self, rule: Rule, what: &str) -> Result<(), InvalidServer> {
        if self.allows(rule) {
            return Ok(());
        }
        let closed = self.gateways.iter().find(|(_, allow)| !switch(rule, allow));
        Err(refusal(rule, what, closed.map(|(name, _)| name)))
    }

    /// Refuses an image that a list of patterns does not have.
    pub fn image(&self, image: &str) -> Result<(), InvalidServer> {
        let what = format!("image {image}");
        self.listed(Rule::Images, &what, true, |allow| {
            let patterns = allow.images.as_ref()?;
            Some(patterns.iter().any(|pattern| matches(pattern, image)))
        })
    }

    pub fn service_account(&self, name: &str) -> Result<(), InvalidServer> {
        let what = format!("serviceAccountName {name}");
        self.listed(Rule::ServiceAccounts, &what, name == DEFAULT_ACCOUNT, |allow| {
            let patterns = allow.service_accounts.as_ref()?;
            Some(name == DEFAULT_ACCOUNT || patterns.iter().any(|pattern| matches(pattern, name)))
        })
    }

    pub fn service_annotation(&self, key: &str) -> Result<(), InvalidServer> {
        let what = format!("service.annotations {key}");
        let harmless = HARMLESS_ANNOTATIONS.iter().any(|pattern| matches(pattern, key));
        self.listed(Rule::ServiceAnnotations, &what, harmless, |allow| {
            let patterns = allow.service_annotations.as_ref()?;
            Some(patterns.iter().any(|pattern| matches(pattern, key)))
        })
    }

    /// Refuses the servers of a namespace that are too many: the youngest, so that an older one is not pushed out.
    pub fn count(&self, server: &McpServer, loaded: &Loaded) -> Result<(), InvalidServer> {
        for (gateway, allow) in &self.gateways {
            let Some(limit) = allow.servers_per_namespace else {
                continue;
            };
            let age = |server: &McpServer| {
                let created = server.metadata.creation_timestamp.as_ref().map(|time| time.0);
                (created, server.uid())
            };
            let older = loaded
                .servers
                .iter()
                .filter(|other| other.namespace() == server.namespace() && age(other) < age(server));
            if older.count() >= usize::try_from(limit).unwrap_or(0) {
                let what = format!(
                    "a further McpServer in namespace {}",
                    server.namespace().unwrap_or_default()
                );
                return Err(refusal(Rule::ServersPerNamespace, &what, Some(gateway)));
            }
        }
        Ok(())
    }

    /// `judge` is None where a gateway lists nothing; then `otherwise` holds, as it does without any gateway.
    fn listed(
        &self,
        rule: Rule,
        what: &str,
        otherwise: bool,
        judge: impl Fn(&Allow) -> Option<bool>,
    ) -> Result<(), InvalidServer> {
        if self.gateways.is_empty() && !otherwise {
            return Err(refusal(rule, what, None));
        }
        let closed = self
            .gateways
            .iter()
            .find(|(_, allow)| !judge(allow).unwrap_or(otherwise));
        closed.map_or(Ok(()), |(name, _)| Err(refusal(rule, what, Some(name))))
    }
}

fn refusal(rule: Rule, what: &str, gateway: Option<&String>) -> InvalidServer {
    InvalidServer::NotAllowed {
        rule,
        what: what.to_owned(),
        gateway: gateway.cloned(),
    }
}

fn switch(rule: Rule, allow: &Allow) -> bool {
    match rule {
        Rule::Anonymous => allow.anonymous,
        Rule::AnySource => allow.any_source,
        Rule::WildcardCors => allow.wildcard_cors,
        Rule::Orphan => allow.orphan,
        Rule::BackendUrl => allow.backend_url,
        Rule::AnyPath => allow.any_path,
        // Lists and numbers, which have a judgement of their own.
        Rule::Images | Rule::ServiceAnnotations | Rule::ServiceAccounts | Rule::ServersPerNamespace => false,
    }
}

/// Whether a text is of a pattern in which `*` stands for anything, also for nothing and for slashes.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_is_anything_and_all_else_itself() {
        let cases = [
            ("registry.example.com/*", "registry.example.com/a/b:1", true),
            (
                "registry.example.com/*",
                "registry.example.com.evil.example/a",
                false,
            ),
            (
                "registry.example.com/*",
                "evil.example/registry.example.com/a",
                false,
            ),
            ("*", "", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "a", true),
            ("*a*b", "xaxb", true),
            ("*a*b", "xbxa", false),
            ("ab*ba", "aba", false),
            ("ab*ba", "abba", true),
            ("", "a", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
