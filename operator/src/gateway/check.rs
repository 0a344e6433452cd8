//! Step `check`: asks the service, and brings the probe's subscription in line there. In: its client, and what the last
//! check found; out: [`Check`], fresh or remembered.

use std::time::{Duration, Instant};

use kube::ResourceExt as _;
use mcp_fleet_crds::McpGateway;

use super::Controller;
use super::load::Loaded;
use super::probe::{self, Probe};
use super::secret::{self, Plan, Wanted};
use crate::azure::apim::{ServiceFacts, body_logging, service};
use crate::azure::clients::GatewayClients;
use crate::condition::{Judgement, Outlook};
use crate::runtime::backoff::{Retry, spread};
use crate::steady::steady;

/// How often the service is read, give or take a quarter.
const POLL: Duration = Duration::from_mins(5);

/// What the service said, or why it did not.
#[derive(Clone, Debug)]
pub(super) struct Check {
    /// Of the spec that was used.
    pub generation: Option<i64>,
    pub result: Result<ServiceFacts, Trouble>,
    pub probe: Result<Probe, Trouble>,
    /// Number of the secret that the service has.
    pub secret: Result<Option<i64>, Trouble>,
    /// What was wanted of it.
    pub wanted: Wanted,
    /// Diagnostics that log bodies of answers, which breaks streams.
    pub body_logging: Vec<String>,
    /// The probe's key was written, or that was tried: the gateway takes seconds to know it.
    pub renewed: bool,
    /// Nothing is asked again before.
    pub valid_until: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub reason: &'static str,
    pub message: String,
    /// Whether it passes by itself.
    pub outlook: Outlook,
}

impl Trouble {
    fn new(reason: &'static str, retry: Retry, error: &impl std::error::Error) -> Self {
        Self {
            reason,
            message: steady(&error.to_string()),
            outlook: retry.outlook(),
        }
    }

    pub(super) fn judgement(&self, type_: &'static str) -> Judgement {
        Judgement::no(type_, self.reason, self.message.clone()).that(self.outlook)
    }
}

pub(super) async fn check(
    gateway: &McpGateway,
    controller: &Controller,
    clients: &GatewayClients,
    loaded: &Loaded,
    plan: &Plan,
) -> Check {
    let name = gateway.name_any();
    let generation = gateway.metadata.generation;
    if let Some(last) = controller.remembered(&name)
        && last.generation == generation
        && Instant::now() < last.valid_until
        // A refused key is written again at once, but once only until the next check.
        && (last.renewed || !loaded.probe_key_refused)
        && (last.wanted == plan.wanted || matches!(last.secret, Ok(number) if plan.is_met_by(number)))
    {
        return last;
    }
    let service = service(&clients.arm).await;
    let probe = match &service {
        Ok(_) => probe::bring_in_line(gateway, controller, clients, loaded.probe_key_refused).await,
        Err(_) => Ok(Probe::Unknown),
    };
    let secret = match &service {
        Ok(_) => secret::bring_in_line(gateway, controller, clients, plan.wanted).await,
        Err(_) => Ok(None),
    };
    let body_logging = match &service {
        Ok(_) => logging(controller, &name, clients).await,
        Err(_) => vec![],
    };
    let written = matches!(probe, Ok(Probe::Registered { written: true }));
    // A service may come back whatever its last answer was.
    let service_retry = service.as_ref().err().map(|error| Retry::from(error.retry()));
    let retry = service_retry
        .or(probe.as_ref().err().map(probe::ProbeError::retry))
        .or(secret.as_ref().err().map(probe::ProbeError::retry));
    let check = Check {
        generation,
        result: service.map_err(|error| {
            tracing::warn!(%error, "the API Management service could not be read");
            Trouble::new(error.reason(), error.retry().into(), &error)
        }),
        probe: probe.map_err(|error| {
            tracing::warn!(%error, "the probe's subscription is not as it should be");
            Trouble::new(error.reason(), error.retry(), &error)
        }),
        secret: secret.map_err(|error| {
            tracing::warn!(%error, "the gateway's secret is not as it should be");
            Trouble::new(error.reason(), error.retry(), &error)
        }),
        wanted: plan.wanted,
        body_logging,
        renewed: loaded.probe_key_refused || written,
        valid_until: Instant::now() + pause(&name, controller, retry),
    };
    controller.remember(&name, check.clone());
    check
}

/// A hint and no more: without an answer the last one stands.
async fn logging(controller: &Controller, name: &str, clients: &GatewayClients) -> Vec<String> {
    match body_logging(&clients.arm).await {
        Ok(logging) => logging,
        Err(error) => {
            tracing::debug!(%error, "the diagnostics of the service could not be read");
            let last = controller.remembered(name);
            last.map(|last| last.body_logging).unwrap_or_default()
        }
    }
}

fn pause(name: &str, controller: &Controller, retry: Option<Retry>) -> Duration {
    let key = (None, name.to_owned());
    let backoff = &controller.state.backoff;
    let Some(retry) = retry else {
        backoff.forget(&key);
        return spread(POLL, rand::random());
    };
    backoff.failed(key, retry, rand::random()).unwrap_or(POLL)
}
