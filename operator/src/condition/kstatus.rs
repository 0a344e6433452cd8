//! What kstatus makes of an object, for tests: the generic rules of sigs.k8s.io/cli-utils, pkg/kstatus/status, in their
//! order. In: an object as JSON; out: [`Verdict`]. Flux, Helm 4 and `kubectl apply` of kpt wait by these.

use serde_json::Value;

/// What a tool that waits concludes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Terminating,
    InProgress,
    Failed,
    Current,
}

/// Judges.
pub fn verdict(object: &Value) -> Verdict {
    let (metadata, status) = (&object["metadata"], &object["status"]);
    if !metadata["deletionTimestamp"].is_null() {
        return Verdict::Terminating;
    }
    let observed = &status["observedGeneration"];
    if !observed.is_null() && *observed != metadata["generation"] {
        return Verdict::InProgress;
    }
    let is = |type_: &str, value: &str| {
        let conditions = status["conditions"].as_array();
        conditions.is_some_and(|conditions| {
            conditions
                .iter()
                .any(|condition| condition["type"] == type_ && condition["status"] == value)
        })
    };
    if is("Reconciling", "True") {
        return Verdict::InProgress;
    }
    if is("Stalled", "True") {
        return Verdict::Failed;
    }
    if is("Ready", "False") || is("Ready", "Unknown") {
        return Verdict::InProgress;
    }
    Verdict::Current
}
