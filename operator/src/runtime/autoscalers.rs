//! Who scales what: HorizontalPodAutoscalers and KEDA's ScaledObjects of the cluster, of which only the targets are kept. In:
//! their watches; out: whether a Deployment is scaled by somebody else, and news of those for which that changes.
//!
//! By the autoscaler's own object and not by traces in the Deployment: a trace outlives the autoscaler, and then
//! `spec.replicas` would never hold again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::{Stream, StreamExt as _};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use mcp_fleet_crds::McpServer;
use serde_json::Value;

/// How often it is asked whether a definition is there that was not.
const ABSENT: Duration = Duration::from_mins(1);

/// A kind that scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scaler {
    HorizontalPodAutoscaler,
    /// KEDA makes an autoscaler for each, and takes it away while a ScaledObject is paused.
    ScaledObject,
}

impl Scaler {
    fn resource(self) -> ApiResource {
        let (group, version, kind) = match self {
            Self::HorizontalPodAutoscaler => ("autoscaling", "v2", "HorizontalPodAutoscaler"),
            Self::ScaledObject => ("keda.sh", "v1alpha1", "ScaledObject"),
        };
        ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
    }
}

/// Namespace and name.
type Place = (String, String);

/// Which Deployments are scaled by somebody else.
#[derive(Clone, Debug, Default)]
pub struct Autoscalers {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The Deployment that each scales.
    targets: HashMap<(Scaler, Place), Place>,
    /// Those that a list under way has shown.
    listed: HashSet<(Scaler, Place)>,
    subscribers: Vec<UnboundedSender<ObjectRef<McpServer>>>,
}

impl Autoscalers {
    /// Whether somebody scales the Deployment of this name.
    pub fn scales(&self, namespace: &str, deployment: &str) -> bool {
        let state = self.lock();
        let mut targets = state.targets.values();
        targets.any(|(place, name)| place == namespace && name == deployment)
    }

    /// Servers by whose Deployments' names an autoscaler came or went. Not all of them exist.
    pub fn subscribe(&self) -> impl Stream<Item = ObjectRef<McpServer>> + Send + 'static {
        let (sender, receiver) = unbounded();
        self.lock().subscribers.push(sender);
        receiver
    }

    /// Watches for ever; a kind that is not installed is asked for from time to time.
    pub fn watch(&self, client: &Client) {
        for scaler in [Scaler::HorizontalPodAutoscaler, Scaler::ScaledObject] {
            let api = Api::<DynamicObject>::all_with(client.clone(), &scaler.resource());
            tokio::spawn(self.clone().feed(scaler, api));
        }
    }

    async fn feed(self, scaler: Scaler, api: Api<DynamicObject>) {
        loop {
            if let Err(error) = api.list(&ListParams::default().limit(1)).await
                && is_absent(&error)
            {
                tokio::time::sleep(ABSENT).await;
                continue;
            }
            let mut events =
                std::pin::pin!(watcher(api.clone(), watcher::Config::default()).default_backoff());
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => self.take(scaler, event),
                    Err(watcher::Error::InitialListFailed(error)) if is_absent(&error) => {
                        self.take(scaler, watcher::Event::Init);
                        self.take(scaler, watcher::Event::InitDone);
                        break;
                    }
                    Err(error) => tracing::warn!(?scaler, %error, "failed to watch"),
                }
            }
        }
    }

    /// One event of the watch.
    pub fn take(&self, scaler: Scaler, event: watcher::Event<DynamicObject>) {
        let mut state = self.lock();
        match event {
            watcher::Event::Init => state.listed.retain(|(kind, _)| *kind != scaler),
            watcher::Event::InitApply(object) => {
                let key = (scaler, place(&object));
                state.listed.insert(key.clone());
                state.set(key, target(&object));
            }
            watcher::Event::InitDone => {
                let unseen = |key: &&(Scaler, Place)| key.0 == scaler && !state.listed.contains(*key);
                let gone: Vec<_> = state.targets.keys().filter(unseen).cloned().collect();
                for key in gone {
                    state.set(key, None);
                }
            }
            watcher::Event::Apply(object) => state.set((scaler, place(&object)), target(&object)),
            watcher::Event::Delete(object) => state.set((scaler, place(&object)), None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn set(&mut self, scaler: (Scaler, Place), target: Option<Place>) {
        let before = match &target {
            Some(target) => self.targets.insert(scaler, target.clone()),
            None => self.targets.remove(&scaler),
        };
        if before == target {
            return;
        }
        for (namespace, name) in before.into_iter().chain(target) {
            let server = ObjectRef::<McpServer>::new(&name).within(&namespace);
            self.subscribers
                .retain(|subscriber| subscriber.unbounded_send(server.clone()).is_ok());
        }
    }
}

fn is_absent(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

fn place(object: &DynamicObject) -> Place {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// The Deployment that an autoscaler names. KEDA leaves out what is usual.
fn target(object: &DynamicObject) -> Option<Place> {
    let target = &object.data["spec"]["scaleTargetRef"];
    let text = |member: &str, usual| target.get(member).map_or(Some(usual), Value::as_str);
    let is_deployment =
        text("kind", "Deployment")? == "Deployment" && text("apiVersion", "apps/v1")?.starts_with("apps/");
    let name = target["name"].as_str()?;
    is_deployment.then(|| (object.namespace().unwrap_or_default(), name.to_owned()))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use serde_json::json;

    use super::*;

    fn scaler(name: &str, target: &Value) -> DynamicObject {
        serde_json::from_value(
            json!({"metadata": {"name": name, "namespace": "tools"}, "spec": {"scaleTargetRef": target}}),
        )
        .unwrap()
    }

    #[test]
    fn deployments_are_told_from_other_targets() {
        let table = [
            (
                json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "weather"}),
                true,
            ),
            (json!({"name": "weather"}), true),
            (
                json!({"apiVersion": "mcpfleet.dev/v1alpha1", "kind": "McpServer", "name": "weather"}),
                false,
            ),
            (
                json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "weather"}),
                false,
            ),
            (
                json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "other"}),
                false,
            ),
        ];
        for (target, expected) in table {
            let autoscalers = Autoscalers::default();
            autoscalers.take(Scaler::ScaledObject, watcher::Event::Apply(scaler("a", &target)));
            assert_eq!(autoscalers.scales("tools", "weather"), expected, "{target}");
            assert!(!autoscalers.scales("elsewhere", "weather"));
        }
    }

    #[test]
    fn news_comes_when_one_comes_goes_or_looks_elsewhere_and_not_otherwise() {
        let autoscalers = Autoscalers::default();
        let mut news = Box::pin(autoscalers.subscribe());
        let mut told = || {
            let mut names = vec![];
            while let Some(Some(server)) = news.next().now_or_never() {
                names.push(server.name);
            }
            names
        };
        let kind = Scaler::HorizontalPodAutoscaler;
        let (weather, other) = (json!({"name": "weather"}), json!({"name": "other"}));
        autoscalers.take(kind, watcher::Event::Apply(scaler("a", &weather)));
        assert_eq!(told(), ["weather"]);
        autoscalers.take(kind, watcher::Event::Apply(scaler("a", &weather)));
        assert!(told().is_empty(), "its status is no news");
        autoscalers.take(kind, watcher::Event::Apply(scaler("a", &other)));
        assert_eq!(told(), ["weather", "other"]);
        // Gone while nobody watched, and one of the other kind stays.
        autoscalers.take(Scaler::ScaledObject, watcher::Event::Apply(scaler("b", &weather)));
        told();
        autoscalers.take(kind, watcher::Event::Init);
        autoscalers.take(kind, watcher::Event::InitDone);
        assert_eq!(told(), ["other"]);
        assert!(autoscalers.scales("tools", "weather"));
        autoscalers.take(
            Scaler::ScaledObject,
            watcher::Event::Delete(scaler("b", &weather)),
        );
        assert!(!autoscalers.scales("tools", "weather"));
    }
}
