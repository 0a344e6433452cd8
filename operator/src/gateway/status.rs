//! Step `status`: what people see. In: the object, and what the steps before found; out: the new status. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use mcp_fleet_crds::{McpGateway, McpGatewayStatus};

use super::check::Check;
use super::load::Loaded;
use super::probe::Probe;
use super::validate::Accepted;
use crate::azure::apim::ServiceFacts;
use crate::condition::{self, Judgement, Status, reasons, types};

/// Reason of a service that answers, but does not run.
const SERVICE_NOT_RUNNING: &str = "ServiceNotRunning";
/// States in which a service serves no calls (enum of `properties.provisioningState`, ARM specification 2024-05-01).
const NOT_RUNNING: [&str; 7] = [
    "Activating",
    "Created",
    "Creating",
    "Deleted",
    "Failed",
    "Stopped",
    "Terminating",
];

pub(super) fn status(
    gateway: &McpGateway,
    loaded: &Loaded,
    accepted: &Accepted,
    check: Option<&Check>,
    now: Timestamp,
) -> McpGatewayStatus {
    let previous = gateway.status.clone().unwrap_or_default();
    let mut judgements = vec![
        accepted.judgement.clone(),
        available(gateway, &previous.conditions, check),
    ];
    judgements.extend(registered(gateway, &previous.conditions, check));
    let generation = gateway.metadata.generation.unwrap_or_default();
    let mut ready = condition::summarize(&judgements, generation);
    if ready.status == Status::True {
        "servers can be registered".clone_into(&mut ready.message);
    }
    let judgements = condition::conclude(judgements, ready);
    let mut next = McpGatewayStatus {
        conditions: condition::merge(&previous.conditions, &judgements, generation, now),
        observed_generation: Some(generation),
        servers: i32::try_from(loaded.servers).ok(),
        // What was true last time is the best guess while nobody answers.
        gateway_url: previous.gateway_url,
        sku: previous.sku,
        source_addresses: previous.source_addresses,
        secret: previous.secret,
    };
    if let Some(Check {
        result: Ok(facts), ..
    }) = check
    {
        let url = gateway.spec.url.as_deref().unwrap_or(facts.gateway_url.as_str());
        next.gateway_url = Some(url.trim_end_matches('/').to_owned());
        next.sku = Some(facts.sku.clone()).filter(|sku| !sku.is_empty());
        let stated = stated(gateway);
        next.source_addresses = facts
            .addresses
            .iter()
            .map(ToString::to_string)
            .chain(stated.iter().cloned())
            .collect();
    }
    next
}

/// What the platform says of the addresses, since the service does not know them.
fn stated(gateway: &McpGateway) -> &[String] {
    let apim = gateway.spec.apim.as_ref();
    apim.and_then(|apim| apim.source_ranges.as_deref())
        .unwrap_or_default()
}

fn available(gateway: &McpGateway, previous: &[Condition], check: Option<&Check>) -> Judgement {
    match check.map(|check| (&check.result, &check.body_logging)) {
        None if previous.is_empty() => Judgement::unknown(
            types::AVAILABLE,
            reasons::PENDING,
            "the settings cannot be used yet",
        ),
        None => Judgement::kept(types::AVAILABLE, previous),
        Some((Err(trouble), _)) => trouble.judgement(types::AVAILABLE),
        Some((Ok(facts), _)) if NOT_RUNNING.contains(&facts.state.as_str()) => {
            let message = format!("the API Management service is in state {}", facts.state);
            Judgement::no(types::AVAILABLE, SERVICE_NOT_RUNNING, message)
        }
        Some((Ok(facts), logging)) => Judgement::yes(
            types::AVAILABLE,
            reasons::AVAILABLE,
            described(gateway, facts, logging),
        ),
    }
}

/// Only of a gateway that has, or should have, a subscription of its own, or whose secret is not as it should be.
fn registered(gateway: &McpGateway, previous: &[Condition], check: Option<&Check>) -> Option<Judgement> {
    if let Some(Err(trouble)) = check.map(|check| &check.secret) {
        let judgement = trouble.judgement(types::REGISTERED);
        let message = format!(
            "the secret that the gateway sends to its servers: {}",
            trouble.message
        );
        return Some(Judgement { message, ..judgement });
    }
    match check.map(|check| &check.probe) {
        Some(Ok(Probe::Unwanted)) => None,
        Some(Ok(Probe::Registered { written: _ })) => {
            let message = "one subscription lets the probe through to all APIs";
            Some(Judgement::yes(types::REGISTERED, reasons::REGISTERED, message))
        }
        Some(Err(trouble)) => Some(trouble.judgement(types::REGISTERED)),
        Some(Ok(Probe::Unknown)) | None => {
            let known = condition::find(previous, types::REGISTERED).is_some();
            let wanted = gateway.spec.probe == mcp_fleet_crds::Probe::AllApis;
            (known || wanted).then(|| Judgement::kept(types::REGISTERED, previous))
        }
    }
}

fn described(gateway: &McpGateway, facts: &ServiceFacts, logging: &[String]) -> String {
    let mut text = "the API Management service answers".to_owned();
    if facts.sku == "Consumption" {
        text.push_str("; in its tier Consumption, servers cannot use SSE");
    }
    if stated(gateway).is_empty() {
        if facts.addresses.is_empty() {
            text.push_str(
                "; its tier reports no addresses, so servers get a load balancer only with sources of their own: name the \
                 addresses from which it calls in apim.sourceRanges",
            );
        } else if facts.in_network {
            text.push_str(
                "; it is in a virtual network, and calls servers there from its subnet: name the subnet in \
                 apim.sourceRanges, or its calls are dropped",
            );
        }
    }
    if !logging.is_empty() {
        let names = logging.join(", ");
        let hint = format!(
            "; streams come late or break, because diagnostics of the service log bodies of answers: set the bytes of \
             frontend and backend response to 0 in {names}"
        );
        text.push_str(&hint);
    }
    text
}

/// Equality that ignores times.
pub(super) fn same(left: &McpGatewayStatus, right: &McpGatewayStatus) -> bool {
    let McpGatewayStatus {
        conditions,
        observed_generation,
        gateway_url,
        sku,
        source_addresses,
        servers,
        secret,
    } = left;
    condition::same(conditions, &right.conditions)
        && *observed_generation == right.observed_generation
        && *gateway_url == right.gateway_url
        && *sku == right.sku
        && *source_addresses == right.source_addresses
        && *servers == right.servers
        && *secret == right.secret
}

/// The reason why the gateway is not ready, for metrics.
pub(super) fn trouble(conditions: &[Condition]) -> Option<String> {
    condition::find(conditions, types::READY)
        .filter(|ready| ready.status != Status::True.as_str())
        .map(|ready| ready.reason.clone())
}

/// The status of a gateway that is being deleted: what was known, and who is awaited.
pub(super) fn deleting(gateway: &McpGateway, users: &[String], now: Timestamp) -> McpGatewayStatus {
    const SHOWN: usize = 5;
    let more = users.len().saturating_sub(SHOWN);
    let mut names = users.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 {
        names = format!("{names} and {more} more");
    }
    let message = format!("deletion waits until nothing uses the gateway any more: {names}");
    let servers = users.iter().filter(|user| user.starts_with("McpServer ")).count();
    going(gateway, reasons::DELETING, message, servers, now)
}

/// The status of a gateway that nothing uses any more, and whose own subscription does not go.
pub(super) fn removing(
    gateway: &McpGateway,
    reason: &'static str,
    what: &str,
    now: Timestamp,
) -> McpGatewayStatus {
    going(gateway, reason, format!("deletion waits: {what}"), 0, now)
}

fn going(
    gateway: &McpGateway,
    reason: &'static str,
    message: String,
    servers: usize,
    now: Timestamp,
) -> McpGatewayStatus {
    let previous = gateway.status.clone().unwrap_or_default();
    let known = [types::ACCEPTED, types::AVAILABLE, types::REGISTERED]
        .into_iter()
        .filter(|type_| {
            *type_ != types::REGISTERED || condition::find(&previous.conditions, type_).is_some()
        });
    let known = known
        .map(|type_| Judgement::kept(type_, &previous.conditions))
        .collect();
    let judgements = condition::conclude(known, Judgement::no(types::READY, reason, message));
    let generation = gateway.metadata.generation.unwrap_or_default();
    McpGatewayStatus {
        conditions: condition::merge(&previous.conditions, &judgements, generation, now),
        observed_generation: Some(generation),
        servers: i32::try_from(servers).ok(),
        ..previous
    }
}
