//! Caches: one watch per kind for all controllers. In: a watch; out: a store to read from, and a stream of changed
//! objects for each controller that asks.
//!
//! An object that does not decode is logged and left out, so that one of them cannot stop the watch of all. Managed
//! fields and kubectl's copy of the object are dropped before anything is stored: they are most of its size.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::{Stream, StreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::FieldsV1;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::kube_write::is_of_children;

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What a kind must be to be cached.
pub trait Cached: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static {}
impl<K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static> Cached for K {}

/// An object that came, changed or went.
#[derive(Debug)]
pub struct Change<K> {
    pub object: Arc<K>,
    pub deleted: bool,
}

impl<K> Change<K> {
    /// To this.
    fn to(object: Arc<K>) -> Self {
        Self {
            object,
            deleted: false,
        }
    }

    /// From this, to nothing.
    fn from(object: Arc<K>) -> Self {
        Self {
            object,
            deleted: true,
        }
    }
}

impl<K> Clone for Change<K> {
    fn clone(&self) -> Self {
        Self {
            object: Arc::clone(&self.object),
            deleted: self.deleted,
        }
    }
}

type Subscribers<K> = Arc<Mutex<Vec<UnboundedSender<Change<K>>>>>;

/// The reading side.
pub struct Cache<K: Cached> {
    store: Store<K>,
    subscribers: Subscribers<K>,
    complete: watch::Receiver<bool>,
}

impl<K: Cached> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            subscribers: Arc::clone(&self.subscribers),
            complete: self.complete.clone(),
        }
    }
}

impl<K: Cached> Debug for Cache<K> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Cache of {}", K::kind(&()))
    }
}

/// The writing side: run it once.
pub struct Feeder<K: Cached> {
    writer: Writer<K>,
    subscribers: Subscribers<K>,
    complete: watch::Sender<bool>,
}

impl<K: Cached> Debug for Feeder<K> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Feeder of {}", K::kind(&()))
    }
}

/// An empty cache and its feeder.
pub fn cache<K: Cached>() -> (Cache<K>, Feeder<K>) {
    let (store, writer) = reflector::store();
    let subscribers = Subscribers::default();
    let (complete_sender, complete) = watch::channel(false);
    (
        Cache {
            store,
            subscribers: Arc::clone(&subscribers),
            complete,
        },
        Feeder {
            writer,
            subscribers,
            complete: complete_sender,
        },
    )
}

impl<K: Cached> Cache<K> {
    /// Objects as they come, change and go, beginning with those that are there. Some may be told twice.
    pub fn subscribe(&self) -> impl Stream<Item = Change<K>> + Send + 'static {
        // In this order nothing that happens in between is missed.
        let news = self.news();
        let present = self.store.state().into_iter().map(Change::to);
        futures::stream::iter(present.collect::<Vec<_>>()).chain(news)
    }

    /// Objects as they come, change and go from now on.
    pub fn news(&self) -> impl Stream<Item = Change<K>> + Send + 'static {
        let (sender, receiver): (_, UnboundedReceiver<_>) = unbounded();
        self.subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(sender);
        receiver
    }

    pub fn store(&self) -> &Store<K> {
        &self.store
    }

    /// An object by namespace (None for cluster-scoped kinds) and name.
    pub fn get(&self, namespace: Option<&str>, name: &str) -> Option<Arc<K>> {
        let mut reference = ObjectRef::new(name);
        reference.namespace = namespace.map(ToOwned::to_owned);
        self.store.get(&reference)
    }

    pub fn list(&self) -> Vec<Arc<K>> {
        self.store.state()
    }

    /// Waits until the cache no longer has the version of an object that a write has replaced, so that the next
    /// pass does not judge by what it has itself changed. Gives up after `limit`: the pass is idempotent anyway.
    pub async fn catch_up(
        &self,
        namespace: Option<&str>,
        name: &str,
        replaced: Option<&str>,
        limit: Duration,
    ) {
        let behind = || {
            self.get(namespace, name)
                .and_then(|object| object.resource_version())
                .as_deref()
                == replaced
        };
        let waiting = async {
            while behind() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        // Out of time is not an error.
        let _ = tokio::time::timeout(limit, waiting).await;
    }

    /// Waits until the cache shows an object as `wanted`, or has it no more; gives up after `limit`.
    pub async fn wait_for(
        &self,
        namespace: Option<&str>,
        name: &str,
        wanted: impl Fn(Option<&K>) -> bool,
        limit: Duration,
    ) {
        let waiting = async {
            while !wanted(self.get(namespace, name).as_deref()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let _ = tokio::time::timeout(limit, waiting).await;
    }

    /// Waits for the first complete list; false when the feeder is gone before.
    ///
    /// Not by `Store::wait_until_ready`: it wakes the last of its waiters alone, and each controller waits there.
    pub async fn ready(&self) -> bool {
        self.complete.clone().wait_for(|complete| *complete).await.is_ok()
    }
}

impl<K: Cached + DeserializeOwned> Feeder<K> {
    /// Watches a kind of ours, whose schema may be newer or older than this program.
    pub async fn run_guarded(self, api: Api<DeserializeGuard<K>>, config: watcher::Config) {
        let stream = watcher(api, config).default_backoff();
        self.feed(stream, decoded).await;
    }

    /// Watches a kind of Kubernetes.
    pub async fn run(self, api: Api<K>, config: watcher::Config) {
        let stream = watcher(api, config).default_backoff();
        self.feed(stream, Some).await;
    }
}

impl<K: Cached> Feeder<K> {
    /// Fills the cache from a list, for tests and tools without a watch.
    #[must_use]
    pub fn fill(mut self, objects: impl IntoIterator<Item = K>) -> Self {
        self.take(watcher::Event::Init);
        for object in objects {
            self.take(watcher::Event::InitApply(object));
        }
        self.take(watcher::Event::InitDone);
        self
    }

    async fn feed<G>(
        mut self,
        stream: impl Stream<Item = Result<watcher::Event<G>, watcher::Error>>,
        decode: fn(G) -> Option<K>,
    ) {
        let mut stream = std::pin::pin!(stream);
        while let Some(event) = stream.next().await {
            match event {
                Ok(watcher::Event::Init) => self.take(watcher::Event::Init),
                Ok(watcher::Event::InitDone) => self.take(watcher::Event::InitDone),
                Ok(watcher::Event::InitApply(object)) => {
                    if let Some(object) = decode(object) {
                        self.take(watcher::Event::InitApply(object));
                    }
                }
                Ok(watcher::Event::Apply(object)) => {
                    if let Some(object) = decode(object) {
                        self.take(watcher::Event::Apply(object));
                    }
                }
                Ok(watcher::Event::Delete(object)) => {
                    if let Some(object) = decode(object) {
                        self.take(watcher::Event::Delete(object));
                    }
                }
                // Retried with backoff for ever; a missing permission shows here and nowhere else.
                Err(error) => tracing::warn!(kind = %K::kind(&()), %error, "failed to watch"),
            }
        }
    }

    /// One event of the watch: stored, then told to the subscribers. What a list brings is told when the list is
    /// complete, since nobody sees it before; a watch that broke may have missed deletions, which are told then too.
    pub fn take(&mut self, event: watcher::Event<K>) {
        let event = event.modify(trim);
        let store = self.writer.as_reader();
        let told = match &event {
            watcher::Event::Apply(object) => {
                let reference = ObjectRef::from_obj(object);
                self.writer.apply_watcher_event(&event);
                store.get(&reference).map(Change::to).into_iter().collect()
            }
            watcher::Event::Delete(object) => {
                let gone = Change::from(Arc::new(object.clone()));
                self.writer.apply_watcher_event(&event);
                vec![gone]
            }
            watcher::Event::Init | watcher::Event::InitApply(_) => {
                self.writer.apply_watcher_event(&event);
                vec![]
            }
            watcher::Event::InitDone => {
                let before = store.state();
                self.writer.apply_watcher_event(&event);
                self.complete.send_replace(true);
                changes(&before, &store.state())
            }
        };
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        for change in told {
            subscribers.retain(|subscriber| subscriber.unbounded_send(change.clone()).is_ok());
        }
    }
}

/// What a list says beside what was known: what is new or was changed, and what is there no more. An object that was
/// made anew under its name has gone, and come.
fn changes<K: Cached>(before: &[Arc<K>], after: &[Arc<K>]) -> Vec<Change<K>> {
    let known: HashMap<_, _> = before
        .iter()
        .map(|object| (ObjectRef::from_obj(&**object), object))
        .collect();
    let mut left = known.clone();
    let mut told = Vec::new();
    for object in after {
        let reference = ObjectRef::from_obj(&**object);
        match known.get(&reference) {
            Some(old) if old.uid() == object.uid() => {
                left.remove(&reference);
                if old.resource_version() != object.resource_version() {
                    told.push(Change::to(Arc::clone(object)));
                }
            }
            _ => told.push(Change::to(Arc::clone(object))),
        }
    }
    let gone = left.into_values().map(|object| Change::from(Arc::clone(object)));
    gone.chain(told).collect()
}

fn decoded<K: Cached>(guard: DeserializeGuard<K>) -> Option<K> {
    match guard.0 {
        Ok(object) => Some(object),
        Err(invalid) => {
            tracing::warn!(
                kind = %K::kind(&()),
                namespace = invalid.metadata.namespace,
                name = invalid.metadata.name,
                error = invalid.error,
                "an object does not have the form of its kind and is left alone"
            );
            None
        }
    }
}

fn trim<K: Cached>(object: &mut K) {
    // Of managed fields, all that anybody asks is who scales, and what of a child is ours still: that as text, since a tree
    // takes many times its size.
    object.managed_fields_mut().retain_mut(|entry| {
        let ours = is_of_children(entry);
        let fields = entry.fields_v1.take().filter(|_| ours);
        entry.fields_v1 = fields.map(|FieldsV1(fields)| FieldsV1(fields.to_string().into()));
        ours || entry.subresource.as_deref() == Some("scale")
    });
    if object.meta().annotations.is_some() {
        object.annotations_mut().remove(LAST_APPLIED);
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;

    fn object(version: &str) -> ConfigMap {
        serde_json::from_value(
            json!({"metadata": {"name": "a", "namespace": "b", "resourceVersion": version,
            "annotations": {LAST_APPLIED: "{}", "kept": "yes"}, "managedFields": [{"manager": "x"}, {"manager": "y", "subresource": "scale"}]}}),
        )
        .unwrap()
    }

    #[tokio::test]
    async fn subscribers_hear_of_what_is_there_and_of_what_comes() {
        let (cache, feeder) = cache::<ConfigMap>();
        let mut feeder = feeder.fill([object("1")]);
        let mut changes = Box::pin(cache.subscribe());
        feeder.take(watcher::Event::Apply(object("2")));
        feeder.take(watcher::Event::Delete(object("3")));
        drop(feeder);
        cache.subscribers.lock().unwrap().clear();
        let mut heard = Vec::new();
        while let Some(change) = changes.next().await {
            heard.push((change.object.resource_version().unwrap(), change.deleted));
        }
        assert_eq!(
            heard,
            [
                ("1".to_owned(), false),
                ("2".to_owned(), false),
                ("3".to_owned(), true)
            ]
        );
        assert!(cache.list().is_empty());
    }

    /// The watch broke, and the list that mends it lacks one object, has one anew and one changed.
    #[tokio::test]
    async fn a_list_tells_what_the_watch_has_missed_and_nothing_twice() {
        let named = |name: &str, uid: &str, version: &str| -> ConfigMap {
            serde_json::from_value(
                json!({"metadata": {"name": name, "namespace": "b", "uid": uid, "resourceVersion": version}}),
            )
            .unwrap()
        };
        let (cache, feeder) = cache::<ConfigMap>();
        let mut feeder = feeder.fill([
            named("gone", "1", "1"),
            named("anew", "2", "2"),
            named("changed", "3", "3"),
            named("same", "4", "4"),
        ]);
        let mut news = Box::pin(cache.news());
        feeder.take(watcher::Event::Init);
        for object in [
            named("anew", "5", "5"),
            named("changed", "3", "6"),
            named("same", "4", "4"),
        ] {
            feeder.take(watcher::Event::InitApply(object));
        }
        let mut heard = || {
            let mut heard = Vec::new();
            while let Some(Some(Change { object, deleted })) = futures::FutureExt::now_or_never(news.next()) {
                heard.push((object.name_any(), object.uid().unwrap(), deleted));
            }
            heard.sort();
            heard
        };
        // A pass that began now would not see them.
        assert_eq!(heard(), []);
        feeder.take(watcher::Event::InitDone);
        let expected = [
            ("anew", "2", true),
            ("anew", "5", false),
            ("changed", "3", false),
            ("gone", "1", true),
        ];
        let expected = expected.map(|(name, uid, deleted)| (name.to_owned(), uid.to_owned(), deleted));
        assert_eq!(heard(), expected);
    }

    #[tokio::test]
    async fn ballast_is_dropped_and_catching_up_ends() {
        let (cache, feeder) = cache::<ConfigMap>();
        let mut feeder = feeder.fill([object("1")]);
        let cached = cache.get(Some("b"), "a").unwrap();
        assert_eq!(cached.managed_fields().len(), 1);
        assert_eq!(cached.annotations().keys().collect::<Vec<_>>(), ["kept"]);
        cache
            .catch_up(Some("b"), "a", Some("1"), Duration::from_millis(20))
            .await;
        feeder.take(watcher::Event::Apply(object("2")));
        cache
            .catch_up(Some("b"), "a", Some("1"), Duration::from_mins(1))
            .await;
        assert!(cache.get(None, "a").is_none());
    }
}
