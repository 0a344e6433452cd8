//! The operator's chart, rendered by real Helm with several values, is what the operator and the cluster expect.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy knows #[test] functions, but not what they call"
)]

use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::sync::LazyLock;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Container, PodSpec, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_yaml::Value;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/mcp-fleet");

static HELM: LazyLock<String> = LazyLock::new(|| {
    let output = Command::new(env!("CARGO_BIN_EXE_mcp-fleet-e2e"))
        .args(["tool", "helm"])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "no helm: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
});

fn helm(values: &str, settings: &[&str]) -> Output {
    let mut command = Command::new(HELM.as_str());
    command.args([
        "template",
        "mcp-fleet",
        CHART,
        "--namespace",
        "mcp-fleet-system",
        "--kube-version",
        "1.36.3",
    ]);
    command.args(["--values", &format!("{CHART}/ci/{values}.yaml")]);
    for setting in settings {
        command.args(["--set-json", setting]);
    }
    command.output().unwrap()
}

fn render(values: &str, settings: &[&str]) -> Vec<Value> {
    let output = helm(values, settings);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let documents = serde_yaml::Deserializer::from_str(&text);
    documents
        .map(|document| Value::deserialize(document).unwrap())
        .filter(|document| !document.is_null())
        .collect()
}

fn find<K: DeserializeOwned>(documents: &[Value], kind: &str) -> Option<K> {
    let found = documents.iter().find(|document| document["kind"] == kind)?;
    Some(serde_yaml::from_value(found.clone()).unwrap())
}

fn named<K: DeserializeOwned>(documents: &[Value], kind: &str, name: &str) -> Option<K> {
    let found = documents
        .iter()
        .find(|document| document["kind"] == kind && document["metadata"]["name"] == name)?;
    Some(serde_yaml::from_value(found.clone()).unwrap())
}

fn operator_role(documents: &[Value]) -> ClusterRole {
    named(documents, "ClusterRole", "mcp-fleet-operator").unwrap()
}

fn pod(documents: &[Value]) -> PodSpec {
    let deployment: Deployment = find(documents, "Deployment").unwrap();
    deployment.spec.unwrap().template.spec.unwrap()
}

fn container(documents: &[Value]) -> Container {
    pod(documents).containers.remove(0)
}

fn environment(container: &Container, name: &str) -> Option<String> {
    let mut found = container
        .env
        .iter()
        .flatten()
        .filter(|variable| variable.name == name);
    let variable = found.next()?;
    assert!(found.next().is_none(), "{name} is set twice");
    variable.value.clone()
}

#[test]
fn the_pod_meets_the_restricted_standard() {
    for values in ["minimal", "full"] {
        let pod = pod(&render(values, &[]));
        let pod_security = pod.security_context.unwrap();
        assert_eq!(pod_security.run_as_non_root, Some(true));
        assert_eq!(pod_security.seccomp_profile.unwrap().type_, "RuntimeDefault");
        for container in pod.containers {
            let security = container.security_context.unwrap();
            assert_eq!(security.allow_privilege_escalation, Some(false));
            assert_eq!(security.read_only_root_filesystem, Some(true));
            assert_eq!(security.capabilities.unwrap().drop, Some(vec!["ALL".to_owned()]));
        }
        for volume in pod.volumes.unwrap() {
            assert!(volume.host_path.is_none(), "{}", volume.name);
        }
    }
}

#[test]
fn the_token_for_azure_is_mounted_where_the_operator_looks() {
    let documents = render(
        "minimal",
        &[r#"azure.clientId="00000000-0000-0000-0000-00000000000c""#],
    );
    let pod = pod(&documents);
    let container = container(&documents);
    let file = environment(&container, "AZURE_FEDERATED_TOKEN_FILE").unwrap();
    let mount = container
        .volume_mounts
        .unwrap()
        .into_iter()
        .find(|mount| file.starts_with(&mount.mount_path))
        .unwrap();
    let volume = pod
        .volumes
        .unwrap()
        .into_iter()
        .find(|volume| volume.name == mount.name)
        .unwrap();
    let token = volume
        .projected
        .unwrap()
        .sources
        .unwrap()
        .remove(0)
        .service_account_token
        .unwrap();
    assert_eq!(token.audience.as_deref(), Some("api://AzureADTokenExchange"));
    assert_eq!(format!("{}/{}", mount.mount_path, token.path), file);

    // What Azure's webhook looks for.
    let deployment: Deployment = find(&documents, "Deployment").unwrap();
    let labels = deployment
        .spec
        .unwrap()
        .template
        .metadata
        .unwrap()
        .labels
        .unwrap();
    assert_eq!(labels["azure.workload.identity/use"], "true");
    let account: ServiceAccount = find(&documents, "ServiceAccount").unwrap();
    assert_eq!(
        account.metadata.annotations.unwrap()["azure.workload.identity/client-id"],
        "00000000-0000-0000-0000-00000000000c"
    );
    assert_eq!(pod.service_account_name, account.metadata.name);
}

#[test]
fn values_reach_the_operator_as_it_reads_them() {
    let documents = render("full", &[]);
    let container = container(&documents);
    let table = [
        ("LEASE_SECONDS", "30"),
        ("LEASE_NAMESPACE", "leases"),
        ("RELEASE", "mcp-fleet"),
        ("CONCURRENCY", "4"),
        ("DRIFT_SECONDS", "120"),
        ("SERVER_ACCESS", "api-server"),
        ("RUST_LOG", "debug"),
        ("LOG_FORMAT", "text"),
        ("WEATHER_IMAGE", "registry.example.com/mcp-fleet/mcp-weather:2"),
        ("WEATHER_IMAGE_PULL_POLICY", "Always"),
        ("AZURE_AUTHORITY_HOST", "https://login.example.com"),
        ("AZURE_RESOURCE_MANAGER_ENDPOINT", "https://arm.example.com"),
        (
            "AZURE_RESOURCE_MANAGER_AUDIENCE",
            "https://management.example.com",
        ),
        ("EXTRA_CA_FILE", "/etc/mcp-fleet/ca/ca.crt"),
        ("HTTPS_PROXY", "http://proxy.example.com:3128"),
    ];
    for (name, value) in table {
        assert_eq!(environment(&container, name).as_deref(), Some(value), "{name}");
    }
    assert!(
        container
            .image
            .unwrap()
            .starts_with("registry.example.com/mcp-fleet/operator@sha256:")
    );
    let bundle: ConfigMap = find(&documents, "ConfigMap").unwrap();
    assert!(bundle.data.unwrap()["ca.crt"].starts_with("-----BEGIN CERTIFICATE-----\n"));
}

#[test]
fn the_operator_reads_every_variable_that_the_chart_sets() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../operator/src/args.rs");
    let arguments = std::fs::read_to_string(path).unwrap();
    for variable in container(&render("full", &[])).env.unwrap() {
        let known = arguments.contains(&format!("env = \"{}\"", variable.name));
        // The one that `env` of the full values adds.
        assert!(
            known || variable.name == "HTTPS_PROXY",
            "{} has no argument",
            variable.name
        );
    }
}

#[test]
fn weather_environment_is_json_that_kubernetes_leaves_alone() {
    let container = container(&render("full", &[]));
    let variable = environment(&container, "WEATHER_ENV").unwrap();
    // The kubelet turns $$( into $(.
    let list: serde_json::Value = serde_json::from_str(&variable.replace("$$(", "$(")).unwrap();
    assert_eq!(
        list,
        serde_json::json!([{"name": "NWS_BASE_URL", "value": "https://weather.example.com/?a=\"b\"&c=$(d)"}])
    );
    assert_eq!(variable.matches("$(").count(), variable.matches("$$(").count());
}

#[test]
fn defaults_set_no_endpoint_and_trust_nothing_extra() {
    let documents = render("minimal", &[]);
    let container = container(&documents);
    for name in [
        "AZURE_AUTHORITY_HOST",
        "AZURE_RESOURCE_MANAGER_ENDPOINT",
        "AZURE_CLIENT_ID",
        "EXTRA_CA_FILE",
        "WEATHER_ENV",
    ] {
        assert_eq!(environment(&container, name), None, "{name}");
    }
    let kinds: Vec<_> = documents
        .iter()
        .filter_map(|document| document["kind"].as_str())
        .collect();
    for kind in ["ConfigMap", "NetworkPolicy", "ServiceMonitor", "PrometheusRule"] {
        assert!(!kinds.contains(&kind), "{kind}");
    }
}

#[test]
fn rights_have_no_wildcards_and_fit_the_access_path() {
    let allows = |rules: &[PolicyRule], resource: &str| {
        rules
            .iter()
            .any(|rule| rule.resources.iter().flatten().any(|one| one == resource))
    };
    for (values, proxied) in [("minimal", false), ("full", true)] {
        let documents = render(values, &[]);
        let cluster_role = operator_role(&documents);
        let role: Role = find(&documents, "Role").unwrap();
        let cluster_rules = cluster_role.rules.unwrap();
        assert_eq!(allows(&cluster_rules, "services/proxy"), proxied);
        // The lease is the operator's own: nobody else's may be touched.
        assert!(!allows(&cluster_rules, "leases"));
        for rule in cluster_rules.iter().chain(role.rules.iter().flatten()) {
            let resources = rule.resources.as_ref().unwrap();
            let parts = [rule.api_groups.as_ref().unwrap(), resources, &rule.verbs];
            assert!(
                parts
                    .iter()
                    .all(|part| !part.is_empty() && !part.iter().any(|word| word.contains('*'))),
                "{rule:?}"
            );
            let dangerous = ["escalate", "bind", "impersonate", "deletecollection"];
            assert!(
                !rule.verbs.iter().any(|verb| dangerous.contains(&verb.as_str())),
                "{rule:?}"
            );
            assert!(
                !resources
                    .iter()
                    .any(|resource| resource.contains("role") || resource == "pods/exec"),
                "{rule:?}"
            );
        }
    }
}

#[test]
fn people_get_rights_through_kubernetes_own_roles_and_gateways_stay_the_platforms() {
    let documents = render("minimal", &[]);
    let role = |name: &str| named::<ClusterRole>(&documents, "ClusterRole", name).unwrap();
    let labels = |role: &ClusterRole| -> Vec<String> {
        let labels = role.metadata.labels.clone().unwrap();
        let prefix = "rbac.authorization.k8s.io/aggregate-to-";
        labels
            .keys()
            .filter_map(|key| key.strip_prefix(prefix).map(str::to_owned))
            .collect()
    };
    let (view, edit) = (role("mcp-fleet-view"), role("mcp-fleet-edit"));
    assert_eq!(labels(&view), ["view"]);
    assert_eq!(labels(&edit), ["admin", "edit"]);
    for rule in view.rules.unwrap() {
        assert_eq!(rule.verbs, ["get", "list", "watch"]);
    }
    for rule in edit.rules.unwrap() {
        let resources = rule.resources.unwrap();
        let gateways = resources.iter().any(|resource| resource.contains("gateway"));
        assert!(
            !gateways && resources.iter().all(|resource| !resource.ends_with("/status")),
            "{resources:?}"
        );
    }
    let without = render("minimal", &["aggregateRoles=false"]);
    assert!(named::<ClusterRole>(&without, "ClusterRole", "mcp-fleet-edit").is_none());
}

/// Every (group, resource, verb) that the operator's own documentation lists.
fn documented_rights() -> BTreeSet<(String, String, String)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../operator/src/runtime/run.rs");
    let text = std::fs::read_to_string(path).unwrap();
    let mut rights = BTreeSet::new();
    for row in text
        .lines()
        .filter_map(|line| line.strip_prefix("//! | "))
        .skip(1)
    {
        let cells: Vec<_> = row.trim_end_matches('|').split('|').map(str::trim).collect();
        let [group, resources, verbs] = cells[..] else {
            panic!("{row}")
        };
        let group = if group == "(core)" { "" } else { group };
        for resource in resources.split(", ") {
            rights.extend(
                verbs
                    .split(", ")
                    .map(|verb| (group.to_owned(), resource.to_owned(), verb.to_owned())),
            );
        }
    }
    assert!(rights.len() > 20, "the table in {path} was not understood");
    rights
}

#[test]
fn the_cluster_role_is_what_the_operator_says_it_uses() {
    let role = operator_role(&render("minimal", &[]));
    let mut granted = BTreeSet::new();
    for rule in role.rules.unwrap() {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                granted.extend(
                    rule.verbs
                        .iter()
                        .map(|verb| (group.clone(), resource.clone(), verb.clone())),
                );
            }
        }
    }
    assert_eq!(granted, documented_rights());
}

#[test]
fn a_network_policy_lets_only_the_named_peers_in() {
    let policy = |settings: &[&str]| {
        let policy: NetworkPolicy = find(&render("minimal", settings), "NetworkPolicy").unwrap();
        policy.spec.unwrap()
    };
    let closed = policy(&["networkPolicy.enabled=true"]);
    assert!(closed.ingress.unwrap_or_default().is_empty());
    assert_eq!(closed.policy_types, Some(vec!["Ingress".to_owned()]));
    let open = policy(&[
        "networkPolicy.enabled=true",
        r#"networkPolicy.metricsFrom=[{"podSelector":{}}]"#,
    ]);
    assert_eq!(open.ingress.unwrap().len(), 1);
}

#[test]
fn values_that_nobody_reads_are_refused() {
    let table = [
        ("nosuch=1", "nosuch"),
        ("image.tagg=\"1\"", "tagg"),
        ("serverAccess=\"tunnel\"", "serverAccess"),
        ("leaseSeconds=1", "leaseSeconds"),
        ("leaseNamespace=\"Not A Name\"", "leaseNamespace"),
        ("azure.clientId=\"me\"", "clientId"),
        (
            "azure.authorityHost=\"http://login.example.com\"",
            "authorityHost",
        ),
        ("caBundle=\"not a certificate\"", "caBundle"),
        (r#"weather.env=[{"name":"A","valueFrom":{}}]"#, "weather/env"),
        ("image.repository=\"\"", "image.repository is required"),
    ];
    for (setting, word) in table {
        let output = helm("minimal", &[setting]);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{setting} was accepted");
        assert!(message.contains(word), "{setting}: {message}");
    }
}
