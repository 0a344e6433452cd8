//! Step 5 of the local cluster: the components' configuration files. Pure texts, then one function that writes them.
//!
//! In: the cluster's name, folder and tools. Out: files below `config/`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::images::PAUSE;
use super::layout::{CLUSTER_DOMAIN, DNS_ADDRESS, Folder, NODE_NAME, POD_RANGE};
use super::tools::Tools;

/// Inside the node's own `/run`.
pub(crate) const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";

pub(crate) fn write(name: &str, folder: &Folder, tools: &Tools, runc: &Path) -> Result<()> {
    let network = folder.config("cni/10-ptp.conflist");
    let network_folder = folder.config("cni");
    fs::create_dir_all(&network_folder)?;
    for (path, text) in [
        (network, network_plugins()),
        (
            folder.config("containerd.toml"),
            containerd(&tools.cni, &network_folder, runc),
        ),
        (folder.config("kubelet.yaml"), kubelet(name, folder)),
        (
            folder.config("proxy.yaml"),
            proxy(&folder.config("proxy.kubeconfig")),
        ),
        (folder.config("audit.yaml"), AUDIT.to_owned()),
        (folder.config("resolv.conf"), resolver(DNS_ADDRESS)),
        // Cluster DNS is not for the outside: only the names of the hosts file are known there.
        (
            folder.config("resolv-outside.conf"),
            "nameserver 127.0.0.1\noptions attempts:1 timeout:1\n".to_owned(),
        ),
    ] {
        fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(())
}

fn resolver(server: &str) -> String {
    format!("nameserver {server}\nsearch svc.{CLUSTER_DOMAIN} {CLUSTER_DOMAIN}\noptions ndots:5\n")
}

fn network_plugins() -> String {
    serde_json::json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {"type": "ptp", "ipMasq": false, "ipam": {"type": "host-local", "subnet": POD_RANGE, "routes": [{"dst": "0.0.0.0/0"}]}},
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
    .to_string()
}

fn containerd(plugins: &Path, networks: &Path, runc: &Path) -> String {
    // restrict_oom_score_adj: without CAP_SYS_RESOURCE, as on many virtual machines, runc fails to lower a pod's score.
    format!(
        "version = 3
root = '/var/lib/containerd'
state = '/run/containerd'
[grpc]
address = '{CONTAINERD_SOCKET}'
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['{}']
conf_dir = '{}'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = '{}'
SystemdCgroup = false
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '{PAUSE}'
",
        plugins.display(),
        networks.display(),
        runc.display()
    )
}

/// Its own control group root keeps two clusters on one machine from ending each other's pods as orphans.
fn kubelet(name: &str, folder: &Folder) -> String {
    format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: true}}, x509: {{clientCAFile: {ca}}}}}
authorization: {{mode: Webhook}}
tlsCertFile: {certificate}
tlsPrivateKeyFile: {key}
cgroupDriver: cgroupfs
cgroupRoot: /{name}
failCgroupV1: false
failSwapOn: false
containerRuntimeEndpoint: unix://{CONTAINERD_SOCKET}
clusterDNS: [{DNS_ADDRESS}]
clusterDomain: {CLUSTER_DOMAIN}
resolvConf: ''
evictionHard: {{}}
imageGCHighThresholdPercent: 100
maxPods: 500
serializeImagePulls: false
kubeAPIQPS: 200
kubeAPIBurst: 400
eventRecordQPS: 0
nodeStatusUpdateFrequency: 2s
volumeStatsAggPeriod: -1s
syncFrequency: 10s
",
        ca = folder.pki("ca.crt").display(),
        certificate = folder.pki("kubelet-server.crt").display(),
        key = folder.pki("kubelet-server.key").display(),
    )
}

/// nftables mode enforces loadBalancerSourceRanges; conntrack's size is the host's and stays as it is.
fn proxy(kubeconfig: &Path) -> String {
    format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {{kubeconfig: {}}}
clusterCIDR: {POD_RANGE}
hostnameOverride: {NODE_NAME}
conntrack: {{maxPerCore: 0}}
nftables: {{minSyncPeriod: 100ms}}
",
        kubeconfig.display()
    )
}

/// Who wrote what: tests count the writes of a controller in it.
const AUDIT: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- {level: None, verbs: [get, list, watch]}
- {level: None, resources: [{group: coordination.k8s.io}, {group: '', resources: [events]}, {group: events.k8s.io}]}
- {level: Metadata}
";
