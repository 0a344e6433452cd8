//! Step `validate`: can the settings be used at all? In: the object and what was loaded; out: [`Accepted`], with the
//! clients if they can. Nothing is asked over the network.

use mcp_fleet_crds::{DEFAULT_GATEWAY_ANNOTATION, McpGateway};

use super::default::is_default;
use super::load::Loaded;
use crate::azure::clients::{ArmClients, GatewayClients};
use crate::condition::{Judgement, Outlook, reasons, types};

/// Reason of both of two gateways that are marked as default.
pub const TWO_DEFAULTS: &str = "TwoDefaults";

/// The judgement and, unless the settings are useless, the clients. Two defaults are no reason to stop looking after
/// servers that name one of them.
#[derive(Debug)]
pub(super) struct Accepted {
    pub judgement: Judgement,
    pub clients: Option<GatewayClients>,
}

pub(super) fn validate(gateway: &McpGateway, loaded: &Loaded, arm: &ArmClients) -> Accepted {
    let clients = match arm.get(gateway) {
        Ok(clients) => clients,
        Err(error) => {
            let judgement =
                Judgement::no(types::ACCEPTED, error.reason(), error.to_string()).that(Outlook::Stalls);
            return Accepted {
                judgement,
                clients: None,
            };
        }
    };
    Accepted {
        judgement: defaults(gateway, &loaded.other_defaults),
        clients: Some(clients),
    }
}

fn defaults(gateway: &McpGateway, others: &[String]) -> Judgement {
    if !is_default(gateway) {
        return Judgement::yes(types::ACCEPTED, reasons::ACCEPTED, "for servers that name it");
    }
    if others.is_empty() {
        return Judgement::yes(
            types::ACCEPTED,
            reasons::ACCEPTED,
            "for servers that name it or none",
        );
    }
    let message = format!(
        "{} marked as default too: leave the annotation {DEFAULT_GATEWAY_ANNOTATION} on one gateway only; servers that \
         name no gateway wait",
        match others {
            [one] => format!("{one} is"),
            many => format!("{} are", many.join(", ")),
        }
    );
    Judgement::no(types::ACCEPTED, TWO_DEFAULTS, message).that(Outlook::Stalls)
}
