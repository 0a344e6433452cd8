//! Scenarios about the workload: what others do to it, and what it refers to.

use kube::runtime::watcher;
use serde_json::{Value, json};

use super::driver::{SERVER, Scenario};
use crate::runtime::autoscalers::Scaler;
use crate::runtime::configs::Kind;

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/tools/deployments/weather";
const SERVICE: &str = "/api/v1/namespaces/tools/services/weather";
const EXTRA_PORTS: &str = "/api/v1/namespaces/tools/services/weather-extra-ports";
const MONITOR: &str = "/apis/monitoring.coreos.com/v1/namespaces/tools/servicemonitors/weather";
const SECRET: &str = "/api/v1/namespaces/tools/secrets/orders";
const OWN: &str = "image: registry.example.com/own:1";
const NOTHING: Vec<String> = vec![];

fn deployment(scenario: &Scenario) -> Value {
    scenario.world.cluster.get(DEPLOYMENT).unwrap()
}

fn container(deployment: &mut Value) -> &mut Value {
    &mut deployment["spec"]["template"]["spec"]["containers"][0]
}

/// What Autopilot, a policy engine and a mesh do.
fn admit(deployment: &mut Value) {
    let container = container(deployment);
    container["resources"]["requests"] =
        json!({"cpu": "250m", "memory": "512Mi", "ephemeral-storage": "1Gi"});
    container["image"] = json!("mirror.example.com/own:1");
    let pod = &mut deployment["spec"]["template"]["spec"];
    pod["tolerations"] =
        json!([{"key": "a", "operator": "Exists"}, {"key": "arch", "operator": "Equal", "value": "amd64"}]);
    let containers = pod["containers"].as_array_mut().unwrap();
    if containers.len() == 1 {
        containers.push(json!({"name": "mesh", "image": "mesh"}));
    }
}

#[tokio::test]
async fn admission_that_changes_what_we_wrote_costs_no_write_and_a_person_is_still_undone() {
    let spec = format!("{OWN}\npodTemplate: {{tolerations: [{{key: a, operator: Exists}}]}}");
    let mut scenario = Scenario::new(&spec).await;
    scenario.world.cluster.admit("deployments", admit);
    scenario.pass().await;
    scenario.workload_becomes_ready();
    scenario.pass().await;
    for _ in 0..3 {
        assert_eq!(scenario.pass().await, NOTHING);
    }
    // A cloud that comes later and adds what nobody asked for.
    scenario.world.cluster.change(DEPLOYMENT, |deployment| {
        container(deployment)["resources"]["limits"]["ephemeral-storage"] = json!("1Gi");
    });
    assert_eq!(scenario.pass().await, NOTHING);

    scenario.world.cluster.change(DEPLOYMENT, |deployment| {
        container(deployment)["image"] = json!("evil.example.com/own:1");
    });
    assert_eq!(scenario.pass().await, [format!("PATCH {DEPLOYMENT}")]);
    assert_eq!(
        container(&mut deployment(&scenario))["image"],
        "mirror.example.com/own:1"
    );
    assert_eq!(scenario.pass().await, NOTHING);
    scenario.world.cluster.change(DEPLOYMENT, |deployment| {
        container(deployment)
            .as_object_mut()
            .unwrap()
            .remove("securityContext");
    });
    assert_eq!(
        scenario.pass().await,
        [format!("PATCH {DEPLOYMENT}")],
        "what is taken away comes back"
    );
}

/// Another spelling of the same amount.
#[tokio::test]
async fn quantities_are_not_fought_over() {
    let volume = "podTemplate: {volumes: [{name: cache, emptyDir: {sizeLimit: 1024Mi}}]}";
    let mut scenario = Scenario::new(&format!("{OWN}\n{volume}")).await;
    scenario.world.cluster.admit("deployments", |deployment| {
        let volumes = deployment["spec"]["template"]["spec"]["volumes"]
            .as_array_mut()
            .unwrap();
        let cache = volumes
            .iter_mut()
            .find(|volume| volume["name"] == "cache")
            .unwrap();
        cache["emptyDir"]["sizeLimit"] = json!("1Gi");
    });
    scenario.pass().await;
    scenario.workload_becomes_ready();
    scenario.pass().await;
    assert_eq!(scenario.pass().await, NOTHING);
}

fn scaler(name: &str) -> kube::api::DynamicObject {
    serde_json::from_value(json!({"metadata": {"name": name, "namespace": "tools"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "weather"}}}))
    .unwrap()
}

/// As the scale subresource leaves it.
fn scale(scenario: &Scenario, manager: &str, replicas: i32) {
    scenario.world.cluster.change(DEPLOYMENT, |deployment| {
        deployment["spec"]["replicas"] = json!(replicas);
        deployment["metadata"]["managedFields"].as_array_mut().unwrap().push(
            json!({"manager": manager, "operation": "Update", "subresource": "scale", "apiVersion": "apps/v1"}),
        );
    });
}

#[tokio::test]
async fn an_autoscaler_has_its_way_as_long_as_it_is_there_and_then_the_spec_has() {
    for (kind, manager, wanted) in [
        (Scaler::HorizontalPodAutoscaler, "kube-controller-manager", 5),
        // KEDA itself scales to none.
        (Scaler::ScaledObject, "keda", 0),
    ] {
        let mut scenario = Scenario::ready(OWN).await;
        let autoscalers = scenario.world.context.autoscalers.clone();
        autoscalers.take(kind, watcher::Event::Apply(scaler("weather")));
        assert_eq!(scenario.pass().await, NOTHING, "it has not said a number yet");
        assert_eq!(deployment(&scenario)["spec"]["replicas"], 2);

        scale(&scenario, manager, wanted);
        scenario.pass().await;
        assert_eq!(deployment(&scenario)["spec"]["replicas"], wanted, "{kind:?}");
        scenario.pass().await;
        assert_eq!(scenario.pass().await, NOTHING);

        autoscalers.take(kind, watcher::Event::Delete(scaler("weather")));
        scenario.pass().await;
        assert_eq!(deployment(&scenario)["spec"]["replicas"], 2, "{kind:?}");
    }
}

#[tokio::test]
async fn a_person_who_scales_the_deployment_is_no_autoscaler() {
    let mut scenario = Scenario::ready(OWN).await;
    scale(&scenario, "kubectl", 7);
    assert_eq!(scenario.pass().await, [format!("PATCH {DEPLOYMENT}")]);
    assert_eq!(deployment(&scenario)["spec"]["replicas"], 2);
}

fn secret(scenario: &Scenario, url: &str) {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "orders", "namespace": "tools"}, "data": {"url": url}});
    scenario.world.cluster.put(SECRET, secret);
    let seen = serde_json::from_value(scenario.world.cluster.get(SECRET).unwrap()).unwrap();
    let event =
        watcher::Event::<kube::api::PartialObjectMeta<k8s_openapi::api::core::v1::Secret>>::Apply(seen);
    scenario.world.context.configs.take(Kind::Secret, &event);
}

fn config(scenario: &Scenario) -> Value {
    deployment(scenario)["spec"]["template"]["metadata"]["annotations"]["mcpfleet.dev/config"].clone()
}

#[tokio::test]
async fn a_changed_secret_replaces_the_pods_unless_that_is_not_wanted() {
    let env = "env: [{name: URL, valueFrom: {secretKeyRef: {name: orders, key: url}}}]";
    let mut scenario = Scenario::new(&format!("{OWN}\n{env}")).await;
    secret(&scenario, "YQ==");
    scenario.pass().await;
    scenario.workload_becomes_ready();
    scenario.pass().await;
    let before = config(&scenario);
    assert!(
        before.as_str().is_some_and(|digest| digest.len() == 16),
        "{before}"
    );
    secret(&scenario, "YQ==");
    assert_eq!(scenario.pass().await, NOTHING, "the same content");
    secret(&scenario, "Yg==");
    assert_eq!(scenario.pass().await, [format!("PATCH {DEPLOYMENT}")]);
    assert_ne!(config(&scenario), before);
    let text = deployment(&scenario).to_string();
    assert!(!text.contains("Yg=="), "the content is nowhere");

    scenario.change_spec(|spec| spec["restartOnConfigChange"] = json!(false));
    scenario.pass().await;
    assert_eq!(config(&scenario), Value::Null);
    secret(&scenario, "Yw==");
    assert!(!scenario.pass().await.contains(&format!("PATCH {DEPLOYMENT}")));
}

#[tokio::test]
async fn the_replicas_key_is_nothing_that_pods_are_replaced_for() {
    let scenario = Scenario::ready("").await;
    assert_eq!(config(&scenario), Value::Null);
}

#[tokio::test]
async fn a_service_that_the_cluster_refuses_keeps_no_pods_from_running() {
    let mut scenario = Scenario::new(OWN).await;
    scenario.world.cluster.break_path("services/weather", 403);
    scenario.pass().await;
    assert!(scenario.world.cluster.get(SERVICE).is_none());
    assert_eq!(
        container(&mut deployment(&scenario))["image"],
        "registry.example.com/own:1"
    );
    let (status, _, message) = scenario.told("Available");
    assert_eq!(status, "False");
    assert!(
        message.contains("Service weather") && message.contains("Broken"),
        "{message}"
    );
    assert!(
        !scenario.pass().await.contains(&format!("PATCH {DEPLOYMENT}")),
        "it is there"
    );
}

#[tokio::test]
async fn the_claim_of_a_volume_decides_how_pods_are_replaced() {
    let volume = "podTemplate: {volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]}";
    for (mode, expected) in [("ReadWriteOnce", "Recreate"), ("ReadWriteMany", "RollingUpdate")] {
        let mut scenario = Scenario::new(&format!("{OWN}\n{volume}")).await;
        let path = "/api/v1/namespaces/tools/persistentvolumeclaims/data";
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "tools"},
            "spec": {"accessModes": [mode]}});
        scenario.world.cluster.put(path, claim);
        scenario.pass().await;
        assert_eq!(
            deployment(&scenario)["spec"]["strategy"]["type"],
            expected,
            "{mode}"
        );
    }
}

#[tokio::test]
async fn further_ports_have_a_service_and_a_monitor_while_they_are_wanted() {
    let ports =
        "extraPorts: [{name: metrics, port: 9090}]\nmonitor: {port: metrics, labels: {release: prometheus}}";
    let mut scenario = Scenario::ready(&format!("{OWN}\n{ports}")).await;
    let service = scenario.world.cluster.get(EXTRA_PORTS).unwrap();
    assert_eq!(service["spec"]["type"], "ClusterIP");
    assert_eq!(service["spec"]["ports"][0]["port"], 9090);
    let main = scenario.world.cluster.get(SERVICE).unwrap();
    assert_eq!(
        main["spec"]["ports"].as_array().unwrap().len(),
        1,
        "never at the load balancer"
    );
    assert_eq!(
        scenario.pass().await,
        NOTHING,
        "no ServiceMonitor where there is no such kind"
    );

    scenario.world.cluster.install("servicemonitors");
    assert_eq!(scenario.pass().await, [format!("PATCH {MONITOR}")]);
    let monitor = scenario.world.cluster.get(MONITOR).unwrap();
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    assert_eq!(
        monitor["spec"]["endpoints"],
        json!([{"port": "metrics", "path": "/metrics", "interval": "30s"}])
    );
    assert_eq!(scenario.pass().await, NOTHING);

    scenario.change_spec(|spec| {
        spec.as_object_mut().unwrap().remove("monitor");
    });
    let writes = scenario.pass().await;
    assert!(
        writes.contains(&format!("DELETE {MONITOR}")) && !writes.contains(&format!("DELETE {EXTRA_PORTS}")),
        "{writes:?}"
    );
    scenario.change_spec(|spec| {
        spec.as_object_mut().unwrap().remove("extraPorts");
    });
    assert!(scenario.pass().await.contains(&format!("DELETE {EXTRA_PORTS}")));
    assert!(scenario.world.cluster.get(EXTRA_PORTS).is_none());
    assert!(scenario.world.cluster.get(SERVER).is_some());
}

/// On AWS a load balancer gets its name minutes after the pods have started.
#[tokio::test]
async fn the_name_of_a_load_balancer_replaces_no_pods() {
    let mut scenario = Scenario::ready("").await;
    for name in ["a.elb.example.com", "b.elb.example.com"] {
        scenario.world.cluster.change(SERVICE, |service| {
            service["status"] = json!({"loadBalancer": {"ingress": [{"hostname": name}]}});
        });
        let writes = scenario.pass().await;
        assert!(!writes.contains(&format!("PATCH {DEPLOYMENT}")), "{writes:?}");
    }
}
