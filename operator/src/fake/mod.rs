//! A world for tests of drivers: an API server, Azure Resource Manager, and a context between them.

mod apply;
mod arm;
mod cluster;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::api::PartialObjectMeta;
use kube::runtime::watcher;
use mcp_fleet_crds::{McpAccess, McpGateway, McpServer};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub(crate) use arm::Arm;
pub(crate) use cluster::Cluster;

use crate::args::ServerAccess;
use crate::azure::clients::{ArmClients, GatewayClients};
use crate::azure::environment::AzureEnvironment;
use crate::azure::probe_key::ProbeKeys;
use crate::kube_write::Writer;
use crate::mcp;
use crate::runtime::autoscalers::Autoscalers;
use crate::runtime::cache::{Cached, Feeder, cache};
use crate::runtime::configs::Configs;
use crate::runtime::context::{Caches, Context, Settings};
use crate::runtime::events::Events;
use crate::runtime::lease::Lease;
use crate::runtime::metrics::Metrics;
use crate::server::lanes::Lanes;

/// Where the kinds of ours are found.
pub(crate) const GROUP: &str = "/apis/mcpfleet.dev/v1alpha1";

pub(crate) struct World {
    pub cluster: Cluster,
    pub arm: Arm,
    pub context: Arc<Context>,
    servers: Feeder<McpServer>,
    gateways: Feeder<McpGateway>,
    accesses: Feeder<McpAccess>,
    secrets: Feeder<PartialObjectMeta<Secret>>,
    deployments: Feeder<Deployment>,
    services: Feeder<Service>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let cluster = Cluster::default();
        let arm = Arm::start().await;
        let metrics = Metrics::default();
        let (servers, server_feeder) = cache();
        let (gateways, gateway_feeder) = cache();
        let (accesses, access_feeder) = cache();
        let (secrets, secret_feeder) = cache();
        let (deployments, deployment_feeder) = cache();
        let (services, service_feeder) = cache();
        let context = Context {
            writer: Writer {
                client: cluster.client(),
                lease: Lease::always(),
                metrics: metrics.clone(),
            },
            caches: Caches {
                servers,
                gateways,
                accesses,
                deployments,
                services,
                secrets,
            },
            settings: Settings {
                weather_image: "weather".into(),
                weather_image_pull_policy: "IfNotPresent".into(),
                weather_env: vec![],
                namespace: "mcp-fleet-system".into(),
                drift: Duration::from_mins(10),
                server_access: ServerAccess::Direct,
                pass_limit: Duration::from_secs(20),
                catch_up: Duration::ZERO,
            },
            probe_keys: ProbeKeys::new(&[7; 32]),
            autoscalers: Autoscalers::default(),
            configs: Configs::default(),
            lanes: Arc::new(Lanes::new(&metrics, 10)),
            arm: Arc::new(ArmClients::new(AzureEnvironment::default(), metrics)),
            server_http: reqwest::Client::new(),
        };
        Self {
            cluster,
            arm,
            context: Arc::new(context),
            servers: server_feeder,
            gateways: gateway_feeder,
            accesses: access_feeder,
            secrets: secret_feeder,
            deployments: deployment_feeder,
            services: service_feeder,
        }
    }

    pub(crate) fn events(&self) -> Events {
        Events::new(self.cluster.client(), None)
    }

    /// Puts a gateway there whose clients talk to our Arm.
    pub(crate) fn add_gateway(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut object = json!({
            "apiVersion": "mcpfleet.dev/v1alpha1", "kind": "McpGateway",
            "metadata": {"name": name, "uid": format!("uid-{name}"), "generation": 1},
            "spec": {"clusterId": "demo", "apim": {
                "subscriptionId": "00000000-0000-0000-0000-000000000001", "resourceGroup": "g", "serviceName": "contoso",
            }},
        });
        change(&mut object);
        let gateway: McpGateway = serde_json::from_value(object.clone()).unwrap();
        let clients = GatewayClients {
            arm: self.arm.client(),
            probe: mcp::http_client(vec![], mcp::Role::Server).unwrap(),
        };
        self.context.arm.preset(&gateway, clients);
        self.cluster.put(&format!("{GROUP}/mcpgateways/{name}"), object);
    }

    /// The watches: brings the caches up to date.
    pub(crate) fn sync(&mut self) {
        fill(&mut self.servers, self.cluster.list("mcpservers"));
        fill(&mut self.gateways, self.cluster.list("mcpgateways"));
        fill(&mut self.accesses, self.cluster.list("mcpaccesses"));
        fill(&mut self.secrets, self.cluster.list("secrets"));
        fill(&mut self.deployments, self.cluster.list("deployments"));
        fill(&mut self.services, self.cluster.list("services"));
    }
}

fn fill<K: Cached + DeserializeOwned + Debug>(feeder: &mut Feeder<K>, objects: Vec<Value>) {
    feeder.take(watcher::Event::Init);
    for object in objects {
        feeder.take(watcher::Event::InitApply(serde_json::from_value(object).unwrap()));
    }
    feeder.take(watcher::Event::InitDone);
}
