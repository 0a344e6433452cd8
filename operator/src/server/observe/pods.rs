//! Why pods fail. In: pods; out: the worst failure, with what to change. Messages carry no pod names and no counters:
//! those differ from pass to pass, and every difference would be a write.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodSpec};

use crate::condition::{Judgement, Outlook};
use crate::server::build::names;
use crate::server::validate::Workload;

/// A failure, for the condition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Failure {
    /// Smaller is worse: nearer to the beginning of a pod's life.
    pub(super) severity: u8,
    pub reason: &'static str,
    pub message: String,
    /// Trying again is of no use, so a tool that waits may give up.
    pub needs_change: bool,
}

impl Failure {
    /// One that time does not heal.
    pub fn lasting(reason: &'static str, message: String) -> Self {
        Self {
            severity: 0,
            reason,
            message,
            needs_change: true,
        }
    }

    /// As a condition that is False.
    pub fn judgement(&self, type_: &'static str, message: String) -> Judgement {
        Judgement::no(type_, self.reason, message).that(if self.needs_change {
            Outlook::Stalls
        } else {
            Outlook::Passes
        })
    }
}

/// The worst failure among the pods of the newest template. With several alike, the first by message, so that the
/// choice is stable.
pub fn worst(pods: &[Pod], deployment: &Deployment, workload: Option<&Workload>) -> Option<Failure> {
    newest(pods, deployment)
        .into_iter()
        .filter_map(|pod| failure(pod, workload))
        .min()
}

/// Pods that may be of the newest template: not on their way out, with its image, and from the ReplicaSet that made the
/// youngest of them. A former version's trouble is no word on the newest.
fn newest<'a>(pods: &'a [Pod], deployment: &Deployment) -> Vec<&'a Pod> {
    let template = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref());
    let wanted = template.and_then(image);
    let mut found: Vec<_> = pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .filter(|pod| {
            let has = pod.spec.as_ref().and_then(image);
            has.is_none() || wanted.is_none() || has == wanted
        })
        .collect();
    let made = |pod: &Pod| pod.metadata.creation_timestamp.clone();
    let youngest = found.iter().map(|pod| made(pod)).max().flatten();
    // Times have whole seconds, so there may be two ReplicaSets.
    let sets: Vec<_> = found
        .iter()
        .filter(|pod| made(pod) == youngest)
        .map(|pod| set(pod).map(ToOwned::to_owned))
        .collect();
    found.retain(|pod| sets.iter().any(|one| one.as_deref() == set(pod)));
    found
}

fn image(pod: &PodSpec) -> Option<&str> {
    let own = pod
        .containers
        .iter()
        .find(|container| container.name == names::CONTAINER);
    own.and_then(|container| container.image.as_deref())
}

fn set(pod: &Pod) -> Option<&str> {
    let labels = pod.metadata.labels.as_ref()?;
    labels.get("pod-template-hash").map(String::as_str)
}

fn failure(pod: &Pod, workload: Option<&Workload>) -> Option<Failure> {
    let status = pod.status.as_ref()?;
    let unscheduled = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    });
    if let Some(condition) = unscheduled {
        let message = condition.message.as_deref().unwrap_or("no reason given");
        return Some(Failure {
            severity: 2,
            reason: "Unschedulable",
            message: format!(
                "no node takes the pods: {message}; change resources, nodeSelector, affinity or tolerations"
            ),
            // Nodes may be on their way.
            needs_change: false,
        });
    }
    let containers = status
        .init_container_statuses
        .iter()
        .flatten()
        .chain(status.container_statuses.iter().flatten());
    containers
        .filter_map(|container| container_failure(container, workload))
        .min()
}

fn container_failure(container: &ContainerStatus, workload: Option<&Workload>) -> Option<Failure> {
    let state = container.state.as_ref()?;
    let waiting = state.waiting.as_ref();
    let reason = waiting
        .and_then(|waiting| waiting.reason.as_deref())
        .unwrap_or_default();
    let message = waiting
        .and_then(|waiting| waiting.message.as_deref())
        .unwrap_or_default();
    match reason {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "RegistryUnavailable" => Some(pull(container, reason, message, workload)),
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => Some(Failure {
            severity: 1,
            reason: "ContainerNotCreated",
            message: format!("the container cannot be created: {}", create_message(message)),
            // A ConfigMap or Secret may still come; another user of the image's does not.
            needs_change: wants_root(message),
        }),
        _ => crashed(container, state).map(|terminated| crash(container, terminated)),
    }
}

fn pull(container: &ContainerStatus, reason: &str, message: &str, workload: Option<&Workload>) -> Failure {
    // Of a sidecar the spec knows nothing; of our own container the status may show another spelling of the name.
    let ours = workload.filter(|_| container.name == names::CONTAINER);
    let image = ours.map_or(container.image.as_str(), |workload| workload.image.reference());
    let (cause, needs_change) = pull_cause(reason, &message.to_ascii_lowercase());
    Failure {
        severity: 0,
        reason: "ImagePullFailed",
        message: format!("cannot pull image {image}: {cause}"),
        needs_change,
    }
}

/// What to change, and whether nothing else helps.
fn pull_cause(reason: &str, message: &str) -> (&'static str, bool) {
    let any = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if reason == "InvalidImageName" {
        ("the name is malformed: correct image", true)
    } else if reason == "ErrImageNeverPull" {
        let cause =
            "it is not on the node, and imagePullPolicy is Never: load it there, or change imagePullPolicy";
        (cause, true)
    } else if any(&["unauthorized", "denied", "forbidden", "authentication required"]) {
        let cause = "the registry refuses access: check imagePullSecrets, and that the image exists";
        (cause, true)
    } else if any(&["not found", "manifest unknown", "notfound"]) {
        (
            "the registry does not have it: check the name and the tag in image",
            true,
        )
    } else if any(&[
        "no such host",
        "dial tcp",
        "timeout",
        "connection refused",
        "server misbehaving",
    ]) {
        (
            "the registry cannot be reached from the node: check the host name in image",
            false,
        )
    } else {
        (
            "check image and imagePullSecrets; the pod's events say more",
            false,
        )
    }
}

fn wants_root(message: &str) -> bool {
    message.contains("runAsNonRoot") || message.contains("non-numeric user")
}

fn create_message(message: &str) -> String {
    if wants_root(message) {
        return "the image wants to run as root, which restricted pods may not: set podTemplate.securityContext.runAsUser, or give it a numeric USER other than 0"
            .to_owned();
    }
    // Runtimes put the container's id into some messages.
    message
        .split_whitespace()
        .filter(|word| !is_id(word))
        .collect::<Vec<_>>()
        .join(" ")
}

fn is_id(word: &str) -> bool {
    let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    word.len() >= 32 && word.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
}

/// A container that ended, unless it ended well and only once: it is started again or about to be.
fn crashed<'a>(
    container: &'a ContainerStatus,
    state: &'a ContainerState,
) -> Option<&'a ContainerStateTerminated> {
    let last = container
        .last_state
        .as_ref()
        .and_then(|last| last.terminated.as_ref());
    let now = state.terminated.as_ref();
    let backing_off = state
        .waiting
        .as_ref()
        .and_then(|waiting| waiting.reason.as_deref())
        == Some("CrashLoopBackOff");
    let failed = |terminated: &&ContainerStateTerminated| terminated.exit_code != 0;
    if backing_off {
        return last.or(now);
    }
    if container.started != Some(true) || !container.ready {
        return now
            .filter(failed)
            .or_else(|| last.filter(failed).filter(|_| container.restart_count > 1));
    }
    None
}

fn crash(container: &ContainerStatus, terminated: &ContainerStateTerminated) -> Failure {
    let name = &container.name;
    let reason = terminated.reason.as_deref().unwrap_or("Error");
    if reason == "OOMKilled" {
        return Failure {
            severity: 3,
            reason: "OutOfMemory",
            message: format!(
                "container {name} was killed for using more memory than its limit: raise resources.limits.memory"
            ),
            needs_change: false,
        };
    }
    let code = terminated.exit_code;
    let hint = match code {
        0 => "it ends instead of serving: check command and args",
        126 | 127 => "its command cannot be run: check image, command and args",
        137 => {
            "it was killed, perhaps by its liveness probe: check health.path and port, and health.startupSeconds if it starts slowly"
        }
        _ => "see the log of its last run: kubectl logs --previous",
    };
    Failure {
        severity: 3,
        reason: "CrashLoop",
        message: format!("container {name} keeps ending with exit code {code} ({reason}): {hint}"),
        needs_change: matches!(code, 126 | 127),
    }
}
