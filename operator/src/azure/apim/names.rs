//! The names of what we make in API Management: the same object gets the same name in every pass and after every
//! restart, so that a lost answer never makes a second one.
//! In: cluster, namespace, name; out: ids that every resource type accepts.

use sha2::{Digest, Sha256};

/// ARM's JSON schema caps api, backend and operation ids at 80 characters.
const MAX_LENGTH: usize = 80;
const HASH_LENGTH: usize = 8;

/// What the name is for. It goes into the hash: a server and an access of one name must not share a subscription id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Server,
    Access,
    /// The probe's subscription of a gateway.
    Probe,
    /// The named value with a gateway's secret.
    Secret,
}

/// `<clusterId>-<namespace>-<name>-<hash8>`, cut to 80. The hash covers the uncut parts and their borders, so
/// `a-b`/`c` and `a`/`b-c` differ. Only `[a-z0-9-]` remains: legal for every resource type (`^[^*#&+:<>?]+$`)
/// and safe in a policy attribute and in a URL.
pub fn resource_name(purpose: Purpose, cluster_id: &str, namespace: &str, name: &str) -> String {
    let salt = match purpose {
        Purpose::Server => "server",
        Purpose::Access => "access",
        Purpose::Probe => "probe",
        Purpose::Secret => "secret",
    };
    let hash = short_hash(&[salt, cluster_id, namespace, name], HASH_LENGTH);
    let mut readable: String = format!("{cluster_id}-{namespace}-{name}")
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .take(MAX_LENGTH - HASH_LENGTH - 1)
        .collect();
    readable.truncate(readable.trim_end_matches('-').len());
    let readable = readable.trim_start_matches('-');
    if readable.is_empty() {
        format!("mcp-{hash}")
    } else {
        format!("{readable}-{hash}")
    }
}

/// The first characters of the SHA-256 of the parts; a zero byte keeps the borders, which no Kubernetes name has.
pub(crate) fn short_hash(parts: &[&str], length: usize) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    let mut text = hex::encode(digest.finalize());
    text.truncate(length);
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_readable_and_stable() {
        assert_eq!(
            resource_name(Purpose::Server, "demo", "tools", "weather"),
            "demo-tools-weather-04131aa6"
        );
    }

    #[test]
    fn borders_and_purpose_count() {
        let name = |namespace, name| resource_name(Purpose::Server, "c", namespace, name);
        assert_ne!(name("a-b", "c"), name("a", "b-c"));
        assert_ne!(
            resource_name(Purpose::Server, "c", "tools", "weather"),
            resource_name(Purpose::Access, "c", "tools", "weather")
        );
        assert_ne!(
            resource_name(Purpose::Server, "c", "mcp-fleet-probe", "contoso"),
            resource_name(Purpose::Probe, "c", "mcp-fleet-probe", "contoso")
        );
    }

    proptest! {
        #[test]
        fn every_name_is_legal_for_every_resource_type(cluster in ".{0,40}", namespace in ".{0,63}", name in ".{0,80}") {
            let id = resource_name(Purpose::Server, &cluster, &namespace, &name);
            prop_assert!(!id.is_empty() && id.len() <= MAX_LENGTH);
            prop_assert!(id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{id}");
            prop_assert!(!id.starts_with('-') && !id.ends_with('-'));
            prop_assert_eq!(&id, &resource_name(Purpose::Server, &cluster, &namespace, &name));
        }
    }
}
