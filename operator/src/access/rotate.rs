//! Which of the two keys of a subscription is in the Secret, and which is made anew. In: spec, what status says of the
//! key, and the time; out: [`KeyPlan`]. Pure.
//!
//! A rotation has two steps with a status between them. First the Secret moves to the other key, which was never given
//! to anybody; the former one still works. When the grace period is over, the former one is made anew. So a key that
//! callers have is never made anew, wherever a process ends: each step is decided by status alone, and can be done twice.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mcp_fleet_crds::{AccessKey, AccessKeyStatus, McpAccess};

use crate::azure::apim::KeySlot;

/// A day: enough for workloads that read the Secret when they are rolled out.
const GRACE: Duration = Duration::from_hours(24);

/// What is due.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct KeyPlan {
    /// What status says when all of it is done.
    pub next: AccessKeyStatus,
    /// Whether the key that is not in use is to be made anew. `next` still names its end.
    pub renew_other: bool,
}

impl KeyPlan {
    pub(super) fn slot(&self) -> KeySlot {
        slot(self.next.in_use)
    }
}

pub(super) fn slot(key: AccessKey) -> KeySlot {
    match key {
        AccessKey::Primary => KeySlot::Primary,
        AccessKey::Secondary => KeySlot::Secondary,
    }
}

fn other(key: AccessKey) -> AccessKey {
    match key {
        AccessKey::Primary => AccessKey::Secondary,
        AccessKey::Secondary => AccessKey::Primary,
    }
}

pub(super) fn plan(access: &McpAccess, now: Timestamp) -> KeyPlan {
    let wanted = access.spec.rotate.as_ref();
    let Some(known) = access.status.as_ref().and_then(|status| status.key.clone()) else {
        // A key that is given for the first time is as new as can be.
        return KeyPlan {
            next: AccessKeyStatus {
                in_use: AccessKey::default(),
                rotate: wanted.cloned(),
                former_ends: None,
            },
            renew_other: false,
        };
    };
    if let Some(ends) = &known.former_ends {
        // Another rotation waits for the end of this one: both keys are with somebody.
        let renew_other = ends.0 <= now;
        return KeyPlan {
            next: known,
            renew_other,
        };
    }
    if !is_asked_for(access, &known) {
        return KeyPlan {
            next: known,
            renew_other: false,
        };
    }
    let grace = access
        .spec
        .rotation_grace_seconds
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or(GRACE, Duration::from_secs);
    let ends = now.checked_add(grace).unwrap_or(now);
    // Kubernetes keeps whole seconds.
    let ends = Timestamp::from_second(ends.as_second()).unwrap_or(ends);
    KeyPlan {
        next: AccessKeyStatus {
            in_use: other(known.in_use),
            rotate: wanted.cloned(),
            former_ends: Some(Time(ends)),
        },
        renew_other: false,
    }
}

/// Whether spec asks for another key than this one.
pub(super) fn is_asked_for(access: &McpAccess, known: &AccessKeyStatus) -> bool {
    access.spec.rotate.is_some() && access.spec.rotate != known.rotate
}

/// How long until a former key ends.
pub(super) fn until_end(key: Option<&AccessKeyStatus>, now: Timestamp) -> Option<Duration> {
    let ends = key?.former_ends.as_ref()?;
    // A little later than to the second, so that it is over then.
    let left = ends
        .0
        .as_second()
        .saturating_sub(now.as_second())
        .saturating_add(1);
    Some(Duration::from_secs(u64::try_from(left).unwrap_or(1).max(1)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn access(spec: &Value, key: &Value) -> McpAccess {
        let mut spec = spec.clone();
        spec["servers"] = json!([{"name": "weather"}]);
        serde_json::from_value(json!({
            "apiVersion": "mcpfleet.dev/v1alpha1", "kind": "McpAccess",
            "metadata": {"name": "agents", "namespace": "agents"},
            "spec": spec, "status": {"conditions": [], "key": key},
        }))
        .unwrap()
    }

    #[test]
    fn each_step_follows_from_status_and_time() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let (before, after) = ("2026-11-21T09:59:59Z", "2026-11-21T10:00:01Z");
        let cases = [
            (
                "the first key",
                json!({"rotate": "1"}),
                json!(null),
                json!({"inUse": "Primary", "rotate": "1"}),
                false,
            ),
            (
                "nothing is asked for",
                json!({}),
                json!({"inUse": "Secondary", "rotate": "1"}),
                json!({"inUse": "Secondary", "rotate": "1"}),
                false,
            ),
            (
                "it is answered",
                json!({"rotate": "1"}),
                json!({"inUse": "Secondary", "rotate": "1"}),
                json!({"inUse": "Secondary", "rotate": "1"}),
                false,
            ),
            (
                "a day",
                json!({"rotate": "1"}),
                json!({"inUse": "Primary"}),
                json!({"inUse": "Secondary", "rotate": "1", "formerEnds": "2026-11-22T10:00:00Z"}),
                false,
            ),
            (
                "a minute",
                json!({"rotate": "2", "rotationGraceSeconds": 60}),
                json!({"inUse": "Secondary", "rotate": "1"}),
                json!({"inUse": "Primary", "rotate": "2", "formerEnds": "2026-11-21T10:01:00Z"}),
                false,
            ),
            (
                "the former key still works",
                json!({"rotate": "2"}),
                json!({"inUse": "Secondary", "rotate": "1", "formerEnds": after}),
                json!({"inUse": "Secondary", "rotate": "1", "formerEnds": after}),
                false,
            ),
            (
                "it is over",
                json!({"rotate": "2"}),
                json!({"inUse": "Secondary", "rotate": "1", "formerEnds": before}),
                json!({"inUse": "Secondary", "rotate": "1", "formerEnds": before}),
                true,
            ),
        ];
        for (what, spec, key, next, renew_other) in cases {
            let plan = plan(&access(&spec, &key), now);
            assert_eq!(serde_json::to_value(&plan.next).unwrap(), next, "{what}");
            assert_eq!(plan.renew_other, renew_other, "{what}");
        }
    }

    #[test]
    fn the_end_is_waited_for() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let left = |ends: Value| {
            let access = access(&json!({}), &json!({"inUse": "Primary", "formerEnds": ends}));
            until_end(access.status.unwrap().key.as_ref(), now).map(|left| left.as_secs())
        };
        assert_eq!(left(json!(null)), None);
        assert_eq!(left(json!("2026-11-21T10:00:10Z")), Some(11));
        assert_eq!(left(json!("2026-11-21T09:00:00Z")), Some(1));
    }
}
