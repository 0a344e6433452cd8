//! A table of workloads and what is said of them.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};

use super::*;
use crate::condition::{Outlook, Status, reasons};
use crate::server::apply::Applied;
use crate::server::build::build;
use crate::server::observe::{Observed, Rollout, observe};

struct Case<'a> {
    spec: &'a str,
    deployment: Value,
    ingress: Value,
    pods: Vec<Value>,
}

impl Default for Case<'_> {
    fn default() -> Self {
        Self {
            spec: "",
            deployment: ready(2),
            ingress: json!([{"ip": "203.0.113.7"}]),
            pods: vec![],
        }
    }
}

fn counts(replicas: i32, updated: i32, available: i32) -> Value {
    json!({"observedGeneration": 1, "replicas": replicas, "updatedReplicas": updated, "readyReplicas": available,
        "availableReplicas": available})
}

/// As the Deployment controller tells of a template whose pods were all available once.
fn rolled_out(mut status: Value) -> Value {
    status["conditions"] =
        json!([{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]);
    status
}

fn ready(replicas: i32) -> Value {
    counts(replicas, replicas, replicas)
}

fn judge(case: Case<'_>) -> Observed {
    let valid = valid(case.spec);
    let desired = build(&valid, Replicas::Ours);
    let (mut deployment, mut service) = (desired.deployment.unwrap(), desired.service);
    deployment.metadata.generation = Some(1);
    deployment.status = serde_json::from_value(case.deployment).unwrap();
    service.status = serde_json::from_value(json!({"loadBalancer": {"ingress": case.ingress}})).unwrap();
    let pods: Vec<Pod> = case
        .pods
        .into_iter()
        .map(|pod| serde_json::from_value(pod).unwrap())
        .collect();
    observe(&valid, &applied(deployment, service), &pods)
}

fn applied(deployment: Deployment, service: Service) -> Applied {
    Applied {
        deployment: Some(deployment),
        service,
    }
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
        deployment: counts(2, 2, 0),
        ..Case::default()
    };
    assert_available(starting(), Status::Unknown, reasons::PENDING, &["starting"]);
    assert_eq!(judge(starting()).rollout, Rollout::Progressing);
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

/// Available is about any pod, the rollout about those of the newest template.
#[test]
fn a_version_has_taken_over_when_no_other_serves() {
    use Rollout::{Done, Progressing};
    let stale = json!({"observedGeneration": 0, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
    let table = [
        (ready(2), Done, true),
        // The Deployment controller has not seen the newest template.
        (stale.clone(), Progressing, false),
        (rolled_out(stale), Progressing, false),
        // A former pod is still there.
        (counts(3, 2, 3), Progressing, false),
        (counts(3, 1, 2), Progressing, false),
        // The first of two pods of a new template, or of a new server.
        (counts(2, 2, 1), Progressing, false),
        // One of two pods is moved, or two of ten are still to come: what has taken over stays so.
        (rolled_out(counts(2, 2, 1)), Done, true),
        (rolled_out(counts(1, 1, 1)), Done, true),
        (rolled_out(counts(10, 10, 8)), Done, true),
    ];
    for (deployment, rollout, serves_newest) in table {
        let text = deployment.to_string();
        let observed = judge(Case {
            deployment,
            ..Case::default()
        });
        assert_eq!(
            (observed.available.status, &observed.rollout),
            (Status::True, &rollout),
            "{text}"
        );
        assert_eq!(observed.serves_newest(), serves_newest, "{text}");
    }
    let lost = || Case {
        deployment: rolled_out(counts(2, 2, 0)),
        ..Case::default()
    };
    assert_available(lost(), Status::False, "NoPodReady", &[]);
    assert!(!judge(lost()).serves_newest());
}

fn unschedulable() -> Value {
    json!({"status": {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient cpu."}]}})
}

/// An autoscaler asks for more than there is room for, a node is drained, one replica stays broken, or the first start
/// has room for one: agents are served, and the message says what is wrong.
#[test]
fn pods_that_do_not_come_are_no_outage_while_others_serve() {
    for (deployment, pod, word) in [
        (rolled_out(counts(10, 10, 8)), unschedulable(), "Insufficient cpu"),
        (counts(2, 2, 1), unschedulable(), "Insufficient cpu"),
        (rolled_out(counts(3, 3, 2)), crashing(1, "Error"), "exit code 1"),
    ] {
        let case = || Case {
            deployment: deployment.clone(),
            pods: vec![pod.clone()],
            ..Case::default()
        };
        assert_available(
            case(),
            Status::True,
            reasons::AVAILABLE,
            &["some pods serve", word],
        );
        assert!(judge(case()).serves_newest());
    }
}

/// Tools that wait give up on what waiting does not heal, and on nothing else.
#[test]
fn only_what_needs_a_change_stalls() {
    let root = "container has runAsNonRoot and image will run as root (pod: \"a\", container: mcp)";
    let table = [
        (waiting("ErrImagePull", "manifest unknown"), Outlook::Stalls),
        (
            waiting("ImagePullBackOff", "dial tcp: i/o timeout"),
            Outlook::Passes,
        ),
        (waiting("CreateContainerConfigError", root), Outlook::Stalls),
        (
            waiting("CreateContainerConfigError", "secret \"key\" not found"),
            Outlook::Passes,
        ),
        (crashing(1, "Error"), Outlook::Passes),
        (crashing(127, "ContainerCannotRun"), Outlook::Stalls),
        (unschedulable(), Outlook::Passes),
    ];
    for (pod, outlook) in table {
        let mut deployment = counts(2, 2, 0);
        let case = |deployment: &Value| Case {
            deployment: deployment.clone(),
            pods: vec![pod.clone()],
            ..Case::default()
        };
        assert_eq!(judge(case(&deployment)).available.outlook, outlook, "{pod}");
        deployment["conditions"] =
            json!([{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]);
        assert_eq!(
            judge(case(&deployment)).available.outlook,
            Outlook::Stalls,
            "{pod}: too late"
        );
    }
}

/// The pod of a version that failed is still there when the next one is applied: it is no word on that.
#[test]
fn a_former_version_s_trouble_is_not_the_newest_s() {
    let broken = |image: &str, set: &str, made: &str| {
        let mut pod = waiting("ErrImagePull", "manifest unknown");
        pod["metadata"] = json!({"creationTimestamp": made, "labels": {"pod-template-hash": set}});
        pod["spec"] = json!({"containers": [{"name": "mcp", "image": image}]});
        pod
    };
    let young = |image: &str| {
        json!({"metadata": {"creationTimestamp": "2026-11-21T10:05:00Z", "labels": {"pod-template-hash": "b"}},
            "spec": {"containers": [{"name": "mcp", "image": image}]}})
    };
    let ours = "registry.example.com/mcp-weather:1.2.3";
    let judged = |pods: Vec<Value>| {
        judge(Case {
            deployment: counts(3, 1, 1),
            pods,
            ..Case::default()
        })
        .rollout
    };
    let early = "2026-11-21T10:00:00Z";
    let other_image = judged(vec![
        broken("registry.example.com/typo:1", "a", early),
        young(ours),
    ]);
    assert_eq!(other_image, Rollout::Progressing);
    let other_set = judged(vec![broken(ours, "a", early), young(ours)]);
    assert_eq!(other_set, Rollout::Progressing);
    let newest = judged(vec![young(ours), broken(ours, "c", "2026-11-21T10:06:00Z")]);
    assert!(matches!(newest, Rollout::Failed(_)), "{newest:?}");
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
    assert_available(
        failing(unschedulable()),
        Status::False,
        "Unschedulable",
        &["Insufficient cpu", "resources"],
    );
}

#[test]
fn a_failed_update_says_that_the_former_version_serves() {
    let case = || Case {
        deployment: counts(3, 1, 2),
        pods: vec![waiting("ImagePullBackOff", "not found")],
        ..Case::default()
    };
    let words = ["pods of the former version serve", "cannot pull image"];
    assert_available(case(), Status::True, reasons::AVAILABLE, &words);
    let observed = judge(case());
    assert!(
        matches!(&observed.rollout, Rollout::Failed(failure) if failure.reason == "ImagePullFailed"),
        "{:?}",
        observed.rollout
    );
    assert!(!observed.serves_newest());
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
        &server("image: x\nservice: {sources: [Any]}"),
        &world(vec![gateway("contoso", |gateway| {
            gateway["spec"]["allow"] = json!({"anySource": true});
        })]),
        &settings(),
    )
    .unwrap();
    let desired = build(&valid, Replicas::Ours);
    let (mut deployment, mut service) = (desired.deployment.unwrap(), desired.service);
    deployment.status =
        serde_json::from_value(json!({"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2})).unwrap();
    service.status =
        serde_json::from_value(json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}})).unwrap();
    let observed = observe(&valid, &applied(deployment, service), &[]);
    assert!(observed.is_available());
    assert_eq!(observed.available.reason, "DirectAccessOpen");
    assert!(observed.available.message.contains("service.sources"));
}
