//! Step `observe`, pure: is the workload there, and if not, why? In: the applied children and pods; out: [`Observed`].
//!
//! Two questions, two answers. `available`: does any pod serve, of whatever version? As for a Deployment, one is enough,
//! and what is wrong with the others is in the message. `rollout`: has the newest version taken over?

mod pods;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition};
use k8s_openapi::api::core::v1::{Pod, Service};

use super::apply::Applied;
use super::validate::{Access, Exposure, Valid};
use crate::condition::{Judgement, Outlook, Status, reasons, types};

pub use pods::Failure;

/// Reason of a workload that serves, while nobody outside the cluster can reach it.
pub const ADDRESS_PENDING: &str = "AddressPending";
/// Annotation in which the Deployment controller counts templates.
const REVISION: &str = "deployment.kubernetes.io/revision";
/// Reason of a Deployment's condition `Progressing` from when all pods of a template were available until there is
/// another template (kubernetes, pkg/controller/deployment/progress.go). Pods that are lost later do not change it.
const ROLLED_OUT: &str = "NewReplicaSetAvailable";

/// What was seen of the workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Pods that should be, are, and are ready.
    pub wanted: i32,
    pub replicas: i32,
    pub ready_replicas: i32,
    /// Counts the pod templates; another one is another program to verify.
    pub revision: String,
    /// Every pod is of the newest template and ready.
    pub settled: bool,
    pub rollout: Rollout,
    /// Address of the load balancer, as a host in a URL.
    pub address: Option<String>,
    pub available: Judgement,
}

impl Observed {
    /// At least one pod serves, where agents can reach it.
    pub fn is_available(&self) -> bool {
        self.available.status == Status::True
    }

    /// Whoever calls now reaches the newest version, and no other: it can be verified.
    pub fn serves_newest(&self) -> bool {
        self.is_available() && self.rollout == Rollout::Done
    }
}

/// How far the newest version has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rollout {
    /// Its pods come, and those of a former version go.
    Progressing,
    /// Its pods do not come up.
    Failed(Failure),
    /// There are no other pods, and they have served; how many do at present is another matter.
    Done,
}

/// Observes.
pub fn observe(valid: &Valid, applied: &Applied, pods: &[Pod]) -> Observed {
    let address = address(&applied.service);
    let Some(deployment) = &applied.deployment else {
        return Observed {
            wanted: 0,
            replicas: 0,
            ready_replicas: 0,
            revision: String::new(),
            settled: true,
            rollout: Rollout::Progressing,
            address,
            available: refused(valid),
        };
    };
    let counts = Counts::of(deployment);
    let failure = failure(valid, deployment, &counts, pods);
    let available = unavailable(deployment, &counts, failure.as_ref()).unwrap_or_else(|| {
        judge_address(
            &valid.exposure,
            address.as_deref(),
            &serving(&counts, failure.as_ref()),
        )
    });
    Observed {
        wanted: counts.wanted,
        replicas: counts.replicas,
        ready_replicas: counts.ready,
        revision: deployment
            .metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(REVISION).cloned())
            .unwrap_or_default(),
        settled: counts.is_settled(),
        rollout: rollout(deployment, &counts, failure),
        address,
        available,
    }
}

/// There is no Deployment, since what it would run is refused.
fn refused(valid: &Valid) -> Judgement {
    match &valid.workload {
        Err(refusal) => {
            let message = format!("nothing runs: {refusal}");
            Judgement::no(types::AVAILABLE, refusal.reason(), message).that(Outlook::Stalls)
        }
        Ok(_) => Judgement::unknown(types::AVAILABLE, reasons::PENDING, "pods are starting"),
    }
}

/// The numbers of a Deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    wanted: i32,
    replicas: i32,
    updated: i32,
    ready: i32,
    available: i32,
    /// The Deployment controller has seen the newest spec.
    current: bool,
}

impl Counts {
    fn of(deployment: &Deployment) -> Self {
        let status = deployment.status.clone().unwrap_or_default();
        Self {
            wanted: deployment
                .spec
                .as_ref()
                .and_then(|spec| spec.replicas)
                .unwrap_or(1),
            replicas: status.replicas.unwrap_or(0),
            updated: status.updated_replicas.unwrap_or(0),
            ready: status.ready_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            current: status.observed_generation == deployment.metadata.generation,
        }
    }

    fn is_settled(&self) -> bool {
        self.current
            && self.wanted > 0
            && [self.replicas, self.updated, self.available]
                .iter()
                .all(|count| *count == self.wanted)
    }

    /// No pod is of a former template.
    fn only_newest(&self) -> bool {
        self.current && self.replicas == self.updated
    }
}

/// What keeps pods of the newest version from serving. While the Deployment controller has not seen that version, what
/// is seen is about a former one.
fn failure(valid: &Valid, deployment: &Deployment, counts: &Counts, pods: &[Pod]) -> Option<Failure> {
    if counts.wanted == 0 || !counts.current || counts.is_settled() {
        return None;
    }
    let late = condition(deployment, "Progressing", "False").is_some();
    let refused = condition(deployment, "ReplicaFailure", "True").map(|condition| {
        let message = condition.message.as_deref().unwrap_or("no reason given");
        Failure::lasting(
            "PodsRefused",
            format!("Kubernetes refuses to create pods: {message}"),
        )
    });
    let found = refused
        .or_else(|| pods::worst(pods, deployment, valid.workload.as_ref().ok()))
        .or_else(|| late.then(|| too_late(valid)))?;
    // Kubernetes has given them all the time that there is.
    let needs_change = found.needs_change || late;
    Some(Failure {
        needs_change,
        ..found
    })
}

fn too_late(valid: &Valid) -> Failure {
    let workload = valid.workload.as_ref().ok();
    let health = match workload {
        Some(workload) => format!("{} on port {}", workload.health.awaited(), workload.port),
        None => "the spec that runs is refused by now".to_owned(),
    };
    let message = format!("pods run but do not become ready in time: {health}; see the pods' logs");
    Failure::lasting("ProgressDeadlineExceeded", message)
}

/// Why no pod serves; None when one does.
fn unavailable(deployment: &Deployment, counts: &Counts, failure: Option<&Failure>) -> Option<Judgement> {
    if counts.wanted == 0 {
        let message = "replicas is 0, so no pod runs and agents get no answer: raise it to serve them";
        return Some(Judgement::no(types::AVAILABLE, "ScaledToZero", message).that(Outlook::Intended));
    }
    if counts.available > 0 {
        return None;
    }
    Some(match failure {
        Some(failure) => failure.judgement(types::AVAILABLE, failure.message.clone()),
        None if was_rolled_out(deployment, counts) => {
            Judgement::no(types::AVAILABLE, "NoPodReady", "no pod is ready")
        }
        None => Judgement::unknown(types::AVAILABLE, reasons::PENDING, "pods are starting"),
    })
}

/// Who serves, while somebody does.
fn serving(counts: &Counts, failure: Option<&Failure>) -> String {
    match failure {
        _ if counts.is_settled() => "all pods are ready".to_owned(),
        Some(failure) if counts.only_newest() => {
            format!("some pods serve, and others do not: {}", failure.message)
        }
        Some(failure) => format!(
            "pods of the former version serve, those of the newest do not: {}",
            failure.message
        ),
        None => "some pods serve, and others are started or replaced".to_owned(),
    }
}

fn rollout(deployment: &Deployment, counts: &Counts, failure: Option<Failure>) -> Rollout {
    let took_over = counts.only_newest()
        && (was_rolled_out(deployment, counts)
            || counts.is_settled()
            || counts.wanted == 0
            // The others will not come, or not soon: those that are there are what there is.
            || (counts.available > 0 && failure.is_some()));
    match failure {
        _ if took_over => Rollout::Done,
        Some(failure) => Rollout::Failed(failure),
        None => Rollout::Progressing,
    }
}

/// All pods of the newest template have been available at one time.
fn was_rolled_out(deployment: &Deployment, counts: &Counts) -> bool {
    counts.current
        && condition(deployment, "Progressing", "True")
            .is_some_and(|condition| condition.reason.as_deref() == Some(ROLLED_OUT))
}

fn condition<'a>(deployment: &'a Deployment, type_: &str, status: &str) -> Option<&'a DeploymentCondition> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|condition| condition.type_ == type_ && condition.status == status)
}

fn judge_address(exposure: &Exposure, address: Option<&str>, serving: &str) -> Judgement {
    match &exposure.access {
        Access::LoadBalancer { .. } if address.is_none() => {
            let message = "the Service has no load balancer address yet: if that lasts, see its events and whether \
                           the cluster has a load balancer implementation";
            Judgement::unknown(types::AVAILABLE, ADDRESS_PENDING, message)
        }
        Access::LoadBalancer { sources, .. } if sources.is_empty() && exposure.guarded => {
            let message = format!(
                "{serving}; the load balancer is open to every address, and the server refuses what does not come \
                 through the gateway"
            );
            Judgement::yes(types::AVAILABLE, reasons::AVAILABLE, message)
        }
        Access::LoadBalancer { sources, .. } if sources.is_empty() => {
            let message = format!(
                "{serving}; anyone can reach the load balancer past the gateway, as service.sources says"
            );
            Judgement::yes(types::AVAILABLE, "DirectAccessOpen", message)
        }
        Access::LoadBalancer { .. } | Access::ClusterOnly => {
            Judgement::yes(types::AVAILABLE, reasons::AVAILABLE, serving)
        }
    }
}

/// The first address of the load balancer, with brackets where a URL wants them.
fn address(service: &Service) -> Option<String> {
    let ingress = service
        .status
        .as_ref()?
        .load_balancer
        .as_ref()?
        .ingress
        .as_ref()?
        .first()?;
    match (&ingress.ip, &ingress.hostname) {
        (Some(ip), _) if ip.contains(':') => Some(format!("[{ip}]")),
        (Some(ip), _) => Some(ip.clone()),
        (None, hostname) => hostname.clone(),
    }
}
