//! What passes share. In: what `run` made at the start; out: [`Context`], handed to every pass, and
//! [`ControllerState`], one per controller.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{EnvVar, Secret, Service};
use kube::api::PartialObjectMeta;
use mcp_fleet_crds::{McpAccess, McpGateway, McpServer};

use crate::args::ServerAccess;
use crate::azure::clients::ArmClients;
use crate::azure::probe_key::ProbeKeys;
use crate::kube_write::Writer;
use crate::runtime::autoscalers::Autoscalers;
use crate::runtime::backoff::Backoff;
use crate::runtime::cache::Cache;
use crate::runtime::configs::Configs;
use crate::runtime::events::Events;
use crate::server::lanes::Lanes;

/// Settings of the process that passes read.
#[derive(Clone, Debug)]
pub struct Settings {
    pub weather_image: String,
    pub weather_image_pull_policy: String,
    /// Environment of that image, before a server's own.
    pub weather_env: Vec<EnvVar>,
    /// The operator's own namespace.
    pub namespace: String,
    pub drift: Duration,
    pub server_access: ServerAccess,
    /// The longest a pass may take before its status is written.
    pub pass_limit: Duration,
    /// How long a pass waits for the caches to show what it has written.
    pub catch_up: Duration,
}

/// Caches of all kinds that passes read.
#[derive(Clone, Debug)]
pub struct Caches {
    pub servers: Cache<McpServer>,
    pub gateways: Cache<McpGateway>,
    pub accesses: Cache<McpAccess>,
    /// Only those with our label, like the two below.
    pub deployments: Cache<Deployment>,
    pub services: Cache<Service>,
    /// Without their content.
    pub secrets: Cache<PartialObjectMeta<Secret>>,
}

/// Shared by all controllers.
#[derive(Clone, Debug)]
pub struct Context {
    pub writer: Writer,
    pub caches: Caches,
    pub settings: Settings,
    pub probe_keys: ProbeKeys,
    /// Who else scales Deployments.
    pub autoscalers: Autoscalers,
    /// What ConfigMaps and Secrets hold that servers refer to.
    pub configs: Configs,
    pub arm: Arc<ArmClients>,
    /// For calls to servers of this cluster.
    pub server_http: reqwest::Client,
    /// Where the lanes of servers meet.
    pub lanes: Arc<Lanes>,
}

/// Namespace, if the kind has one, and name.
pub type Key = (Option<String>, String);

/// Shared by the passes of one controller.
#[derive(Debug)]
pub struct ControllerState {
    pub kind: &'static str,
    pub events: Events,
    pub backoff: Backoff<Key>,
}

impl ControllerState {
    pub fn new(kind: &'static str, events: Events) -> Self {
        Self {
            kind,
            events,
            backoff: Backoff::default(),
        }
    }
}
