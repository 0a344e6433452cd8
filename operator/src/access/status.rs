//! Step `status`: what people see. In: the object, and what the steps before found; out: the new status. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use mcp_fleet_crds::{AccessGatewayStatus, AccessServerStatus, McpAccess, McpAccessStatus};

use super::build::secret_name;
use super::error::{AccessError, Hindrance};
use super::validate::Validated;
use crate::azure::apim::Granted;
use crate::condition::{self, Judgement, Status, reasons, types};
use crate::steady::steady;

/// How many hindrances a message names.
const SHOWN: usize = 3;

pub(super) fn status(
    access: &McpAccess,
    validated: &Validated,
    registered: Option<&Result<Granted, AccessError>>,
    now: Timestamp,
) -> McpAccessStatus {
    let previous = access.status.clone().unwrap_or_default();
    let error = registered.and_then(|result| result.as_ref().err());
    let accepted = accepted(validated, error);
    let registration = registration(validated, registered, &previous.conditions);
    let mut ready = condition::summarize(&[accepted.clone(), registration.clone()]);
    if ready.status == Status::True {
        ready.message = format!("Secret {} has the key", secret_name(access));
    }
    let generation = access.metadata.generation.unwrap_or_default();
    let mut next = McpAccessStatus {
        conditions: condition::merge(
            &previous.conditions,
            &[accepted, registration, ready],
            generation,
            now,
        ),
        observed_generation: Some(generation),
        gateway: previous.gateway,
        servers: previous.servers,
        secret_name: previous.secret_name,
    };
    if let (Some(Ok(granted)), Some(gateway)) = (registered, &validated.gateway) {
        next.gateway = Some(AccessGatewayStatus {
            name: gateway.object.name_any(),
            product_id: Some(granted.product.clone()),
            subscription_id: Some(granted.subscription.clone()),
        });
        next.servers = opened(validated, granted);
        next.secret_name = Some(secret_name(access));
    }
    next
}

fn opened(validated: &Validated, granted: &Granted) -> Vec<AccessServerStatus> {
    let there = validated
        .grants
        .iter()
        .filter(|grant| !granted.missing.contains(&grant.api));
    there
        .map(|grant| AccessServerStatus {
            namespace: grant.namespace.clone(),
            name: grant.name.clone(),
            url: grant.url.clone(),
        })
        .collect()
}

fn accepted(validated: &Validated, error: Option<&AccessError>) -> Judgement {
    if let Some(error) = error.filter(|error| error.condition() == types::ACCEPTED) {
        return Judgement::no(types::ACCEPTED, error.reason(), steady(&error.to_string()));
    }
    let refusals: Vec<&Hindrance> = validated
        .hindrances
        .iter()
        .filter(|one| one.is_refusal())
        .collect();
    match refusals.first() {
        Some(first) => Judgement::no(types::ACCEPTED, first.reason(), joined(&refusals)),
        None => Judgement::yes(types::ACCEPTED, reasons::ACCEPTED, "no server refuses"),
    }
}

fn registration(
    validated: &Validated,
    registered: Option<&Result<Granted, AccessError>>,
    previous: &[Condition],
) -> Judgement {
    let waits: Vec<&Hindrance> = validated
        .hindrances
        .iter()
        .filter(|one| !one.is_refusal())
        .collect();
    match registered {
        Some(Err(error)) if error.condition() == types::REGISTERED => {
            Judgement::no(types::REGISTERED, error.reason(), steady(&error.to_string()))
        }
        Some(Ok(granted)) if granted.subscription_state != "active" => {
            let message = format!(
                "the subscription is {} in API Management: an administrator there has to activate it",
                granted.subscription_state
            );
            Judgement::no(types::REGISTERED, "SubscriptionNotActive", message)
        }
        Some(Ok(granted)) if !granted.missing.is_empty() => {
            let message = format!("not in API Management (yet): {}", granted.missing.join(", "));
            Judgement::no(types::REGISTERED, "ApiMissing", message)
        }
        Some(Ok(_)) if waits.is_empty() => Judgement::yes(
            types::REGISTERED,
            reasons::REGISTERED,
            "product, links and subscription are there",
        ),
        _ => match waits.first() {
            Some(first) => Judgement::unknown(types::REGISTERED, first.reason(), joined(&waits)),
            None => Judgement::kept(types::REGISTERED, previous),
        },
    }
}

fn joined(hindrances: &[&Hindrance]) -> String {
    let texts: Vec<String> = hindrances.iter().take(SHOWN).map(ToString::to_string).collect();
    let text = texts.join("; ");
    match hindrances.len().saturating_sub(SHOWN) {
        0 => text,
        more => format!("{text}; and {more} more"),
    }
}

/// The status of an access that is being deleted, and cannot go yet.
pub(super) fn deleting(access: &McpAccess, error: &AccessError, now: Timestamp) -> McpAccessStatus {
    let previous = access.status.clone().unwrap_or_default();
    let generation = access.metadata.generation.unwrap_or_default();
    let message = format!("deletion waits: {}", steady(&error.to_string()));
    let judgements = [
        Judgement::kept(types::ACCEPTED, &previous.conditions),
        Judgement::kept(types::REGISTERED, &previous.conditions),
        Judgement::no(types::READY, reasons::DELETING, message),
    ];
    McpAccessStatus {
        conditions: condition::merge(&previous.conditions, &judgements, generation, now),
        observed_generation: Some(generation),
        ..previous
    }
}

/// Equality that ignores times.
pub(super) fn same(left: &McpAccessStatus, right: &McpAccessStatus) -> bool {
    let McpAccessStatus {
        conditions,
        observed_generation,
        gateway,
        servers,
        secret_name,
    } = left;
    condition::same(conditions, &right.conditions)
        && *observed_generation == right.observed_generation
        && *gateway == right.gateway
        && *servers == right.servers
        && *secret_name == right.secret_name
}
