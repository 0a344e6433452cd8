//! The addresses and folders of a local cluster: the one place that the steps agree on.

use std::path::{Path, PathBuf};

/// Every cluster has a folder here, and beside it `<name>.lock`, which its keeper holds while it lives.
pub(crate) const BASE: &str = "/var/tmp/mcp-fleet";
/// Clusters, their folders, lock files and control groups are called this and eight hexadecimal digits.
pub(crate) const NAME_PREFIX: &str = "mcp-fleet-";

/// Documentation addresses (RFC 5737): they mean nothing anywhere else, so a leak would go nowhere.
pub(crate) const NODE_ADDRESS: &str = "192.0.2.10";
pub(crate) const OUTSIDE_ADDRESS: &str = "192.0.2.1";
pub(crate) const OUTSIDE_SECOND_ADDRESS: &str = "198.51.100.7";
pub(crate) const LOAD_BALANCER_RANGE: &str = "203.0.113.0/24";
pub(crate) const POD_RANGE: &str = "10.244.0.0/16";
pub(crate) const SERVICE_RANGE: &str = "10.96.0.0/16";
pub(crate) const API_SERVICE_ADDRESS: &str = "10.96.0.1";
pub(crate) const DNS_ADDRESS: &str = "10.96.0.10";
pub(crate) const NODE_NAME: &str = "node0";
pub(crate) const CLUSTER_DOMAIN: &str = "cluster.local";

/// The folder of one cluster. `var_lib` and `log` are what the components see as `/var/lib` and `/var/log`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folder {
    root: PathBuf,
}

impl Folder {
    pub(crate) fn of(name: &str) -> Self {
        Self {
            root: Path::new(BASE).join(name),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.root
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.root.with_extension("lock")
    }

    pub(crate) fn pki(&self, file: &str) -> PathBuf {
        self.root.join("pki").join(file)
    }

    pub(crate) fn config(&self, file: &str) -> PathBuf {
        self.root.join("config").join(file)
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("log")
    }

    pub(crate) fn var_lib(&self) -> PathBuf {
        self.root.join("var-lib")
    }

    /// The hosts file that cluster DNS serves; its folder is mounted into the CoreDNS pod.
    pub(crate) fn hosts(&self) -> PathBuf {
        self.var_lib().join("mcp-fleet/dns/hosts")
    }

    pub(crate) fn kubeconfig(&self, from: From) -> PathBuf {
        self.root.join(match from {
            From::Host => "kubeconfig",
            From::Inside => "kubeconfig-inside",
            From::Outside => "kubeconfig-outside",
        })
    }
}

/// Where a client of the API server stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Host,
    Inside,
    Outside,
}
