//! Wires the process: telemetry, client, caches, lease, controllers, and their end in order. In: [`Args`]; out: a
//! future that ends with SIGTERM or SIGINT, or with the reason why the process cannot go on.
//!
//! # RBAC
//! Cluster-wide, exactly what all controllers use:
//!
//! | API group | resources | verbs |
//! |---|---|---|
//! | mcpfleet.dev | mcpservers, mcpgateways, mcpaccesses | get, list, watch, patch |
//! | mcpfleet.dev | mcpservers/status, mcpgateways/status, mcpaccesses/status | patch |
//! | mcpfleet.dev | mcpservers/finalizers, mcpaccesses/finalizers | update |
//! | apps | deployments | get, list, watch, create, patch |
//! | (core) | services | get, list, watch, create, patch, delete |
//! | (core) | secrets | get, list, watch, create, patch, delete |
//! | (core) | configmaps | get, list, watch |
//! | (core) | persistentvolumeclaims | get |
//! | (core) | pods | list |
//! | autoscaling | horizontalpodautoscalers | list, watch |
//! | keda.sh | scaledobjects | list, watch |
//! | monitoring.coreos.com | servicemonitors | get, list, create, patch, delete |
//! | events.k8s.io | events | create, patch |
//!
//! `create` goes with `patch` because server-side apply of an absent object asks for both. `finalizers: update` is
//! asked for by clusters that enforce it for owner references that block deletion (`OwnerReferencesPermissionEnforcement`).
//! `delete` on services: that with further ports, when there are none any more. `list, watch` on secrets and configmaps: without
//! their content, and of those that no server refers to nothing is kept. `delete` on secrets: the key of replicas that are no more, and the Secret of an access that changed its name.
//!
//! In `kube-system`, or the namespace that is set for it: leases of coordination.k8s.io with get, create, patch. The Secret
//! `mcp-fleet-probe` in the operator's own namespace is covered by secrets above.
//!
//! Only with `SERVER_ACCESS=api-server`, as an operator outside the cluster has it: services/proxy with get, create,
//! delete.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, header};
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, Client, Config, Resource};
use mcp_fleet_crds::{McpAccess, McpGateway, McpServer};
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::args::Args;
use crate::azure::clients::ArmClients;
use crate::azure::environment::{AzureEnvironment, EnvironmentError};
use crate::azure::probe_key::{self, ProbeKeys};
use crate::constants::USER_AGENT;
use crate::kube_write::Writer;
use crate::runtime::autoscalers::Autoscalers;
use crate::runtime::backoff::{Backoff, Retry};
use crate::runtime::configs::Configs;
use crate::runtime::context::{Caches, Context, Settings};
use crate::runtime::definitions;
use crate::runtime::events::Events;
use crate::runtime::http::{Readiness, router};
use crate::runtime::lease::{self, Keeper, LeaseError, LeaseSettings};
use crate::runtime::metrics::Metrics;
use crate::runtime::telemetry::{self, TelemetryError};
use crate::runtime::vital;
use crate::runtime::watches::{caches, count_conditions, filled};
use crate::server::lanes::Lanes;
use crate::{access, gateway, mcp, server};

/// A pass has two minutes; every remote call inside has a limit of its own.
const PASS_LIMIT: Duration = Duration::from_mins(2);
const CATCH_UP: Duration = Duration::from_secs(2);
/// Passes under way get this long to end; Kubernetes kills after 30 s.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(20);
const LIST_LIMIT: Duration = Duration::from_secs(10);

/// The process cannot start, or not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Telemetry(TelemetryError),
    #[error(transparent)]
    Environment(EnvironmentError),
    #[error(
        "failed to find a cluster to work on (KUBECONFIG, ~/.kube/config or the pod's service account): {source}"
    )]
    Config { source: kube::config::InferConfigError },
    #[error("failed to make a client for the cluster: {source}")]
    Client { source: kube::Error },
    #[error("failed to make a client for calls to servers: {source}")]
    ServerClient { source: reqwest::Error },
    #[error("failed to listen on {address}: {source}")]
    Listen {
        address: std::net::SocketAddr,
        source: std::io::Error,
    },
    #[error("failed to listen for signals: {source}")]
    Signals { source: std::io::Error },
    #[error(transparent)]
    Lease(LeaseError),
    #[error("the controllers ended without having been asked to")]
    ControllersEnded,
}

/// Runs the operator.
pub async fn run(args: Args) -> Result<(), RunError> {
    telemetry::install(args.log_format, &args.log_filter).map_err(RunError::Telemetry)?;
    // The only provider in the tree; rustls wants it named. An earlier call, as in tests, has named the same.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let azure = AzureEnvironment::read(&args).map_err(RunError::Environment)?;
    let client = client().await?;
    let instance = instance(&args);
    let (metrics, readiness) = (Metrics::default(), Readiness::default());
    let (caches, feeders) = caches();
    serve(&args, &metrics, &readiness, &caches).await?;
    let mut stop = Box::pin(stop_signal()?);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        instance,
        namespace = args.namespace,
        "starting"
    );

    tokio::select! {
        () = wait_for_kinds(&client, &readiness) => {}
        () = &mut stop => return Ok(()),
    }
    feeders.start(&client, &caches, &readiness);
    readiness.arrived(STARTED);
    tokio::spawn(definitions::watch(client.clone(), metrics.clone()));
    // Before the lease, so that whoever takes it can work at once.
    tokio::select! {
        () = filled(&caches) => {}
        () = &mut stop => return Ok(()),
    }
    let settings = LeaseSettings {
        namespace: args.lease_namespace.clone(),
        identity: format!("{}/{instance}", args.namespace),
        release: format!("{}/{}", args.namespace, args.release),
        seconds: args.lease_seconds,
    };
    let (lease, mut keeper) = tokio::select! {
        acquired = lease::acquire(client.clone(), settings, &readiness) => acquired.map_err(RunError::Lease)?,
        () = &mut stop => return Ok(()),
    };
    let shutdown = CancellationToken::new();
    let mut controllers = {
        let writer = Writer {
            client: client.clone(),
            lease,
            metrics: metrics.clone(),
        };
        let probe_keys = tokio::select! {
            keys = probe_keys(&writer, &args.namespace) => keys,
            error = keeper.keep() => return Err(RunError::Lease(error)),
            () = &mut stop => {
                keeper.release().await;
                return Ok(());
            }
        };
        let context = context(&args, writer, caches, azure, probe_keys)?;
        start_controllers(context, &client, &instance, args.concurrency, &shutdown)
    };
    let result = tokio::select! {
        error = keeper.keep() => return Err(RunError::Lease(error)),
        _ = controllers.join_next() => Err(RunError::ControllersEnded),
        () = &mut stop => Ok(()),
    };
    end(shutdown, controllers, keeper).await;
    result
}

async fn client() -> Result<Client, RunError> {
    let mut config = Config::infer()
        .await
        .map_err(|source| RunError::Config { source })?;
    // Hidden retries would multiply with our own backoff, and outlast every limit.
    config.default_retry = false;
    introduce(&mut config);
    Client::try_from(config).map_err(|source| RunError::Client { source })
}

/// Says who calls: kube has no name of its own.
fn introduce(config: &mut Config) {
    let name = HeaderValue::from_static(USER_AGENT);
    config.headers.push((header::USER_AGENT, name));
}

fn instance(args: &Args) -> String {
    args.instance
        .clone()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            let host = if host.trim().is_empty() {
                "operator"
            } else {
                host.trim()
            };
            format!("{host}-{:08x}", rand::random::<u32>())
        })
}

/// Awaited from the beginning, so that the process is not ready before it knows what it waits for.
const STARTED: &str = "start of the watches";

async fn serve(
    args: &Args,
    metrics: &Metrics,
    readiness: &Readiness,
    caches: &Caches,
) -> Result<(), RunError> {
    readiness.await_(STARTED);
    let caches = caches.clone();
    let refresh = Arc::new(move |metrics: &Metrics| metrics.set_conditions(count_conditions(&caches)));
    let address = args.http_address;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| RunError::Listen { address, source })?;
    let app = router(metrics.clone(), readiness.clone(), refresh);
    vital::spawn("HTTP endpoints", async move {
        if let Err(error) = axum::serve(listener, app).await {
            tracing::error!(%error, "the HTTP endpoints ended");
        }
    });
    Ok(())
}

/// Waits until our kinds can be listed: the charts may be installed in any order.
async fn wait_for_kinds(client: &Client, readiness: &Readiness) {
    tokio::join!(
        wait_for_kind::<McpServer>(client, readiness),
        wait_for_kind::<McpGateway>(client, readiness),
        wait_for_kind::<McpAccess>(client, readiness),
    );
}

async fn wait_for_kind<K>(client: &Client, readiness: &Readiness)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let kind = K::kind(&()).into_owned();
    let what = format!("definition of {kind}");
    readiness.await_(&what);
    let api = Api::<DeserializeGuard<K>>::all(client.clone());
    loop {
        let parameters = ListParams::default().limit(1);
        match tokio::time::timeout(LIST_LIMIT, api.list(&parameters)).await {
            Ok(Ok(_)) => break,
            Ok(Err(error)) => {
                tracing::warn!(kind, %error, "cannot list: is the chart mcp-fleet-crds installed, and may we?");
            }
            Err(_) => tracing::warn!(kind, "no answer from the API server"),
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    readiness.arrived(&what);
}

/// The master key, tried for until it is there: without it nothing could be registered.
async fn probe_keys(writer: &Writer, namespace: &str) -> ProbeKeys {
    let backoff = Backoff::default();
    loop {
        match probe_key::load(writer, namespace, rand::random()).await {
            Ok(keys) => return keys,
            Err(error) => tracing::error!(%error, "failed to get the master key of the probes"),
        }
        let wait = backoff.failed((), Retry::Fast, rand::random());
        tokio::time::sleep(wait.unwrap_or(Duration::from_secs(1))).await;
    }
}

fn context(
    args: &Args,
    writer: Writer,
    caches: Caches,
    azure: AzureEnvironment,
    probe_keys: ProbeKeys,
) -> Result<Context, RunError> {
    let (autoscalers, configs) = (Autoscalers::default(), Configs::default());
    autoscalers.watch(&writer.client);
    configs.watch(&writer.client);
    let in_pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let server_http = mcp::http_client(vec![], mcp::Role::Server);
    Ok(Context {
        arm: Arc::new(
            ArmClients::new(azure, writer.metrics.clone())
                .looking_every(Duration::from_secs(args.drift_seconds)),
        ),
        lanes: Arc::new(Lanes::new(&writer.metrics, args.concurrency)),
        writer,
        caches,
        settings: Settings {
            weather_image: args.weather_image.clone(),
            weather_image_pull_policy: args.weather_image_pull_policy.clone(),
            weather_env: args.weather_env.0.clone(),
            namespace: args.namespace.clone(),
            drift: Duration::from_secs(args.drift_seconds),
            server_access: args.server_access.resolve(in_pod),
            pass_limit: PASS_LIMIT,
            catch_up: CATCH_UP,
        },
        probe_keys,
        autoscalers,
        configs,
        server_http: server_http.map_err(|source| RunError::ServerClient { source })?,
    })
}

fn start_controllers(
    context: Context,
    client: &Client,
    instance: &str,
    concurrency: u16,
    shutdown: &CancellationToken,
) -> JoinSet<()> {
    let context = Arc::new(context);
    let events = || Events::new(client.clone(), Some(instance.to_owned()));
    let mut controllers = JoinSet::new();
    controllers.spawn(server::run(Arc::clone(&context), events(), shutdown.clone()));
    controllers.spawn(gateway::run(
        Arc::clone(&context),
        events(),
        concurrency,
        shutdown.clone(),
    ));
    controllers.spawn(access::run(context, events(), concurrency, shutdown.clone()));
    controllers
}

/// Ends in order: no new passes, those under way are finished while the lease is kept, then it is given back.
async fn end(shutdown: CancellationToken, controllers: JoinSet<()>, mut keeper: Keeper) {
    tracing::info!("stopping");
    shutdown.cancel();
    tokio::select! {
        _ = controllers.join_all() => {}
        () = tokio::time::sleep(SHUTDOWN_LIMIT) => {
            tracing::warn!("some passes did not end in time; the next process takes them up");
        }
        error = keeper.keep() => tracing::warn!(%error, "while stopping"),
    }
    keeper.release().await;
}

fn stop_signal() -> Result<impl Future<Output = ()>, RunError> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|source| RunError::Signals { source });
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::HeaderMap;

    use super::*;

    #[tokio::test]
    async fn the_api_server_hears_who_calls() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        // As a version, since that is what the client asks for.
        let echo = |headers: HeaderMap| async move {
            let all: Vec<_> = headers.get_all("user-agent").iter().collect();
            let name = all.iter().map(|name| name.to_str().unwrap()).collect::<Vec<_>>();
            let version = serde_json::json!({"major": "1", "minor": "36", "gitVersion": name.join(", "), "gitCommit": "",
                "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": ""});
            axum::Json(version)
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(echo)).await });
        let mut config = Config::new(address.parse().unwrap());
        introduce(&mut config);
        let client = Client::try_from(config).unwrap();
        let version = client.apiserver_version().await.unwrap();
        assert_eq!(version.git_version, USER_AGENT);
        assert!(USER_AGENT.starts_with("mcp-fleet-operator/0."), "{USER_AGENT}");
    }
}
