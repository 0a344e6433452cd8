//! Step `status`: what people see. In: the object, and what the steps before found; out: the new status. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use mcp_fleet_crds::{AccessGatewayStatus, AccessServerStatus, McpAccess, McpAccessStatus};

use super::Work;
use super::build::secret_name;
use super::error::AccessError;
use super::hindrance::Hindrance;
use super::load::Loaded;
use super::validate::Validated;
use crate::azure::apim::{Granted, Purpose, resource_name};
use crate::condition::{self, Judgement, Outlook, Status, reasons, types};
use crate::steady::steady;

/// How many troubles a message names.
const SHOWN: usize = 10;

pub(super) fn status(
    access: &McpAccess,
    loaded: &Loaded,
    validated: &Validated,
    work: &Work,
    now: Timestamp,
) -> McpAccessStatus {
    let previous = access.status.clone().unwrap_or_default();
    let troubles = troubles(validated, work);
    let accepted = accepted(access, validated, &troubles);
    let registration = registration(work.granted.as_ref(), &troubles, &previous.conditions);
    let generation = access.metadata.generation.unwrap_or_default();
    let parts = vec![accepted, registration];
    let ready = ready(access, &parts, generation);
    let judgements = condition::conclude(parts, ready);
    let mut next = McpAccessStatus {
        conditions: condition::merge(&previous.conditions, &judgements, generation, now),
        observed_generation: Some(generation),
        ..previous
    };
    match (&work.granted, &validated.gateway) {
        (Some(granted), Some(gateway)) => {
            next.gateway = Some(AccessGatewayStatus {
                name: gateway.object.name_any(),
                product_id: Some(granted.product.clone()),
                subscription_id: Some(granted.subscription.clone()),
            });
            next.servers = opened(validated, granted);
        }
        _ => retain_linked(&mut next, loaded, work.linked.as_deref()),
    }
    next.server_count = i32::try_from(next.servers.len()).ok();
    if let Some(delivered) = &work.delivered {
        next.secret_name = Some(secret_name(access));
        next.key = Some(delivered.key.clone());
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

/// What was taken away is open no more, although the pass came no further.
fn retain_linked(status: &mut McpAccessStatus, loaded: &Loaded, linked: Option<&[String]>) {
    let gateway = status.gateway.as_ref().and_then(|registered| {
        let mut gateways = loaded.gateways.iter();
        gateways.find(|gateway| gateway.name_any() == registered.name)
    });
    let (Some(linked), Some(gateway)) = (linked, gateway) else {
        return;
    };
    let cluster_id = &gateway.spec.cluster_id;
    status.servers.retain(|server| {
        let api = resource_name(Purpose::Server, cluster_id, &server.namespace, &server.name);
        linked.contains(&api)
    });
}

/// One thing that is in the way.
struct Trouble {
    condition: &'static str,
    /// Whether a person has to act, or it is only a matter of time.
    is_refusal: bool,
    outlook: Outlook,
    reason: &'static str,
    text: String,
}

fn troubles(validated: &Validated, work: &Work) -> Vec<Trouble> {
    let errors = work.errors.iter().map(|error: &AccessError| Trouble {
        condition: error.condition(),
        is_refusal: true,
        outlook: error.retry().outlook(),
        reason: error.reason(),
        text: steady(&error.to_string()),
    });
    let hindrances = validated.hindrances.iter().map(|one: &Hindrance| Trouble {
        condition: if one.is_refusal() {
            types::ACCEPTED
        } else {
            types::REGISTERED
        },
        is_refusal: one.is_refusal(),
        outlook: if one.is_refusal() {
            Outlook::Stalls
        } else {
            Outlook::Passes
        },
        reason: one.reason(),
        text: one.to_string(),
    });
    errors.chain(hindrances).collect()
}

/// All that is in the way of one condition: the first gives the reason, the message has each.
fn judged(type_: &'static str, troubles: &[Trouble]) -> Option<Judgement> {
    let mut of_type: Vec<&Trouble> = troubles.iter().filter(|one| one.condition == type_).collect();
    of_type.sort_by_key(|one| !one.is_refusal);
    let first = of_type.first()?;
    let status = if first.is_refusal {
        Status::False
    } else {
        Status::Unknown
    };
    let texts: Vec<&str> = of_type.iter().take(SHOWN).map(|one| one.text.as_str()).collect();
    let mut text = texts.join("; ");
    if let Some(more @ 1..) = of_type.len().checked_sub(SHOWN) {
        text = format!("{text}; and {more} more");
    }
    Some(Judgement::new(type_, status, first.reason, text).that(first.outlook))
}

fn accepted(access: &McpAccess, validated: &Validated, troubles: &[Trouble]) -> Judgement {
    if let Some(judgement) = judged(types::ACCEPTED, troubles) {
        return judgement;
    }
    let message = match validated.silent {
        0 => "no server refuses".to_owned(),
        silent => format!(
            "of the servers that spec.selector selects {silent} do not consent and are left out: their owners add {} to \
             spec.gateway.access.namespaces",
            access.namespace().unwrap_or_default()
        ),
    };
    Judgement::yes(types::ACCEPTED, reasons::ACCEPTED, message)
}

fn registration(granted: Option<&Granted>, troubles: &[Trouble], previous: &[Condition]) -> Judgement {
    let judgement = judged(types::REGISTERED, troubles);
    // An error is worse than what is told of the rest; what is only waited for is not.
    if let Some(judgement) = judgement.as_ref().filter(|one| one.status == Status::False) {
        return judgement.clone();
    }
    match granted {
        Some(granted) if granted.subscription_state != "active" => {
            let message = format!(
                "the subscription is {} in API Management: an administrator there has to activate it",
                granted.subscription_state
            );
            Judgement::no(types::REGISTERED, "SubscriptionNotActive", message).that(Outlook::Stalls)
        }
        Some(granted) if !granted.missing.is_empty() => {
            let message = format!("not in API Management (yet): {}", granted.missing.join(", "));
            Judgement::no(types::REGISTERED, "ApiMissing", message)
        }
        Some(_) => judgement.unwrap_or_else(|| {
            Judgement::yes(
                types::REGISTERED,
                reasons::REGISTERED,
                "product, links and subscription are there",
            )
        }),
        None => judgement.unwrap_or_else(|| match troubles.first() {
            Some(first) => Judgement::unknown(
                types::REGISTERED,
                first.reason,
                "nothing is given before what Accepted says is out of the way",
            ),
            None => Judgement::kept(types::REGISTERED, previous),
        }),
    }
}

/// The summary, with the message of each part that is not True: one does not hide the other.
fn ready(access: &McpAccess, parts: &[Judgement], generation: i64) -> Judgement {
    let mut ready = condition::summarize(parts, generation);
    if ready.status == Status::True {
        ready.message = format!("Secret {} has the key", secret_name(access));
        return ready;
    }
    let others = parts
        .iter()
        .filter(|part| part.status != Status::True && part.reason != ready.reason);
    let others: Vec<String> = others
        .map(|part| format!("{}: {}", part.type_, part.message))
        .collect();
    for other in others {
        ready.message = format!("{}; {other}", ready.message);
    }
    ready
}

/// The status of an access that is being deleted, and cannot go yet.
pub(super) fn deleting(access: &McpAccess, error: &AccessError, now: Timestamp) -> McpAccessStatus {
    let previous = access.status.clone().unwrap_or_default();
    let generation = access.metadata.generation.unwrap_or_default();
    let message = format!("deletion waits: {}", steady(&error.to_string()));
    let kept = |type_| Judgement::kept(type_, &previous.conditions);
    let judgements = condition::conclude(
        vec![kept(types::ACCEPTED), kept(types::REGISTERED)],
        Judgement::no(types::READY, reasons::DELETING, message).that(error.retry().outlook()),
    );
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
        server_count,
        secret_name,
        key,
    } = left;
    condition::same(conditions, &right.conditions)
        && *observed_generation == right.observed_generation
        && *gateway == right.gateway
        && *servers == right.servers
        && *server_count == right.server_count
        && *secret_name == right.secret_name
        && *key == right.key
}
