//! A table of workloads and what is said of them.

use k8s_openapi::api::core::v1::Pod;
use mcp_fleet_crds::McpServerStatus;

use super::*;
use crate::condition::{Status, reasons, types};
use crate::server::apply::Applied;
use crate::server::build::build;
use crate::server::observe::{Observed, observe};

struct Case<'a> {
    spec: &'a str,
    deployment: Value,
    ingress: Value,
    pods: Vec<Value>,
    was_available: bool,
}

impl Default for Case<'_> {
    fn default() -> Self {
        Self {
            spec: "",
            deployment: ready(2),
            ingress: json!([{"ip": "203.0.113.7"}]),
            pods: vec![],
            was_available: false,
        }
    }
}

fn counts(replicas: i32, updated: i32, available: i32) -> Value {
    json!({"observedGeneration": 1, "replicas": replicas, "updatedReplicas": updated, "readyReplicas": available,
        "availableReplicas": available})
}

fn ready(replicas: i32) -> Value {
    counts(replicas, replicas, replicas)
}

fn judge(case: Case<'_>) -> Observed {
    let valid = valid(case.spec);
    let desired = build(&valid, false);
    let (mut deployment, mut service) = (desired.deployment.unwrap(), desired.service);
    deployment.metadata.generation = Some(1);
    deployment.status = serde_json::from_value(case.deployment).unwrap();
    service.status = serde_json::from_value(json!({"loadBalancer": {"ingress": case.ingress}})).unwrap();
    let pods: Vec<Pod> = case
        .pods
        .into_iter()
        .map(|pod| serde_json::from_value(pod).unwrap())
        .collect();
    let mut previous = McpServerStatus::default();
    if case.was_available {
        previous.conditions = serde_json::from_value(
            json!([{"type": types::AVAILABLE, "status": "True", "reason": "Available",
            "message": "", "lastTransitionTime": "2026-11-21T10:00:00Z"}]),
        )
        .unwrap();
    }
    observe(
        &valid,
        &Applied {
            deployment: Some(deployment),
            service,
        },
        &pods,
        &previous,
    )
}

fn assert_available(case: Case<'_>, status: Status, reason: &str, words: &[&str]) {
    let available = judge(case).available;
    assert_eq!(
        (available.status, available.reason.as_ref()),
        (status, reason),
        "{}",
        available.message
    );
    for word in words {
        assert!(
            available.message.contains(word),
            "{word} is missing in: {}",
            available.message
        );
    }
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({"status": {"containerStatuses": [{"name": "mcp", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": reason, "message": message}}}]}})
}

fn crashing(code: i32, reason: &str) -> Value {
    json!({"status": {"containerStatuses": [{"name": "mcp", "image": "i", "imageID": "", "ready": false, "restartCount": 4,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
        "lastState": {"terminated": {"exitCode": code, "reason": reason}}}]}})
}

#[test]
fn a_workload_that_is_there() {
    let observed = judge(Case::default());
    assert!(observed.is_available() && observed.settled);
    assert_eq!(
        (
            observed.replicas,
            observed.ready_replicas,
            observed.address.as_deref()
        ),
        (2, 2, Some("203.0.113.7"))
    );
    let six = Case {
        ingress: json!([{"ip": "2001:db8::7"}]),
        ..Case::default()
    };
    assert_eq!(judge(six).address.as_deref(), Some("[2001:db8::7]"));
    let name = Case {
        ingress: json!([{"hostname": "lb.example.com"}]),
        ..Case::default()
    };
    assert_eq!(judge(name).address.as_deref(), Some("lb.example.com"));
    let cluster = Case {
        spec: "service: {type: ClusterIP}\ngateway: {enabled: false}",
        ingress: json!([]),
        ..Case::default()
    };
    assert_available(cluster, Status::True, reasons::AVAILABLE, &[]);
}

#[test]
fn a_workload_that_is_not_there_yet() {
    let starting = || Case {
        deployment: counts(2, 2, 1),
        ..Case::default()
    };
    assert_available(starting(), Status::Unknown, reasons::PENDING, &["starting"]);
    let stale = json!({"observedGeneration": 0, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
    assert_available(
        Case {
            deployment: stale,
            ..Case::default()
        },
        Status::Unknown,
        reasons::PENDING,
        &[],
    );
    assert_available(
        Case {
            ingress: json!([]),
            ..Case::default()
        },
        Status::Unknown,
        "AddressPending",
        &["load balancer"],
    );
    assert_available(
        Case {
            spec: "replicas: 0",
            deployment: ready(0),
            ..Case::default()
        },
        Status::False,
        "ScaledToZero",
        &["raise"],
    );
}

#[test]
fn one_pod_less_is_no_outage_once_all_were_there() {
    let moved = || Case {
        deployment: counts(2, 2, 1),
        was_available: true,
        ..Case::default()
    };
    assert_available(moved(), Status::True, reasons::AVAILABLE, &["being replaced"]);
    assert!(!judge(moved()).settled);
    let gone = Case {
        deployment: counts(2, 2, 0),
        was_available: true,
        ..Case::default()
    };
    assert_available(gone, Status::False, "NoPodReady", &[]);
}

#[test]
fn pods_that_fail_say_what_to_change() {
    let failing = |pod: Value| Case {
        deployment: counts(2, 2, 0),
        pods: vec![pod],
        ..Case::default()
    };
    let image = "registry.example.com/mcp-weather:1.2.3";
    assert_available(
        failing(waiting("ErrImagePull", "manifest unknown")),
        Status::False,
        "ImagePullFailed",
        &[image, "tag"],
    );
    assert_available(
        failing(waiting("ImagePullBackOff", "401 Unauthorized")),
        Status::False,
        "ImagePullFailed",
        &["imagePullSecrets"],
    );
    assert_available(
        failing(waiting("ErrImageNeverPull", "")),
        Status::False,
        "ImagePullFailed",
        &["imagePullPolicy"],
    );
    assert_available(
        failing(waiting("InvalidImageName", "")),
        Status::False,
        "ImagePullFailed",
        &["malformed"],
    );
    let root = "container has runAsNonRoot and image will run as root (pod: \"a\", container: mcp)";
    assert_available(
        failing(waiting("CreateContainerConfigError", root)),
        Status::False,
        "ContainerNotCreated",
        &["numeric USER"],
    );
    assert_available(
        failing(crashing(1, "Error")),
        Status::False,
        "CrashLoop",
        &["exit code 1", "logs --previous"],
    );
    assert_available(
        failing(crashing(127, "ContainerCannotRun")),
        Status::False,
        "CrashLoop",
        &["command"],
    );
    assert_available(
        failing(crashing(137, "OOMKilled")),
        Status::False,
        "OutOfMemory",
        &["resources.limits.memory"],
    );
    let unschedulable = json!({"status": {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient cpu."}]}});
    assert_available(
        failing(unschedulable),
        Status::False,
        "Unschedulable",
        &["Insufficient cpu", "resources"],
    );
}

#[test]
fn a_failed_update_says_that_the_former_version_serves() {
    let case = Case {
        deployment: counts(3, 1, 2),
        pods: vec![waiting("ImagePullBackOff", "not found")],
        was_available: true,
        ..Case::default()
    };
    assert_available(
        case,
        Status::False,
        "ImagePullFailed",
        &["former version still serve"],
    );
}

#[test]
fn the_deployment_tells_of_quotas_and_deadlines() {
    let with = |type_: &str, status: &str, message: &str| {
        let mut deployment = counts(0, 0, 0);
        deployment["conditions"] = json!([{"type": type_, "status": status, "message": message}]);
        Case {
            deployment,
            ..Case::default()
        }
    };
    assert_available(
        with("ReplicaFailure", "True", "exceeded quota: pods=1"),
        Status::False,
        "PodsRefused",
        &["exceeded quota"],
    );
    assert_available(
        with("Progressing", "False", ""),
        Status::False,
        "ProgressDeadlineExceeded",
        &["GET /ready", "8000"],
    );
}

#[test]
fn the_worst_of_several_failures_is_told_whatever_their_order() {
    let pods = vec![
        crashing(1, "Error"),
        waiting("ErrImagePull", ""),
        crashing(2, "Error"),
    ];
    let message = |pods: Vec<Value>| {
        judge(Case {
            deployment: counts(2, 2, 0),
            pods,
            ..Case::default()
        })
        .available
        .message
    };
    let reversed: Vec<Value> = pods.iter().rev().cloned().collect();
    assert_eq!(message(pods), message(reversed));
}

#[test]
fn an_open_load_balancer_is_told() {
    let valid = validate(
        &server(""),
        &world(vec![gateway("contoso", |gateway| {
            gateway["status"]["sourceAddresses"] = json!([]);
        })]),
        &settings(),
    )
    .unwrap();
    let desired = build(&valid, false);
    let (mut deployment, mut service) = (desired.deployment.unwrap(), desired.service);
    deployment.status =
        serde_json::from_value(json!({"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2})).unwrap();
    service.status =
        serde_json::from_value(json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}})).unwrap();
    let observed = observe(
        &valid,
        &Applied {
            deployment: Some(deployment),
            service,
        },
        &[],
        &McpServerStatus::default(),
    );
    assert!(observed.is_available());
    assert_eq!(observed.available.reason, "DirectAccessOpen");
    assert!(observed.available.message.contains("service.sources"));
}
