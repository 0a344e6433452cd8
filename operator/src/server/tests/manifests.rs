//! Manifests as people deploy them elsewhere, with all that they use: whole specs, validated and built, to whole children. And
//! what the operator decides by itself for an image that it does not know, a table per rule.

use k8s_openapi::api::core::v1::{Container, PodSpec};

use serde_json::json;

use super::*;
use crate::server::build::{Desired, build};
use crate::server::references::references;

fn desired(manifest: &str, loaded: Loaded) -> Desired {
    let server: McpServer = serde_yaml::from_str(manifest).unwrap();
    let loaded = Loaded {
        gateways: vec![gateway("contoso", |gateway| {
            gateway["spec"]["allow"] = json!({"serviceAccounts": ["*"]});
        })],
        ..loaded
    };
    build(&validate(&server, &loaded, &settings()).unwrap(), Replicas::Ours)
}

/// A claim of these access modes, which is all that matters of it.
fn claim(name: &str, mode: &str) -> Loaded {
    Loaded {
        access_modes: [(name.to_owned(), vec![mode.to_owned()])].into(),
        config_digest: Some("0123456789abcdef".to_owned()),
        ..Loaded::default()
    }
}

macro_rules! children {
    ($name:ident, $file:literal, $loaded:expr) => {
        #[test]
        fn $name() {
            let desired = desired(include_str!(concat!("manifests/", $file, ".yaml")), $loaded);
            insta::assert_yaml_snapshot!(
                concat!("manifest_", $file),
                (
                    desired.deployment.as_ref().unwrap(),
                    &desired.service,
                    &desired.extra_ports,
                    &desired.monitor
                )
            );
        }
    };
}

children!(
    a_server_with_a_database_of_its_own,
    "nextcloud",
    claim("nextcloud-data", "ReadWriteOnce")
);
children!(a_server_with_rights_in_the_cluster, "kubectl", Loaded::default());
children!(
    a_proxy_that_downloads_what_it_serves,
    "mcp-proxy",
    Loaded::default()
);
children!(everything_that_a_chart_offers, "grafana", Loaded::default());
children!(https_at_the_pod, "kubernetes", Loaded::default());

fn pod(spec: &str) -> PodSpec {
    let desired = build(&valid(spec), Replicas::Ours);
    desired.deployment.unwrap().spec.unwrap().template.spec.unwrap()
}

fn container(spec: &str) -> Container {
    pod(spec).containers.remove(0)
}

/// The Pod Security Standard `restricted`, as far as our fields could touch it.
#[test]
fn every_container_is_restricted() {
    for manifest in [
        include_str!("manifests/nextcloud.yaml"),
        include_str!("manifests/grafana.yaml"),
        include_str!("manifests/kubernetes.yaml"),
    ] {
        let template = desired(manifest, Loaded::default())
            .deployment
            .unwrap()
            .spec
            .unwrap()
            .template;
        let pod = template.spec.unwrap();
        let of_pod = pod.security_context.unwrap();
        assert_eq!(of_pod.run_as_non_root, Some(true));
        assert_ne!(of_pod.run_as_user, Some(0));
        assert_eq!((pod.host_network, pod.host_pid, pod.host_ipc), (None, None, None));
        let init = pod.init_containers.unwrap_or_default();
        assert!(pod.containers.len() == 1 && !init.is_empty());
        for container in init.into_iter().chain(pod.containers) {
            let context = container.security_context.unwrap();
            assert_eq!(
                context.allow_privilege_escalation,
                Some(false),
                "{}",
                container.name
            );
            assert_eq!(context.run_as_non_root, Some(true));
            assert_eq!(context.read_only_root_filesystem, Some(true));
            assert_eq!(context.capabilities.unwrap().drop, Some(vec!["ALL".to_owned()]));
            assert_eq!(context.seccomp_profile.unwrap().type_, "RuntimeDefault");
            assert!(
                container
                    .ports
                    .iter()
                    .flatten()
                    .all(|port| port.host_port.is_none())
            );
        }
    }
}

#[test]
fn probes_ask_what_the_spec_says() {
    // The spec, then liveness and readiness.
    let table = [
        ("", "GET /health", "GET /ready"),
        ("health: {path: /live}", "GET /live", "GET /ready"),
        ("image: own", "connect", "connect"),
        (
            "{image: own, health: {path: /healthz}}",
            "GET /healthz",
            "GET /healthz",
        ),
        (
            "{image: own, health: {path: /a, readyPath: /b}}",
            "GET /a",
            "GET /b",
        ),
        ("{image: own, health: {readyPath: /b}}", "connect", "GET /b"),
        ("{image: own, health: {startupSeconds: 9}}", "connect", "connect"),
        ("health: {type: Tcp}", "connect", "connect"),
        ("{image: own, health: {type: None}}", "nothing", "nothing"),
        (
            "{image: own, tls: {}, health: {path: /h}}",
            "GET https /h",
            "GET https /h",
        ),
    ];
    for (spec, live, ready) in table {
        let container = container(spec);
        let told = |probe: Option<k8s_openapi::api::core::v1::Probe>| match probe {
            None => "nothing".to_owned(),
            Some(probe) => probe.http_get.map_or("connect".to_owned(), |get| {
                let https = get.scheme.map_or("", |_| "https ");
                format!("GET {https}{}", get.path.unwrap())
            }),
        };
        assert_eq!(told(container.liveness_probe), live, "{spec}");
        assert_eq!(told(container.startup_probe), live, "{spec}");
        assert_eq!(told(container.readiness_probe), ready, "{spec}");
    }
    let error = judged(&server("{image: own, health: {type: Http}}")).unwrap_err();
    assert!(error.to_string().contains("health.path"), "{error}");
}

#[test]
fn an_image_has_the_time_to_start_and_to_end_that_it_needs() {
    // The spec, then the time to start, the pause before the end, and the time to end.
    let table = [
        ("", 60, None, 30),
        ("image: own", 60, Some(5), 30),
        ("{image: own, health: {startupSeconds: 600}}", 600, Some(5), 30),
        ("{image: own, preStopSeconds: 0}", 60, None, 30),
        ("{preStopSeconds: 20}", 60, Some(20), 30),
        ("{image: own, terminationGracePeriodSeconds: 3}", 60, Some(2), 3),
        ("{image: own, terminationGracePeriodSeconds: 1}", 60, None, 1),
    ];
    for (spec, start, pause, end) in table {
        let pod = pod(spec);
        assert_eq!(pod.termination_grace_period_seconds, Some(end), "{spec}");
        let container = &pod.containers[0];
        let probe = container.startup_probe.as_ref().unwrap();
        assert_eq!(
            probe.failure_threshold.unwrap() * probe.period_seconds.unwrap(),
            start,
            "{spec}"
        );
        let hook = container
            .lifecycle
            .as_ref()
            .and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        assert_eq!(
            hook.map(|hook| hook.sleep.as_ref().unwrap().seconds),
            pause,
            "{spec}"
        );
    }
}

#[test]
fn a_volume_of_one_node_is_let_go_before_the_next_pod_comes() {
    let volume = "podTemplate: {volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]}";
    let absent = || Loaded::default();
    let table = [
        ("", absent(), "RollingUpdate"),
        (volume, claim("data", "ReadWriteOnce"), "Recreate"),
        (volume, claim("data", "ReadWriteOncePod"), "Recreate"),
        (volume, claim("data", "ReadWriteMany"), "RollingUpdate"),
        (volume, claim("data", "ReadOnlyMany"), "RollingUpdate"),
        (volume, absent(), "Recreate"),
        ("strategy: Recreate", absent(), "Recreate"),
    ];
    for (spec, loaded, expected) in table {
        let manifest = serde_yaml::to_string(&server(spec)).unwrap();
        let strategy = desired(&manifest, loaded)
            .deployment
            .unwrap()
            .spec
            .unwrap()
            .strategy
            .unwrap();
        assert_eq!(strategy.type_.as_deref(), Some(expected), "{spec}");
        assert_eq!(strategy.rolling_update.is_some(), expected == "RollingUpdate");
    }
    let chosen = format!("{volume}\nstrategy: RollingUpdate");
    let manifest = serde_yaml::to_string(&server(&chosen)).unwrap();
    let strategy = desired(&manifest, claim("data", "ReadWriteOnce"))
        .deployment
        .unwrap()
        .spec
        .unwrap()
        .strategy;
    assert_eq!(
        strategy.unwrap().type_.as_deref(),
        Some("RollingUpdate"),
        "who says so is believed"
    );
}

#[test]
fn another_list_of_hosts_is_added_to_ours() {
    let ours = "weather,weather.tools,weather.tools.svc,weather.tools.svc.cluster.local";
    let hosts = |spec: &str| {
        let env = container(spec).env.unwrap();
        let place = env
            .iter()
            .position(|variable| variable.name == "ALLOWED_HOSTS")
            .unwrap();
        (env[place].value.clone().unwrap(), env, place)
    };
    assert_eq!(hosts("").0, ours);
    let given = "env: [{name: ALLOWED_HOSTS, value: 'mcp.example.com, weather.tools'}]";
    assert_eq!(hosts(given).0, format!("{ours},mcp.example.com"));
    let (value, env, place) =
        hosts("env: [{name: ALLOWED_HOSTS, valueFrom: {configMapKeyRef: {name: a, key: b}}}]");
    assert_eq!(value, format!("{ours},$(MCP_FLEET_OTHER_HOSTS)"));
    let others = env
        .iter()
        .position(|variable| variable.name == "MCP_FLEET_OTHER_HOSTS")
        .unwrap();
    assert!(
        others < place && env[others].value_from.is_some(),
        "Kubernetes expands what comes before"
    );
    let foreign = container("{image: own, env: [{name: ALLOWED_HOSTS, value: a}]}")
        .env
        .unwrap();
    assert_eq!((foreign.len(), foreign[0].value.as_deref()), (1, Some("a")));
}

#[test]
fn what_a_pod_cannot_have_is_refused_by_name() {
    let table = [
        (
            "podTemplate: {sidecars: [{name: a, image: i}], initContainers: [{name: a, image: i}]}",
            "two containers",
        ),
        (
            "podTemplate: {sidecars: [{name: mcp, image: i}]}",
            "two containers",
        ),
        (
            "podTemplate: {initContainers: [{name: a, image: i, volumeMounts: [{name: absent, mountPath: /a}]}]}",
            "absent",
        ),
        (
            "extraPorts: [{name: metrics, port: 9999}]",
            "port name metrics is taken",
        ),
        (
            "{image: own, extraPorts: [{name: a, port: 8000}]}",
            "port 8000 is taken",
        ),
        (
            "{image: own, extraPorts: [{name: a, port: 1}], podTemplate: {sidecars: [{name: s, image: i, ports: [{name: a, port: 2}]}]}}",
            "port name a is taken",
        ),
        (
            "podTemplate: {annotations: {container.apparmor.security.beta.kubernetes.io/mcp: unconfined}}",
            "confinement",
        ),
    ];
    for (spec, words) in table {
        let error = judged(&server(spec)).unwrap_err();
        assert!(error.to_string().contains(words), "{spec}: {error}");
    }
}

/// What a platform allows holds for every container of the pod.
#[test]
fn images_beside_the_server_are_judged_too() {
    let allow = json!({"images": ["registry.example.com/*"]});
    let gateway = gateway("contoso", |gateway| gateway["spec"]["allow"] = allow);
    let loaded = world(vec![gateway]);
    let judged = |image: &str, list: &str| {
        let spec = format!("podTemplate: {{{list}: [{{name: a, image: {image}}}]}}");
        wholly(&server(&spec), &loaded, &settings()).is_ok()
    };
    for list in ["initContainers", "sidecars"] {
        assert!(
            judged("registry.example.com/a", list) && !judged("elsewhere.example.com/a", list),
            "{list}"
        );
    }
}

#[test]
fn everything_that_reaches_a_container_is_referred_to_and_nothing_else() {
    let spec = r"
imagePullSecrets: [{name: registry}]
env: [{name: A, valueFrom: {secretKeyRef: {name: s1, key: k}}}, {name: B, valueFrom: {configMapKeyRef: {name: c1, key: k}}}]
envFrom: [{secretRef: {name: s2}}, {configMapRef: {name: c2}}]
podTemplate:
  sidecars: [{name: s, image: i, env: [{name: A, valueFrom: {secretKeyRef: {name: s3, key: k}}}]}]
  initContainers: [{name: i, image: i, envFrom: [{configMapRef: {name: c3}}]}]
  volumes:
    - {name: a, secret: {secretName: s4}}
    - {name: b, configMap: {name: c4}}
    - {name: c, projected: {sources: [{secret: {name: s5}}, {configMap: {name: c5}}]}}
";
    let found = references(&server(spec).spec);
    let names: Vec<&str> = found.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(
        names,
        ["c1", "c2", "c3", "c4", "c5", "s1", "s2", "s3", "s4", "s5"]
    );
    assert!(
        references(&server("").spec).is_empty(),
        "the replicas' key is not among them"
    );
}
