//! Metrics, in the text format of OpenMetrics. In: what happened; out: the page for /metrics.
//! No label carries an object's name: their number must not grow with the fleet.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// How a pass ended: one vocabulary for all kinds, so that one query finds the failures of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassOutcome {
    Ok,
    Failed,
    /// What it found is not told yet: the next pass looks again first.
    Held,
}

impl PassOutcome {
    pub const ALL: [Self; 3] = [Self::Ok, Self::Failed, Self::Held];

    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Held => "held",
        }
    }
}

/// What a condition of one namespace's objects says; see [`Metrics::set_conditions`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub struct ConditionLabels {
    pub kind: &'static str,
    /// Empty for kinds without one.
    pub namespace: String,
    pub r#type: String,
    pub status: String,
    pub reason: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReconcileLabels {
    kind: &'static str,
    outcome: &'static str,
    reason: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ArmLabels {
    verb: String,
    resource: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WriteLabels {
    kind: String,
    verb: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LaneLabels {
    lane: &'static str,
}

/// What a lane's queue tells of itself.
#[derive(Clone, Debug, Default)]
pub struct LaneGauges {
    depth: Gauge,
    slots: Gauge,
}

impl LaneGauges {
    /// How many wait for a slot, and how many have one.
    pub fn set(&self, waiting: usize, running: usize) {
        self.depth.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.slots.set(i64::try_from(running).unwrap_or(i64::MAX));
    }
}

/// All metrics of the process. Clones count into the same numbers.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    reconciles: Family<ReconcileLabels, Counter>,
    durations: Family<KindLabels, Histogram, fn() -> Histogram>,
    in_backoff: Family<KindLabels, Gauge>,
    arm_requests: Family<ArmLabels, Counter>,
    arm_seconds: Counter<f64, AtomicU64>,
    kubernetes_writes: Family<WriteLabels, Counter>,
    conditions: Family<ConditionLabels, Gauge>,
    missing_fields: Family<KindLabels, Gauge>,
    queue_depth: Family<LaneLabels, Gauge>,
    slots_in_use: Family<LaneLabels, Gauge>,
    probe_seconds: Histogram,
    throttle_wait: Counter<f64, AtomicU64>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("mcp_fleet");
        let metrics = Self {
            registry: Arc::default(),
            reconciles: Family::default(),
            durations: Family::new_with_constructor(pass_histogram),
            in_backoff: Family::default(),
            arm_requests: Family::default(),
            arm_seconds: Counter::default(),
            kubernetes_writes: Family::default(),
            conditions: Family::default(),
            missing_fields: Family::default(),
            queue_depth: Family::default(),
            slots_in_use: Family::default(),
            probe_seconds: probe_histogram(),
            throttle_wait: Counter::default(),
        };
        registry.register(
            "reconciles",
            "Passes by kind, outcome and reason",
            metrics.reconciles.clone(),
        );
        registry.register(
            "reconcile_seconds",
            "Duration of a pass",
            metrics.durations.clone(),
        );
        registry.register(
            "objects_in_backoff",
            "Objects whose last pass failed",
            metrics.in_backoff.clone(),
        );
        registry.register(
            "arm_requests",
            "Requests to Azure Resource Manager",
            metrics.arm_requests.clone(),
        );
        registry.register(
            "arm_request_seconds",
            "Time spent in requests to Azure Resource Manager",
            metrics.arm_seconds.clone(),
        );
        registry.register(
            "kubernetes_writes",
            "Writes to the API server by kind and verb",
            metrics.kubernetes_writes.clone(),
        );
        registry.register(
            "conditions",
            "Objects by kind, namespace, condition type, status and reason",
            metrics.conditions.clone(),
        );
        registry.register(
            "definition_missing_fields",
            "Fields that this version knows and the cluster's definition of the kind does not",
            metrics.missing_fields.clone(),
        );
        registry.register(
            "queue_depth",
            "Objects that wait for a slot, by lane",
            metrics.queue_depth.clone(),
        );
        registry.register(
            "slots_in_use",
            "Objects that are worked on, by lane",
            metrics.slots_in_use.clone(),
        );
        registry.register(
            "probe_seconds",
            "Duration of a probe: a server, directly and through its gateway",
            metrics.probe_seconds.clone(),
        );
        registry.register(
            "throttle_wait_seconds",
            "Time that requests to Azure Resource Manager waited for their turn",
            metrics.throttle_wait.clone(),
        );
        Self {
            registry: Arc::new(Mutex::new(registry)),
            ..metrics
        }
    }
}

impl Metrics {
    /// A pass ended. `reason` is empty or one of the constants that conditions use.
    pub fn reconciled(&self, kind: &'static str, outcome: PassOutcome, reason: &str, took: Duration) {
        self.reconciles
            .get_or_create(&ReconcileLabels {
                kind,
                outcome: outcome.as_str(),
                reason: reason.to_owned(),
            })
            .inc();
        self.durations
            .get_or_create(&KindLabels { kind })
            .observe(took.as_secs_f64());
    }

    pub fn set_in_backoff(&self, kind: &'static str, objects: usize) {
        self.in_backoff
            .get_or_create(&KindLabels { kind })
            .set(i64::try_from(objects).unwrap_or(i64::MAX));
    }

    /// A request to ARM ended; `outcome` is one of [`crate::azure::apim::OUTCOMES`].
    pub fn arm_request(&self, verb: &str, resource: &'static str, outcome: &'static str, took: Duration) {
        let labels = ArmLabels {
            verb: verb.to_owned(),
            resource,
            outcome,
        };
        self.arm_requests.get_or_create(&labels).inc();
        self.arm_seconds.inc_by(took.as_secs_f64());
    }

    /// A write to the API server was sent.
    pub fn kubernetes_write(&self, kind: &str, verb: &'static str) {
        self.kubernetes_writes
            .get_or_create(&WriteLabels {
                kind: kind.to_owned(),
                verb,
            })
            .inc();
    }

    /// What the cluster's definition of a kind lacks.
    pub fn set_missing_fields(&self, kind: &'static str, fields: usize) {
        self.missing_fields
            .get_or_create(&KindLabels { kind })
            .set(i64::try_from(fields).unwrap_or(i64::MAX));
    }

    /// The gauges of a lane's queue.
    pub fn lane(&self, lane: &'static str) -> LaneGauges {
        let labels = LaneLabels { lane };
        LaneGauges {
            depth: self.queue_depth.get_or_create(&labels).clone(),
            slots: self.slots_in_use.get_or_create(&labels).clone(),
        }
    }

    /// A probe ended.
    pub fn probed(&self, took: Duration) {
        self.probe_seconds.observe(took.as_secs_f64());
    }

    /// A request to ARM waited for its turn.
    pub fn throttled(&self, waited: Duration) {
        self.throttle_wait.inc_by(waited.as_secs_f64());
    }

    /// Replaces the gauges of the conditions by these numbers of objects. What nobody has any more is gone, so there are at
    /// most as many as namespaces times the conditions that their objects are in.
    pub fn set_conditions(&self, counts: impl IntoIterator<Item = (ConditionLabels, i64)>) {
        self.conditions.clear();
        for (labels, count) in counts {
            self.conditions.get_or_create(&labels).set(count);
        }
    }

    /// The page for /metrics.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry)?;
        Ok(page)
    }
}

fn pass_histogram() -> Histogram {
    Histogram::new([0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0])
}

fn probe_histogram() -> Histogram {
    Histogram::new([0.02, 0.1, 0.5, 2.0, 5.0, 10.0, 30.0, 60.0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_what_was_counted_and_no_names() {
        let metrics = Metrics::default();
        metrics.reconciled("McpServer", PassOutcome::Ok, "", Duration::from_millis(3));
        metrics.arm_request("PUT", "api", "ok", Duration::from_secs(1));
        metrics.kubernetes_write("Deployment", "apply");
        metrics.set_in_backoff("McpServer", 2);
        metrics.set_conditions([(
            ConditionLabels {
                kind: "McpServer",
                namespace: "tools".to_owned(),
                r#type: "Ready".to_owned(),
                status: "True".to_owned(),
                reason: "Ready".to_owned(),
            },
            3,
        )]);
        metrics.lane("proof").set(3, 1);
        metrics.probed(Duration::from_secs(9));
        metrics.throttled(Duration::from_secs(2));
        let page = metrics.encode().unwrap();
        for line in [
            r#"mcp_fleet_queue_depth{lane="proof"} 3"#,
            r#"mcp_fleet_slots_in_use{lane="proof"} 1"#,
            r#"mcp_fleet_probe_seconds_bucket{le="10.0"} 1"#,
            "mcp_fleet_throttle_wait_seconds_total 2.0",
            r#"mcp_fleet_reconciles_total{kind="McpServer",outcome="ok",reason=""} 1"#,
            r#"mcp_fleet_arm_requests_total{verb="PUT",resource="api",outcome="ok"} 1"#,
            r#"mcp_fleet_kubernetes_writes_total{kind="Deployment",verb="apply"} 1"#,
            r#"mcp_fleet_objects_in_backoff{kind="McpServer"} 2"#,
            r#"mcp_fleet_conditions{kind="McpServer",namespace="tools",type="Ready",status="True",reason="Ready"} 3"#,
        ] {
            assert!(page.contains(line), "{line} is missing in\n{page}");
        }
    }
}
