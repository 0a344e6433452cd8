//! The watches of the process: one per kind, for all controllers. In: a client; out: [`Caches`] that fill, and what
//! /metrics says about the objects in them.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::PartialObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt as _};
use mcp_fleet_crds::{McpAccess, McpGateway, McpServer};

use crate::constants::{kinds, labels};
use crate::runtime::cache::{Cache, Cached, Feeder, cache};
use crate::runtime::context::Caches;
use crate::runtime::http::Readiness;
use crate::runtime::metrics::ConditionLabels;
use crate::runtime::vital;

/// What fills the caches: start it once.
#[derive(Debug)]
pub struct Feeders {
    servers: Feeder<McpServer>,
    gateways: Feeder<McpGateway>,
    accesses: Feeder<McpAccess>,
    deployments: Feeder<Deployment>,
    services: Feeder<Service>,
    secrets: Feeder<PartialObjectMeta<Secret>>,
}

/// Empty caches and their feeders.
pub fn caches() -> (Caches, Feeders) {
    let (servers, server_feeder) = cache();
    let (gateways, gateway_feeder) = cache();
    let (accesses, access_feeder) = cache();
    let (deployments, deployment_feeder) = cache();
    let (services, service_feeder) = cache();
    let (secrets, secret_feeder) = cache();
    let caches = Caches {
        servers,
        gateways,
        accesses,
        deployments,
        services,
        secrets,
    };
    let feeders = Feeders {
        servers: server_feeder,
        gateways: gateway_feeder,
        accesses: access_feeder,
        deployments: deployment_feeder,
        services: service_feeder,
        secrets: secret_feeder,
    };
    (caches, feeders)
}

impl Feeders {
    /// Starts the watches, and tells `readiness` when the caches are filled.
    pub fn start(self, client: &Client, caches: &Caches, readiness: &Readiness) {
        let own = watcher::Config::default();
        let children =
            watcher::Config::default().labels(&format!("{}={}", labels::MANAGED_BY, labels::OPERATOR));
        vital::spawn(
            "watch of servers",
            self.servers.run_guarded(Api::all(client.clone()), own.clone()),
        );
        vital::spawn(
            "watch of gateways",
            self.gateways.run_guarded(Api::all(client.clone()), own.clone()),
        );
        vital::spawn(
            "watch of accesses",
            self.accesses.run_guarded(Api::all(client.clone()), own),
        );
        vital::spawn(
            "watch of deployments",
            self.deployments.run(Api::all(client.clone()), children.clone()),
        );
        vital::spawn(
            "watch of services",
            self.services.run(Api::all(client.clone()), children.clone()),
        );
        vital::spawn(
            "watch of secrets",
            self.secrets.run(Api::all(client.clone()), children),
        );
        let Caches {
            servers,
            gateways,
            accesses,
            deployments,
            services,
            secrets,
        } = caches;
        await_cache(servers, "cache of McpServer", readiness);
        await_cache(gateways, "cache of McpGateway", readiness);
        await_cache(accesses, "cache of McpAccess", readiness);
        await_cache(deployments, "cache of Deployment", readiness);
        await_cache(services, "cache of Service", readiness);
        await_cache(secrets, "cache of Secret", readiness);
    }
}

/// Waits until every cache holds all that there is. A pass that begins before takes what it does not see for absent: a
/// gateway for gone, a child for one to be made.
pub async fn filled(caches: &Caches) {
    let Caches {
        servers,
        gateways,
        accesses,
        deployments,
        services,
        secrets,
    } = caches;
    tokio::join!(
        servers.ready(),
        gateways.ready(),
        accesses.ready(),
        deployments.ready(),
        services.ready(),
        secrets.ready(),
    );
}

fn await_cache<K: Cached>(cache: &Cache<K>, what: &'static str, readiness: &Readiness) {
    readiness.await_(what);
    let (cache, readiness) = (cache.clone(), readiness.clone());
    tokio::spawn(async move {
        if cache.ready().await {
            readiness.arrived(what);
        }
    });
}

/// Number of objects by what their conditions say.
pub fn count_conditions(caches: &Caches) -> BTreeMap<ConditionLabels, i64> {
    let mut counts = BTreeMap::new();
    count(&mut counts, kinds::SERVER, &caches.servers, |server| {
        server.status.as_ref().map(|status| &status.conditions[..])
    });
    count(&mut counts, kinds::GATEWAY, &caches.gateways, |gateway| {
        gateway.status.as_ref().map(|status| &status.conditions[..])
    });
    count(&mut counts, kinds::ACCESS, &caches.accesses, |access| {
        access.status.as_ref().map(|status| &status.conditions[..])
    });
    counts
}

fn count<K: Cached>(
    counts: &mut BTreeMap<ConditionLabels, i64>,
    kind: &'static str,
    cache: &Cache<K>,
    conditions: impl Fn(&K) -> Option<&[Condition]>,
) {
    for object in cache.list() {
        for condition in conditions(&object).unwrap_or_default() {
            let labels = ConditionLabels {
                kind,
                namespace: object.namespace().unwrap_or_default(),
                r#type: condition.type_.clone(),
                status: condition.status.clone(),
                reason: condition.reason.clone(),
            };
            *counts.entry(labels).or_insert(0) += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn caches_are_filled_when_the_last_of_them_is() {
        let (caches, feeders) = caches();
        let Feeders {
            servers,
            gateways,
            accesses,
            deployments,
            services,
            secrets,
        } = feeders;
        // Kept: a cache whose feeder is gone waits for nothing.
        let _all_but_one = (
            servers.fill([]),
            accesses.fill([]),
            deployments.fill([]),
            services.fill([]),
            secrets.fill([]),
        );
        assert!(filled(&caches).now_or_never().is_none());
        let _last = gateways.fill([]);
        assert!(filled(&caches).now_or_never().is_some());
    }
}
