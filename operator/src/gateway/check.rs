//! Step `check`: asks the service. In: its client, and what the last check found; out: [`Check`], fresh or remembered.

use std::time::{Duration, Instant};

use kube::ResourceExt as _;
use mcp_fleet_crds::McpGateway;

use super::Controller;
use crate::apim::{ServiceFacts, service};
use crate::arm_clients::GatewayClients;
use crate::backoff::{Retry, spread};
use crate::steady::steady;

/// How often the service is read, give or take a quarter.
const POLL: Duration = Duration::from_mins(5);

/// What the service said, or why it did not.
#[derive(Clone, Debug)]
pub(super) struct Check {
    /// Of the spec that was used.
    pub generation: Option<i64>,
    pub result: Result<ServiceFacts, Trouble>,
    /// Nothing is asked again before.
    pub valid_until: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub reason: &'static str,
    pub message: String,
}

pub(super) async fn check(gateway: &McpGateway, controller: &Controller, clients: &GatewayClients) -> Check {
    let name = gateway.name_any();
    let generation = gateway.metadata.generation;
    if let Some(last) = controller.remembered(&name)
        && last.generation == generation
        && Instant::now() < last.valid_until
    {
        return last;
    }
    let key = (None, name.clone());
    let backoff = &controller.state.backoff;
    let (result, pause) = match service(&clients.arm).await {
        Ok(facts) => {
            backoff.forget(&key);
            (Ok(facts), spread(POLL, rand::random()))
        }
        Err(error) => {
            tracing::warn!(%error, "the API Management service could not be read");
            let trouble = Trouble {
                reason: error.reason(),
                message: steady(&error.to_string()),
            };
            // A service may come back whatever its last answer was.
            let pause = backoff.failed(key, Retry::from(error.retry()), rand::random());
            (Err(trouble), pause.unwrap_or(POLL))
        }
    };
    let check = Check {
        generation,
        result,
        valid_until: Instant::now() + pause,
    };
    controller.remember(&name, check.clone());
    check
}
