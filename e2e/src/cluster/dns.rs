//! Step 8 of the local cluster: cluster DNS, where the kubelet tells every pod to look.
//!
//! In: a client. Out: CoreDNS as Deployment and Service `kube-dns`. It answers for the cluster, for the names in the cluster's
//! hosts file, and for nothing else: unknown names do not exist, at once.

use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::PostParams;
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::images::COREDNS;
use super::layout::{CLUSTER_DOMAIN, DNS_ADDRESS, Folder};

const NAME: &str = "coredns";
const SYSTEM: &str = "kube-system";
/// The folder of the hosts file as the node sees it.
const HOSTS_FOLDER: &str = "/var/lib/mcp-fleet/dns";

/// Creates everything that CoreDNS needs; its readiness is the caller's to await.
pub(crate) async fn start(client: &Client) -> Result<()> {
    let role = json!({"metadata": {"name": "system:coredns"}, "rules": [
        {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]});
    let binding = json!({
        "metadata": {"name": "system:coredns"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": SYSTEM}],
    });
    let metadata = json!({"name": NAME, "namespace": SYSTEM});
    create::<ClusterRole>(&Api::all(client.clone()), role).await?;
    create::<ClusterRoleBinding>(&Api::all(client.clone()), binding).await?;
    let system = SYSTEM;
    create::<ServiceAccount>(
        &Api::namespaced(client.clone(), system),
        json!({"metadata": metadata}),
    )
    .await?;
    let corefile = json!({"metadata": metadata, "data": {"Corefile": corefile()}});
    create::<ConfigMap>(&Api::namespaced(client.clone(), system), corefile).await?;
    create::<Deployment>(&Api::namespaced(client.clone(), system), deployment()).await?;
    create::<Service>(&Api::namespaced(client.clone(), system), service()).await
}

async fn create<K>(api: &Api<K>, object: Value) -> Result<()>
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    let object: K = serde_json::from_value(object)?;
    let kind = K::kind(&());
    api.create(&PostParams::default(), &object)
        .await
        .with_context(|| format!("failed to create {kind} of cluster DNS"))?;
    Ok(())
}

fn corefile() -> String {
    format!(
        ".:5353 {{
    errors
    health :8080
    ready :8181
    hosts /etc/mcp-fleet/hosts {{
        ttl 1
        reload 500ms
        fallthrough
    }}
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{
        pods insecure
        ttl 2
    }}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"
    )
}

fn deployment() -> Value {
    let labels = json!({"k8s-app": "kube-dns"});
    json!({
        "metadata": {"name": NAME, "namespace": SYSTEM, "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "serviceAccountName": NAME,
                    "priorityClassName": "system-cluster-critical",
                    "dnsPolicy": "Default",
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{
                        "name": NAME,
                        "image": COREDNS,
                        "imagePullPolicy": "Never",
                        "args": ["-conf", "/etc/coredns/Corefile"],
                        "ports": [{"containerPort": 5353, "protocol": "UDP"}, {"containerPort": 5353, "protocol": "TCP"}],
                        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
                        "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
                        "volumeMounts": [
                            {"name": "config", "mountPath": "/etc/coredns", "readOnly": true},
                            {"name": "hosts", "mountPath": "/etc/mcp-fleet", "readOnly": true},
                        ],
                    }],
                    "volumes": [
                        {"name": "config", "configMap": {"name": NAME}},
                        {"name": "hosts", "hostPath": {"path": HOSTS_FOLDER, "type": "Directory"}},
                    ],
                },
            },
        },
    })
}

fn service() -> Value {
    json!({
        "metadata": {"name": "kube-dns", "namespace": SYSTEM, "labels": {"k8s-app": "kube-dns"}},
        "spec": {
            "clusterIP": DNS_ADDRESS,
            "selector": {"k8s-app": "kube-dns"},
            "ports": [
                {"name": "dns", "port": 53, "targetPort": 5353, "protocol": "UDP"},
                {"name": "dns-tcp", "port": 53, "targetPort": 5353, "protocol": "TCP"},
            ],
        },
    })
}

/// The hosts file before anyone maps a name.
pub(crate) fn write_first_hosts(folder: &Folder) -> Result<()> {
    write_hosts(folder, "127.0.0.1 localhost\n")
}

/// Makes `name` mean `address` in cluster DNS and outside, in place of what it meant before.
pub(crate) fn map_host(folder: &Folder, name: &str, address: Ipv4Addr) -> Result<()> {
    let path = folder.hosts();
    let hosts = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    write_hosts(folder, &with_host(&hosts, name, address))
}

fn with_host(hosts: &str, name: &str, address: Ipv4Addr) -> String {
    let others = hosts
        .lines()
        .filter(|line| line.split_whitespace().nth(1) != Some(name));
    let mut lines: Vec<_> = others.map(str::to_owned).collect();
    lines.push(format!("{address} {name}\n"));
    lines.join("\n")
}

/// Renamed into place: CoreDNS may read it at any time.
fn write_hosts(folder: &Folder, text: &str) -> Result<()> {
    let path = folder.hosts();
    let context = || format!("failed to write {}", path.display());
    let parent = path.parent().context("failed to find the hosts folder")?;
    fs::create_dir_all(parent).with_context(context)?;
    let partial = path.with_extension("partial");
    fs::write(&partial, text)
        .and_then(|()| fs::rename(&partial, &path))
        .with_context(context)
}

#[cfg(test)]
mod tests {
    use super::with_host;
    use std::net::Ipv4Addr;

    #[test]
    fn a_name_is_mapped_once() {
        let first = with_host("127.0.0.1 localhost\n", "a.test", Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(first, "127.0.0.1 localhost\n192.0.2.1 a.test\n");
        let second = with_host(&first, "a.test", Ipv4Addr::new(192, 0, 2, 2));
        assert_eq!(second, "127.0.0.1 localhost\n192.0.2.2 a.test\n");
    }
}
