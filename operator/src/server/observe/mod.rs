//! Step `observe`, pure: is the workload there, and if not, why? In: the applied children, pods, and what was known
//! before; out: [`Observed`].

mod pods;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition};
use k8s_openapi::api::core::v1::{Pod, Service};
use mcp_fleet_crds::McpServerStatus;

use super::apply::Applied;
use super::validate::{Access, Exposure, Valid};
use crate::condition::{self, Judgement, reasons, types};

/// Annotation in which the Deployment controller counts templates.
const REVISION: &str = "deployment.kubernetes.io/revision";

/// What was seen of the workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    pub replicas: i32,
    pub ready_replicas: i32,
    /// Counts the pod templates; another one is another program to verify.
    pub revision: String,
    /// Every pod is of the newest template and ready.
    pub settled: bool,
    /// Address of the load balancer, as a host in a URL.
    pub address: Option<String>,
    pub available: Judgement,
}

impl Observed {
    pub fn is_available(&self) -> bool {
        self.available.status == condition::Status::True
    }
}

/// Observes.
pub fn observe(valid: &Valid, applied: &Applied, pods: &[Pod], previous: &McpServerStatus) -> Observed {
    let address = address(&applied.service);
    let Some(deployment) = &applied.deployment else {
        return Observed {
            replicas: 0,
            ready_replicas: 0,
            revision: String::new(),
            settled: true,
            address,
            available: refused(valid),
        };
    };
    let counts = Counts::of(deployment);
    let available = judge_workload(valid, deployment, &counts, pods, previous)
        .unwrap_or_else(|| judge_address(&valid.exposure, address.as_deref(), &counts));
    Observed {
        replicas: counts.replicas,
        ready_replicas: counts.ready,
        revision: deployment
            .metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(REVISION).cloned())
            .unwrap_or_default(),
        settled: counts.is_settled(),
        address,
        available,
    }
}

/// There is no Deployment, since what it would run is refused.
fn refused(valid: &Valid) -> Judgement {
    match &valid.workload {
        Err(refusal) => Judgement::no(
            types::AVAILABLE,
            refusal.reason(),
            format!("nothing runs: {refusal}"),
        ),
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
}

/// What keeps the workload from being available; None when nothing does.
fn judge_workload(
    valid: &Valid,
    deployment: &Deployment,
    counts: &Counts,
    pods: &[Pod],
    previous: &McpServerStatus,
) -> Option<Judgement> {
    let was_available = condition::is_true(&previous.conditions, types::AVAILABLE);
    if counts.wanted == 0 {
        let message = "replicas is 0: raise it to serve agents";
        return Some(Judgement::no(types::AVAILABLE, "ScaledToZero", message));
    }
    if counts.is_settled() {
        return None;
    }
    let serving = if counts.available > 0 && was_available {
        "; pods of the former version still serve"
    } else {
        ""
    };
    if let Some(failure) = failed(deployment, "ReplicaFailure", "True") {
        let message = failure.message.as_deref().unwrap_or("no reason given");
        let message = format!("Kubernetes refuses to create pods: {message}{serving}");
        return Some(Judgement::no(types::AVAILABLE, "PodsRefused", message));
    }
    let workload = valid.workload.as_ref().ok();
    if let Some(failure) = pods::worst(pods, workload) {
        return Some(Judgement::no(
            types::AVAILABLE,
            failure.reason,
            format!("{}{serving}", failure.message),
        ));
    }
    if failed(deployment, "Progressing", "False").is_some() {
        let health = match workload.map(|workload| (&workload.health, workload.port)) {
            Some((Some(health), port)) => format!("GET {} must answer 200 on port {port}", health.ready),
            Some((None, port)) => format!("it must accept connections on port {port}"),
            None => "the spec that runs is refused by now".to_owned(),
        };
        let message =
            format!("pods run but do not become ready in time: {health}; see the pods' logs{serving}");
        return Some(Judgement::no(
            types::AVAILABLE,
            "ProgressDeadlineExceeded",
            message,
        ));
    }
    // A pod that is moved or restarted is no outage while another one serves.
    if was_available && counts.available > 0 {
        return None;
    }
    if was_available {
        return Some(Judgement::no(types::AVAILABLE, "NoPodReady", "no pod is ready"));
    }
    Some(Judgement::unknown(
        types::AVAILABLE,
        reasons::PENDING,
        "pods are starting",
    ))
}

fn failed<'a>(deployment: &'a Deployment, type_: &str, status: &str) -> Option<&'a DeploymentCondition> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|condition| condition.type_ == type_ && condition.status == status)
}

fn judge_address(exposure: &Exposure, address: Option<&str>, counts: &Counts) -> Judgement {
    let rollout = if counts.is_settled() {
        "all pods are ready"
    } else {
        "pods are being replaced"
    };
    match &exposure.access {
        Access::LoadBalancer { .. } if address.is_none() => {
            let message = "the Service has no load balancer address yet: if that lasts, see its events and whether \
                           the cluster has a load balancer implementation";
            Judgement::unknown(types::AVAILABLE, "AddressPending", message)
        }
        Access::LoadBalancer {
            open_for_want_of_addresses: true,
            ..
        } => {
            let message = format!(
                "{rollout}; anyone can reach the load balancer past the gateway, because no gateway reports \
                 addresses to restrict it to: set service.sources to CIDRs, or to Any if that is meant"
            );
            Judgement::yes(types::AVAILABLE, "DirectAccessOpen", message)
        }
        Access::LoadBalancer { .. } | Access::ClusterOnly => {
            Judgement::yes(types::AVAILABLE, reasons::AVAILABLE, rollout)
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
