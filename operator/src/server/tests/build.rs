//! Whole children from whole specs.

use k8s_openapi::api::core::v1::Probe;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use super::*;
use crate::server::build::build;

const EVERYTHING: &str = r"
image: registry.example.com/team/notes:7
imagePullPolicy: Always
imagePullSecrets: [{name: registry}]
command: [/notes]
args: [--serve]
env: [{name: LEVEL, value: debug}]
envFrom: [{secretRef: {name: notes}}]
port: 3000
replicas: 5
resources: {limits: {memory: 1Gi}}
serviceAccountName: notes
health: {path: /live, readyPath: /ready}
podTemplate:
  labels: {team: notes}
  annotations: {example.com/scrape: 'true'}
  nodeSelector: {disk: ssd}
  tolerations: [{key: gpu, operator: Exists}]
  topologySpreadConstraints: [{maxSkew: 2, topologyKey: rack, whenUnsatisfiable: DoNotSchedule}]
  priorityClassName: high
  volumes: [{name: notes, persistentVolumeClaim: {claimName: notes}}, {name: scratch, emptyDir: {}}]
  volumeMounts: [{name: notes, mountPath: /notes}, {name: scratch, mountPath: /tmp}]
service:
  port: 8080
  sources: [Gateway, 198.51.100.7/24]
  annotations: {service.beta.kubernetes.io/azure-load-balancer-resource-group: network}
  loadBalancerClass: example.com/lb
  externalTrafficPolicy: Local
";

#[test]
fn an_empty_spec_is_the_bundled_weather_server() {
    let desired = build(&valid(""), Replicas::Ours);
    assert_eq!(desired.replica_key, Some(true));
    insta::assert_yaml_snapshot!("bundled_deployment", desired.deployment.unwrap());
    insta::assert_yaml_snapshot!("bundled_service", desired.service);
}

#[test]
fn everything_that_a_spec_can_say_arrives() {
    let allow = json!({"serviceAccounts": ["notes"],
        "serviceAnnotations": ["service.beta.kubernetes.io/azure-load-balancer-resource-group"]});
    let gateway = gateway("contoso", |gateway| gateway["spec"]["allow"] = allow);
    let valid = wholly(&server(EVERYTHING), &world(vec![gateway]), &settings()).unwrap();
    let desired = build(&valid, Replicas::Ours);
    assert_eq!(desired.replica_key, Some(false));
    insta::assert_yaml_snapshot!("everything_deployment", desired.deployment.unwrap());
    insta::assert_yaml_snapshot!("everything_service", desired.service);
}

#[test]
fn an_autoscaler_keeps_its_replicas() {
    let replicas = |who| {
        build(&valid("replicas: 4"), who)
            .deployment
            .unwrap()
            .spec
            .unwrap()
            .replicas
    };
    assert_eq!(replicas(Replicas::Ours), Some(4));
    assert_eq!(replicas(Replicas::Autoscaled { present: None }), None);
    let present = Some(7);
    assert_eq!(replicas(Replicas::Autoscaled { present }), present);
}

#[test]
fn environment_is_overridden_by_name_from_the_installation_to_the_user() {
    let mut settings = settings();
    settings.weather_env = serde_json::from_value(
        json!([{"name": "NWS_BASE_URL", "value": "http://a"}, {"name": "METRICS_PORT", "value": "1"}]),
    )
    .unwrap();
    let server = server("env: [{name: PORT, value: '1234'}, {name: NWS_BASE_URL, value: 'http://b'}]");
    let loaded = world(vec![gateway("contoso", |_| ())]);
    let desired = build(&validate(&server, &loaded, &settings).unwrap(), Replicas::Ours);
    let env = desired
        .deployment
        .unwrap()
        .spec
        .unwrap()
        .template
        .spec
        .unwrap()
        .containers[0]
        .env
        .clone()
        .unwrap();
    let value = |name: &str| {
        let all: Vec<_> = env.iter().filter(|variable| variable.name == name).collect();
        assert_eq!(all.len(), 1, "{name}");
        all[0].value.clone().unwrap()
    };
    assert_eq!(
        (value("PORT"), value("NWS_BASE_URL"), value("METRICS_PORT")),
        ("1234".into(), "http://b".into(), "1".into())
    );
}

#[test]
fn liveness_is_asked_where_no_crowd_of_clients_is() {
    let live = |spec: &str| {
        let deployment = build(&valid(spec), Replicas::Ours).deployment.unwrap();
        let container = deployment
            .spec
            .unwrap()
            .template
            .spec
            .unwrap()
            .containers
            .remove(0);
        let port = |probe: Option<Probe>| {
            let probe = probe.unwrap();
            let port = probe.http_get.map(|get| get.port);
            match port
                .or_else(|| probe.tcp_socket.map(|socket| socket.port))
                .unwrap()
            {
                IntOrString::String(name) => name,
                IntOrString::Int(number) => number.to_string(),
            }
        };
        assert_eq!(
            port(container.readiness_probe),
            "mcp",
            "a pod that takes nobody gets nobody"
        );
        let startup = port(container.startup_probe);
        assert_eq!(startup, port(container.liveness_probe));
        startup
    };
    assert_eq!(live(""), "metrics");
    assert_eq!(live("port: 9090"), "metrics");
    assert_eq!(
        live("env: [{name: METRICS_PORT, value: '9999'}]"),
        "mcp",
        "it was moved"
    );
    assert_eq!(live("image: registry.example.com/own:1"), "mcp");
}

#[test]
fn ports_of_the_bundled_image_do_not_collide() {
    for (port, peer, metrics) in [(8000, 8001, 9090), (8001, 8002, 9090), (9090, 8001, 9091)] {
        let deployment = build(&valid(&format!("port: {port}")), Replicas::Ours)
            .deployment
            .unwrap();
        let ports = deployment.spec.unwrap().template.spec.unwrap().containers[0]
            .ports
            .clone()
            .unwrap();
        assert_eq!(
            ports.iter().map(|port| port.container_port).collect::<Vec<_>>(),
            [port, peer, metrics]
        );
    }
}

#[test]
fn another_version_of_the_bundled_image_is_treated_like_it() {
    for (image, bundled) in [
        ("registry.example.com/mcp-weather:2", true),
        ("registry.example.com/mcp-weather", true),
        ("registry.example.com/mcp-weather:2@sha256:00", true),
        ("registry.example.com:5000/mcp-weather:1.2.3", false),
        ("registry.example.com/mcp-weather-fork:1.2.3", false),
    ] {
        let desired = build(&valid(&format!("image: {image}")), Replicas::Ours);
        assert_eq!(desired.replica_key, Some(bundled), "{image}");
        let containers = desired
            .deployment
            .unwrap()
            .spec
            .unwrap()
            .template
            .spec
            .unwrap()
            .containers;
        assert_eq!(containers[0].image.as_deref(), Some(image));
    }
}
