//! Step `secret`: the secret that the gateway sends to its servers, and its rotation. In: the object, what its servers'
//! Secrets hold, and the time; out: which number the service's named value is to have, and the status that follows.
//!
//! There is one as soon as a server demands it. A rotation never leaves a server without the secret that is sent:
//!
//! ```text
//! steady      number 1                      servers accept 1      the gateway sends 1
//! announced   number 1, other 2             1 and 2               1      until every server's Secret has both, and 3 minutes
//! switched    number 2, other 1             1 and 2               2      5 minutes, for gateways that still send 1
//! steady      number 2                      2                     2
//! ```
//!
//! Each line is written to status when it is true in the service, and the next is derived from it, so a process may end
//! anywhere. A status that was lost is made anew from the number in the service.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use mcp_fleet_crds::{GatewaySecretStatus, McpGateway};

use super::Controller;
use super::claim::Claim;
use super::probe::{ProbeError, may_write, owner};
use crate::azure::apim::{Outcome, Removal, SecretRegistration, ensure_secret, known_number, remove_secret};
use crate::azure::clients::GatewayClients;
use crate::azure::gateway_secret::{GatewaySecret, named_value};

/// Until the kubelets have brought a changed Secret to every pod: their sync period is a minute, and pods look every few seconds.
const SPREAD: Duration = Duration::from_mins(3);
/// Until every gateway of the service sends what its named value holds.
const SETTLE: Duration = Duration::from_mins(5);
/// Between looks during a rotation.
pub(super) const LOOK: Duration = Duration::from_secs(15);

/// Which secret the service is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// No server demands one, and there was none.
    None,
    /// The one that it has, or the first.
    Known,
    Number(i64),
}

/// What status says next, if the service has what is wanted for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub wanted: Wanted,
    next: Option<GatewaySecretStatus>,
}

/// Plans. `accepted` has the numbers that each server's Secret holds. Pure.
pub(super) fn plan(gateway: &McpGateway, accepted: &[Vec<i64>], now: Timestamp) -> Plan {
    let rotation = gateway.spec.rotate_secret.as_deref();
    let known = gateway.status.as_ref().and_then(|status| status.secret.as_ref());
    match known {
        None if accepted.is_empty() && claimed(gateway, accepted).is_none() => Plan {
            wanted: Wanted::None,
            next: None,
        },
        None => Plan {
            wanted: Wanted::Known,
            next: None,
        },
        Some(known) => {
            let next = advance(known, rotation, accepted, now);
            Plan {
                wanted: Wanted::Number(next.number),
                next: Some(next),
            }
        }
    }
}

fn advance(
    known: &GatewaySecretStatus,
    rotation: Option<&str>,
    accepted: &[Vec<i64>],
    now: Timestamp,
) -> GatewaySecretStatus {
    let passed = |since: &Option<Time>, time: Duration| {
        since.as_ref().is_some_and(|since| {
            now.duration_since(since.0) >= jiff::SignedDuration::try_from(time).unwrap_or_default()
        })
    };
    let mut next = known.clone();
    match known.other {
        None if known.rotation.as_deref() == rotation => {}
        None => {
            next.other = Some(known.number.saturating_add(1));
            next.rotation = rotation.map(str::to_owned);
            next.since = None;
        }
        Some(other) if other > known.number => {
            if !accepted.iter().all(|numbers| numbers.contains(&other)) {
                next.since = None;
            } else if known.since.is_none() {
                next.since = Some(Time(now));
            } else if passed(&known.since, SPREAD) {
                next.number = other;
                next.other = Some(known.number);
                next.since = Some(Time(now));
            }
        }
        Some(_) => {
            if passed(&known.since, SETTLE) {
                next.other = None;
                next.since = None;
            }
        }
    }
    next
}

impl Plan {
    /// Whether what the service was brought to is what is wanted now.
    pub(super) fn is_met_by(&self, number: Option<i64>) -> bool {
        match self.wanted {
            Wanted::None => true,
            Wanted::Known => number.is_some(),
            Wanted::Number(wanted) => number == Some(wanted),
        }
    }

    /// The status, when the service has `number`; before that, what was known holds.
    pub(super) fn status(&self, gateway: &McpGateway, number: Option<i64>) -> Option<GatewaySecretStatus> {
        let known = gateway.status.as_ref().and_then(|status| status.secret.clone());
        match (&self.next, number) {
            (Some(next), Some(number)) if next.number == number => Some(next.clone()),
            (None, Some(number)) => Some(GatewaySecretStatus {
                number,
                other: None,
                rotation: gateway.spec.rotate_secret.clone(),
                since: None,
            }),
            _ => known,
        }
    }
}

/// The named value that the claim has to name: the wanted one, or one that was made before.
pub(super) fn claimed(gateway: &McpGateway, accepted: &[Vec<i64>]) -> Option<String> {
    let before = Claim::of(gateway).and_then(|claim| claim.secret);
    before.or_else(|| (!accepted.is_empty()).then(|| named_value(gateway)))
}

/// Brings the named value in line; its number. The claim must name it.
pub(super) async fn bring_in_line(
    gateway: &McpGateway,
    controller: &Controller,
    clients: &GatewayClients,
    wanted: Wanted,
) -> Result<Option<i64>, ProbeError> {
    let (owner, name) = (owner(gateway), named_value(gateway));
    let number = match wanted {
        Wanted::None => return Ok(None),
        Wanted::Number(number) => number,
        Wanted::Known => known_number(&clients.arm, &owner, &name)
            .await
            .map_err(ProbeError::of)?
            .unwrap_or(1),
    };
    may_write(gateway, controller)?;
    let desired = SecretRegistration {
        owner,
        name: name.clone(),
        number,
        value: GatewaySecret::derive(&controller.context.probe_keys, gateway, number).value(),
    };
    match ensure_secret(&clients.arm, &desired)
        .await
        .map_err(ProbeError::of)?
    {
        Outcome::Done(_) => Ok(Some(number)),
        Outcome::Pending(_) => Err(ProbeError::Writing { name }),
    }
}

/// Removes the named value that a claim names, if it is ours; done when it is confirmed gone.
pub(super) async fn remove(
    gateway: &McpGateway,
    controller: &Controller,
    clients: &GatewayClients,
    name: &str,
) -> Result<(), ProbeError> {
    may_write(gateway, controller)?;
    match remove_secret(&clients.arm, &owner(gateway), name).await {
        Ok(Removal::Gone { left }) => {
            if !left.is_empty() {
                tracing::warn!(
                    gateway = gateway.name_any(),
                    left = left.join(", "),
                    "the named value of the gateway's secret was left: it is not ours, or policies that were left refer to it"
                );
            }
            Ok(())
        }
        Ok(Removal::Pending(_)) => Err(ProbeError::Writing {
            name: name.to_owned(),
        }),
        Err(error) if error.is_service_gone() => {
            tracing::warn!(%error, "the service of the gateway's secret is gone");
            Ok(())
        }
        Err(error) => Err(ProbeError::of(error)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const START: i64 = 1_800_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(START + seconds).unwrap()
    }

    fn gateway(rotate: Option<&str>, secret: Option<&GatewaySecretStatus>) -> McpGateway {
        serde_json::from_value(json!({
            "apiVersion": "mcpfleet.dev/v1alpha1", "kind": "McpGateway", "metadata": {"name": "contoso", "uid": "u"},
            "spec": {"clusterId": "demo", "rotateSecret": rotate},
            "status": {"secret": secret},
        }))
        .unwrap()
    }

    #[test]
    fn there_is_none_before_a_server_demands_it_and_then_the_one_that_the_service_has() {
        let none = gateway(None, None);
        assert_eq!(plan(&none, &[], at(0)).wanted, Wanted::None);
        assert_eq!(plan(&none, &[], at(0)).status(&none, None), None);
        let first = plan(&none, &[vec![1]], at(0));
        assert_eq!(first.wanted, Wanted::Known);
        assert!(!first.is_met_by(None));
        // The service did not take it yet.
        assert_eq!(first.status(&none, None), None);
        // A status that was lost: what the service has goes on, whatever was asked for before.
        let lost = gateway(Some("monday"), None);
        let status = plan(&lost, &[vec![4]], at(0)).status(&lost, Some(4)).unwrap();
        assert_eq!(
            (status.number, status.other, status.rotation.as_deref()),
            (4, None, Some("monday"))
        );
    }

    /// Goes through a rotation second by second; at each, servers accept what the gateway sends.
    #[test]
    fn a_rotation_never_sends_what_a_server_does_not_accept() {
        let mut status = GatewaySecretStatus {
            number: 1,
            ..GatewaySecretStatus::default()
        };
        let (mut sent, mut stages) = (1, vec![(1, None)]);
        // A server's Secret follows the status after 20 s, its pods 90 s later; a gateway may send an old value for 4 minutes.
        let mut history: Vec<(Vec<i64>, i64)> = vec![];
        let past = |history: &[(Vec<i64>, i64)], seconds: usize| {
            let then = history.iter().rev().nth(seconds);
            then.map_or_else(|| (vec![1], 1), Clone::clone)
        };
        for second in 0..1200 {
            let now = gateway(Some("monday"), Some(&status));
            let secrets = past(&history, 20).0;
            let planned = plan(&now, &[secrets.clone(), secrets], at(second));
            if let Wanted::Number(number) = planned.wanted {
                sent = number;
            }
            status = planned.status(&now, Some(sent)).unwrap();
            let stage = (status.number, status.other);
            if stages.last() != Some(&stage) {
                stages.push(stage);
            }
            history.push((crate::azure::gateway_secret::accepted(Some(&status)), sent));
            let (in_pods, late) = (past(&history, 110).0, past(&history, 240).1);
            assert!(
                in_pods.contains(&sent) && in_pods.contains(&late),
                "{second}: {in_pods:?} {sent} {late}"
            );
        }
        assert_eq!(stages, [(1, None), (1, Some(2)), (2, Some(1)), (2, None)]);
        assert_eq!(status.rotation.as_deref(), Some("monday"));
        // The same wish again is none.
        let now = gateway(Some("monday"), Some(&status));
        assert_eq!(
            plan(&now, &[vec![2]], at(5000)).status(&now, Some(2)),
            Some(status)
        );
    }

    #[test]
    fn a_server_that_does_not_follow_holds_the_rotation_up() {
        let announced = |since| GatewaySecretStatus {
            number: 1,
            other: Some(2),
            rotation: Some("monday".into()),
            since,
        };
        let next = |status: &GatewaySecretStatus, accepted: &[Vec<i64>], second| {
            let now = gateway(Some("monday"), Some(status));
            plan(&now, accepted, at(second)).next.unwrap()
        };
        let behind = [vec![2, 1], vec![1]];
        assert_eq!(next(&announced(None), &behind, 10_000), announced(None));
        let all = [vec![2, 1], vec![2, 1]];
        let counted = next(&announced(None), &all, 0);
        assert_eq!(counted, announced(Some(Time(at(0)))));
        assert_eq!(next(&counted, &all, 179), counted);
        assert_eq!(next(&counted, &behind, 180), announced(None), "counted anew");
        assert_eq!(next(&counted, &all, 180).number, 2);
    }

    #[test]
    fn a_service_that_does_not_take_the_new_one_leaves_the_stage() {
        let status = GatewaySecretStatus {
            number: 1,
            other: Some(2),
            rotation: Some("monday".into()),
            since: Some(Time(at(0))),
        };
        let now = gateway(Some("monday"), Some(&status));
        let planned = plan(&now, &[vec![2, 1]], at(200));
        assert_eq!(planned.wanted, Wanted::Number(2));
        assert!(!planned.is_met_by(Some(1)));
        assert_eq!(planned.status(&now, Some(1)), Some(status.clone()));
        assert_eq!(planned.status(&now, None), Some(status));
    }
}
