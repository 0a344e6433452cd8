//! What the controllers share: triggers, and a queue of objects to work on that ends in order. In: a cache, streams of
//! triggers and a reconcile function. Out: a future that runs until shutdown.

use std::collections::HashMap;
use std::future::Future;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt as _};
use tokio_util::sync::CancellationToken;

use crate::runtime::cache::{Cache, Cached, Change};
use crate::runtime::context::Key;
use crate::runtime::metrics::Metrics;
use crate::runtime::queue::{Again, Ask, Limits, Priority, Queue, work};

/// Runs a controller with one lane until `shutdown`; passes under way are finished first.
///
/// `reconcile` never fails: it has already written its error into status and chosen when to come back. `gone` hears
/// of objects that no longer exist.
pub async fn run<K, Context, Pass>(
    cache: Cache<K>,
    triggers: impl Stream<Item = ObjectRef<K>> + Send + 'static,
    (metrics, lane, concurrency): (&Metrics, &'static str, u16),
    context: Arc<Context>,
    shutdown: CancellationToken,
    reconcile: impl Fn(Arc<K>, Arc<Context>) -> Pass + Send + Sync + 'static,
    gone: impl Fn(&Key) + Send + Sync + 'static,
) where
    K: Cached,
    Context: Send + Sync + 'static,
    Pass: Future<Output = Again> + Send + 'static,
{
    let queue = Arc::new(Queue::new(
        Limits::total(usize::from(concurrency)),
        metrics.lane(lane),
    ));
    let triggers = triggers.map(|reference| {
        let tenant = reference.namespace.clone().unwrap_or_default();
        let ask = Ask {
            priority: Priority::News,
            section: String::new(),
            tenant,
        };
        ((reference.namespace, reference.name), ask)
    });
    let (reconcile, gone) = (Arc::new(reconcile), Arc::new(gone));
    let job = move |key: Key| {
        let (reconcile, gone, cache) = (Arc::clone(&reconcile), Arc::clone(&gone), cache.clone());
        let context = Arc::clone(&context);
        async move {
            if let Some(object) = cache.get(key.0.as_deref(), &key.1) {
                reconcile(object, context).await
            } else {
                gone(&key);
                Again::WhenAsked
            }
        }
    };
    tokio::join!(
        feed(&queue, triggers, shutdown.clone()),
        work(Arc::clone(&queue), shutdown.clone(), job)
    );
}

/// Hands what asks to a queue, until `shutdown`.
pub async fn feed(
    queue: &Queue<Key>,
    triggers: impl Stream<Item = (Key, Ask)> + Send,
    shutdown: CancellationToken,
) {
    let mut triggers = std::pin::pin!(triggers.take_until(shutdown.cancelled_owned()));
    while let Some((key, ask)) = triggers.next().await {
        queue.add(key, ask);
    }
}

/// Where an object is found.
pub fn key_of<K: Resource>(object: &K) -> Key {
    (object.namespace(), object.name_any())
}

/// Asks for a pass over an object when it comes, goes, or changes in what `fingerprint` covers. What the operator
/// itself writes into status stays out of the fingerprint.
pub fn own_changes<K: Cached, Fingerprint>(
    cache: &Cache<K>,
    fingerprint: impl Fn(&K) -> Fingerprint + Send + 'static,
) -> impl Stream<Item = ObjectRef<K>> + Send + 'static
where
    Fingerprint: PartialEq + Send + 'static,
{
    changed(cache, fingerprint).map(|object| ObjectRef::from_obj(&*object))
}

/// Objects as [`own_changes`] tells of them, for triggers that map one object to others.
pub fn changed<K: Cached, Fingerprint>(
    cache: &Cache<K>,
    fingerprint: impl Fn(&K) -> Fingerprint + Send + 'static,
) -> impl Stream<Item = Arc<K>> + Send + 'static
where
    Fingerprint: PartialEq + Send + 'static,
{
    let mut seen = HashMap::new();
    cache.subscribe().filter_map(move |Change { object, deleted }| {
        let key = (object.namespace(), object.name_any());
        let news = if deleted {
            seen.remove(&key);
            true
        } else {
            let now = fingerprint(&object);
            seen.insert(key, now)
                .is_none_or(|before| seen.get(&(object.namespace(), object.name_any())) != Some(&before))
        };
        std::future::ready(news.then_some(object))
    })
}

/// What matters of one of our objects beside its status: identity, spec, deletion, finalizers and annotations.
pub fn without_status<K: Resource>(object: &K) -> u64 {
    let meta = object.meta();
    let mut hasher = DefaultHasher::new();
    (&meta.uid, meta.generation, &meta.finalizers, &meta.annotations).hash(&mut hasher);
    meta.deletion_timestamp
        .as_ref()
        .map(|time| time.0)
        .hash(&mut hasher);
    hasher.finish()
}

/// Every change of a child asks for a pass over its owner. What is there already does not: owners ask for themselves.
pub fn child_changes<Child: Cached, Owner: Cached>(
    cache: &Cache<Child>,
) -> impl Stream<Item = ObjectRef<Owner>> + Send + 'static {
    cache
        .news()
        .filter_map(|change| async move { owner_of(&*change.object) })
}

/// The controlling owner of a child, when it is of the kind asked for.
pub fn owner_of<Child: Resource, Owner: Resource<DynamicType = ()>>(
    child: &Child,
) -> Option<ObjectRef<Owner>> {
    let owner = child
        .owner_references()
        .iter()
        .find(|reference| reference.controller == Some(true))
        .filter(|reference| {
            reference.kind == Owner::kind(&()) && reference.api_version == Owner::api_version(&())
        })?;
    let mut reference = ObjectRef::new(&owner.name);
    reference.namespace = child.namespace();
    Some(reference)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::runtime::watcher::Event;
    use mcp_fleet_crds::McpServer;
    use serde_json::json;

    use super::*;
    use crate::runtime::cache::cache;

    fn server(generation: i64, status: i64) -> McpServer {
        serde_json::from_value(
            json!({"apiVersion": "mcpfleet.dev/v1alpha1", "kind": "McpServer", "spec": {},
            "metadata": {"name": "weather", "namespace": "tools", "uid": "u", "generation": generation},
            "status": {"observedGeneration": status}}),
        )
        .unwrap()
    }

    #[tokio::test]
    async fn our_own_status_asks_for_no_pass_and_a_deletion_does() {
        let (cache, feeder) = cache::<McpServer>();
        let mut feeder = feeder.fill([]);
        let mut asked = Box::pin(own_changes(&cache, without_status));
        feeder.take(Event::Apply(server(1, 0)));
        feeder.take(Event::Apply(server(1, 1)));
        feeder.take(Event::Apply(server(2, 1)));
        feeder.take(Event::Delete(server(2, 1)));
        // The same object again, after its deletion, is news.
        feeder.take(Event::Apply(server(2, 1)));
        let mut count = 0;
        while let Some(Some(reference)) = futures::FutureExt::now_or_never(asked.next()) {
            assert_eq!(
                (reference.name.as_str(), reference.namespace.as_deref()),
                ("weather", Some("tools"))
            );
            count += 1;
        }
        assert_eq!(count, 4);
    }

    #[test]
    fn only_the_controller_of_a_child_is_its_owner() {
        let child = |kind: &str, controller: bool| -> ConfigMap {
            serde_json::from_value(json!({"metadata": {"name": "c", "namespace": "tools", "ownerReferences": [
                {"apiVersion": "mcpfleet.dev/v1alpha1", "kind": kind, "name": "weather", "uid": "u", "controller": controller}]}}))
            .unwrap()
        };
        let owner = |child: &ConfigMap| owner_of::<_, McpServer>(child).map(|owner| owner.name);
        assert_eq!(owner(&child("McpServer", true)).as_deref(), Some("weather"));
        assert_eq!(owner(&child("McpServer", false)), None);
        assert_eq!(owner(&child("McpAccess", true)), None);
    }
}
