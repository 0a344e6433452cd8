//! The content of the ConfigMaps and Secrets that servers refer to, as digests. In: what a server refers to, and watches of all
//! ConfigMaps and Secrets without their content; out: one digest for each server, and news of those whose content may have
//! changed.
//!
//! Of the watches nothing is kept: an object that nobody refers to is forgotten as soon as it is seen. Content is read once,
//! when it is new, and only its digest stays: an HMAC with the operator's own key, so that a short password cannot be guessed
//! from the annotation on the pods.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::{Stream, StreamExt as _};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::PartialObjectMeta;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use mcp_fleet_crds::McpServer;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::azure::probe_key::ProbeKeys;
use crate::kube_write::{WriteError, limited};

/// A kind that holds configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Kind {
    ConfigMap,
    Secret,
}

/// Kind and name, in a server's own namespace.
pub type Reference = (Kind, String);
/// Namespace, kind and name.
type Place = (String, Reference);

/// The digests that are known, and who asks for them.
#[derive(Clone, Debug, Default)]
pub struct Configs {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// What each server, by namespace and name, refers to.
    references: HashMap<(String, String), BTreeSet<Reference>>,
    users: HashMap<Place, HashSet<String>>,
    known: HashMap<Place, Known>,
    /// Counts news: what was read before the last of them may be old.
    news: HashMap<Place, u64>,
    /// Those that a list under way has shown.
    listed: HashSet<Place>,
    subscribers: Vec<UnboundedSender<ObjectRef<McpServer>>>,
}

#[derive(Clone, Debug)]
struct Known {
    /// Absent where there is no such object.
    version: Option<String>,
    digest: String,
}

impl Configs {
    /// One digest of everything that a server refers to; None where that is nothing. An object that is not there counts
    /// as such: pods wait for it anyway.
    pub async fn digest(
        &self,
        client: &Client,
        keys: &ProbeKeys,
        namespace: &str,
        server: &str,
        references: BTreeSet<Reference>,
    ) -> Result<Option<String>, WriteError> {
        self.lock().refer(namespace, server, &references);
        let mut digests = vec![];
        for reference in references {
            let place = (namespace.to_owned(), reference);
            let before = {
                let state = self.lock();
                (state.known.get(&place).cloned(), state.news.get(&place).copied())
            };
            let known = if let Some(known) = before.0 {
                known
            } else {
                let read = read(client, keys, &place).await?;
                let mut state = self.lock();
                if state.users.contains_key(&place) && state.news.get(&place).copied() == before.1 {
                    state.known.insert(place.clone(), read.clone());
                }
                read
            };
            let (_, (kind, name)) = place;
            digests.push((kind, name, known.digest));
        }
        Ok((!digests.is_empty()).then(|| keys.digest(&digests)))
    }

    /// Servers that refer to something that has changed.
    pub fn subscribe(&self) -> impl Stream<Item = ObjectRef<McpServer>> + Send + 'static {
        let (sender, receiver) = unbounded();
        self.lock().subscribers.push(sender);
        receiver
    }

    /// Forgets a server that is gone.
    pub fn forget(&self, namespace: &str, server: &str) {
        self.lock().refer(namespace, server, &BTreeSet::new());
    }

    /// Watches for ever.
    pub fn watch(&self, client: &Client) {
        let config_maps = Api::<PartialObjectMeta<ConfigMap>>::all(client.clone());
        tokio::spawn(self.clone().feed(Kind::ConfigMap, config_maps));
        let secrets = Api::<PartialObjectMeta<Secret>>::all(client.clone());
        tokio::spawn(self.clone().feed(Kind::Secret, secrets));
    }

    async fn feed<K>(self, kind: Kind, api: Api<PartialObjectMeta<K>>)
    where
        K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + 'static,
        PartialObjectMeta<K>: DeserializeOwned,
    {
        let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => self.take(kind, &event),
                Err(error) => tracing::warn!(?kind, %error, "failed to watch"),
            }
        }
    }

    /// One event of the watch.
    pub fn take<K: Resource<DynamicType = ()>>(
        &self,
        kind: Kind,
        event: &watcher::Event<PartialObjectMeta<K>>,
    ) {
        let mut state = self.lock();
        let place = |object: &PartialObjectMeta<K>| {
            (object.namespace().unwrap_or_default(), (kind, object.name_any()))
        };
        match event {
            watcher::Event::Init => state.listed.retain(|(_, (listed, _))| *listed != kind),
            watcher::Event::InitApply(object) => {
                let place = place(object);
                if state.users.contains_key(&place) {
                    state.listed.insert(place.clone());
                    state.seen(&place, object.resource_version().as_ref());
                }
            }
            watcher::Event::Apply(object) => state.seen(&place(object), object.resource_version().as_ref()),
            watcher::Event::Delete(object) => state.seen(&place(object), None),
            watcher::Event::InitDone => {
                let unseen = |place: &&Place| place.1.0 == kind && !state.listed.contains(*place);
                let gone: Vec<Place> = state.known.keys().filter(unseen).cloned().collect();
                for place in gone {
                    state.seen(&place, None);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn refer(&mut self, namespace: &str, server: &str, references: &BTreeSet<Reference>) {
        let key = (namespace.to_owned(), server.to_owned());
        let before = if references.is_empty() {
            self.references.remove(&key)
        } else {
            self.references.insert(key, references.clone())
        };
        let before = before.unwrap_or_default();
        for reference in before.difference(references) {
            let place = (namespace.to_owned(), reference.clone());
            let users = self.users.get_mut(&place).map(|users| {
                users.remove(server);
                users.len()
            });
            if users == Some(0) {
                self.users.remove(&place);
                self.known.remove(&place);
                self.news.remove(&place);
            }
        }
        for reference in references.difference(&before) {
            let place = (namespace.to_owned(), reference.clone());
            self.users.entry(place).or_default().insert(server.to_owned());
        }
    }

    /// The version that an object has now; what is known of another one is forgotten.
    fn seen(&mut self, place: &Place, version: Option<&String>) {
        let Some(users) = self.users.get(place) else {
            return;
        };
        if self
            .known
            .get(place)
            .is_some_and(|known| known.version.as_ref() == version)
        {
            return;
        }
        self.known.remove(place);
        *self.news.entry(place.clone()).or_default() += 1;
        for server in users {
            let server = ObjectRef::<McpServer>::new(server).within(&place.0);
            self.subscribers
                .retain(|subscriber| subscriber.unbounded_send(server.clone()).is_ok());
        }
    }
}

async fn read(client: &Client, keys: &ProbeKeys, place: &Place) -> Result<Known, WriteError> {
    let (namespace, (kind, name)) = place;
    let (version, content) = match kind {
        Kind::ConfigMap => {
            let api = Api::<ConfigMap>::namespaced(client.clone(), namespace);
            let object = limited("get", "ConfigMap", name, api.get_opt(name)).await?;
            let version = object.as_ref().and_then(ResourceExt::resource_version);
            (
                version,
                object.map(|object| content(object.data, object.binary_data)),
            )
        }
        Kind::Secret => {
            let api = Api::<Secret>::namespaced(client.clone(), namespace);
            let object = limited("get", "Secret", name, api.get_opt(name)).await?;
            let version = object.as_ref().and_then(ResourceExt::resource_version);
            (version, object.map(|object| content(None, object.data)))
        }
    };
    Ok(Known {
        version,
        digest: keys.digest(&content),
    })
}

type Content = (BTreeMap<String, String>, BTreeMap<String, ByteString>);

fn content(text: Option<BTreeMap<String, String>>, binary: Option<BTreeMap<String, ByteString>>) -> Content {
    (text.unwrap_or_default(), binary.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use serde_json::{Value, json};

    use super::*;
    use crate::fake::Cluster;

    const SECRET: &str = "/api/v1/namespaces/tools/secrets/orders";

    fn references() -> BTreeSet<Reference> {
        [
            (Kind::Secret, "orders".to_owned()),
            (Kind::ConfigMap, "absent".to_owned()),
        ]
        .into()
    }

    async fn digest(configs: &Configs, cluster: &Cluster) -> Option<String> {
        let keys = ProbeKeys::new(&[7; 32]);
        configs
            .digest(&cluster.client(), &keys, "tools", "weather", references())
            .await
            .unwrap()
    }

    fn seen(configs: &Configs, object: &Value) {
        let object: PartialObjectMeta<Secret> = serde_json::from_value(object.clone()).unwrap();
        configs.take(Kind::Secret, &watcher::Event::Apply(object));
    }

    #[tokio::test]
    async fn another_content_is_another_digest_and_is_told_to_those_who_refer_to_it() {
        let (configs, cluster) = (Configs::default(), Cluster::default());
        let put = |url: &str| {
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "orders", "namespace": "tools"}, "data": {"url": url}});
            cluster.put(SECRET, secret);
            cluster.get(SECRET).unwrap()
        };
        let mut news = Box::pin(configs.subscribe());
        let first = put("YQ==");
        seen(&configs, &first);
        assert!(news.next().now_or_never().is_none(), "nobody refers to it");
        let before = digest(&configs, &cluster).await;
        seen(&configs, &first);
        assert!(news.next().now_or_never().is_none(), "it is the same");
        assert_eq!(digest(&configs, &cluster).await, before);

        let second = put("Yg==");
        assert_eq!(
            digest(&configs, &cluster).await,
            before,
            "it was not told yet, and is not read again"
        );
        seen(&configs, &second);
        let told = news.next().now_or_never().flatten().unwrap();
        assert_eq!(
            (told.namespace.as_deref(), told.name.as_str()),
            (Some("tools"), "weather")
        );
        assert_ne!(digest(&configs, &cluster).await, before);

        seen(&configs, &put("YQ=="));
        assert_eq!(
            digest(&configs, &cluster).await,
            before,
            "its version does not count"
        );
    }

    #[tokio::test]
    async fn what_went_while_nobody_watched_is_told_and_what_nobody_uses_is_forgotten() {
        let (configs, cluster) = (Configs::default(), Cluster::default());
        cluster.put(SECRET, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "orders", "namespace": "tools"}}));
        let before = digest(&configs, &cluster).await;
        cluster.remove(SECRET);
        let mut news = Box::pin(configs.subscribe());
        configs.take::<Secret>(Kind::Secret, &watcher::Event::Init);
        configs.take::<Secret>(Kind::Secret, &watcher::Event::InitDone);
        assert!(news.next().now_or_never().flatten().is_some());
        assert_ne!(digest(&configs, &cluster).await, before);
        configs.forget("tools", "weather");
        let state = configs.lock();
        assert!(state.users.is_empty() && state.known.is_empty() && state.references.is_empty());
    }
}
