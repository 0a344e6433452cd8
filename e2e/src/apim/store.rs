//! The documents of the API Management service, and the long operations on them.
//! In: documents to put or remove, and the time. Out: the world as the ARM plane sees it now, and as the gateway
//! sees it, which follows after the gateway's delay.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::kind::Kind;
use super::policy::xml::Element;

pub(crate) type Properties = Map<String, Value>;

/// One entity. `id` is its path below the service, spelled as it was created; its key is that in lower case.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) id: String,
    pub(crate) kind: Kind,
    pub(crate) properties: Properties,
    pub(crate) etag: u64,
    /// The parsed policies of a policy document.
    pub(crate) policies: Option<Arc<Element>>,
}

impl Document {
    pub(crate) fn new(kind: Kind, id: impl Into<String>, properties: Properties) -> Self {
        Self {
            id: id.into(),
            kind,
            properties,
            etag: 0,
            policies: None,
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.id.rsplit('/').next().unwrap_or_default()
    }

    pub(crate) fn text(&self, property: &str) -> Option<&str> {
        self.properties.get(property).and_then(Value::as_str)
    }

    pub(crate) fn flag(&self, property: &str) -> Option<bool> {
        self.properties.get(property).and_then(Value::as_bool)
    }

    pub(crate) fn etag_text(&self) -> String {
        etag_text(self.etag)
    }
}

/// Eight bytes in base64, as the service writes them, without the quotes.
pub(crate) fn etag_text(etag: u64) -> String {
    STANDARD.encode(etag.to_be_bytes())
}

#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    documents: BTreeMap<String, Arc<Document>>,
    /// Gateway path of each API (without slashes at its ends) to the API's key.
    paths: BTreeMap<String, String>,
    /// Subscription key to the subscription's key.
    keys: HashMap<String, String>,
}

impl World {
    pub(crate) fn get(&self, id: &str) -> Option<&Arc<Document>> {
        self.documents.get(&id.to_lowercase())
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Document>> {
        self.documents.values()
    }

    /// Members of a collection such as `apis/weather/operations`, in order of their ids.
    pub(crate) fn members<'a>(
        &'a self,
        collection: &str,
    ) -> impl Iterator<Item = &'a Arc<Document>> + use<'a> {
        let prefix = format!("{}/", collection.to_lowercase());
        self.documents
            .range(prefix.clone()..)
            .take_while({
                let prefix = prefix.clone();
                move |(key, _)| key.starts_with(&prefix)
            })
            .filter(move |(key, _)| !key[prefix.len()..].contains('/'))
            .map(|(_, document)| document)
    }

    /// The API behind the longest path that is a prefix of this one, by whole segments.
    pub(crate) fn api_for_path(&self, path: &str) -> Option<(&str, &Arc<Document>)> {
        let mut candidate = path.trim_matches('/');
        loop {
            if let Some((found, key)) = self.paths.get_key_value(&candidate.to_lowercase()) {
                return self.documents.get(key).map(|document| (found.as_str(), document));
            }
            if candidate.is_empty() {
                return None;
            }
            candidate = candidate.rfind('/').map_or("", |slash| &candidate[..slash]);
        }
    }

    pub(crate) fn subscription_of_key(&self, key: &str) -> Option<&Arc<Document>> {
        self.keys
            .get(key)
            .and_then(|subscription| self.documents.get(subscription))
    }

    /// Path at which the gateway serves an API: its path, and its version where the scheme is `Segment`.
    pub(crate) fn gateway_path(&self, api: &Document) -> String {
        let path = api.text("path").unwrap_or_default().trim_matches('/');
        let segment = api
            .text("apiVersionSetId")
            .and_then(|id| id.rsplit('/').next())
            .and_then(|name| self.get(&format!("apiVersionSets/{name}")))
            .is_some_and(|set| set.text("versioningScheme") == Some("Segment"));
        match api.text("apiVersion") {
            Some(version) if segment => format!("{path}/{version}").trim_matches('/').to_lowercase(),
            _ => path.to_lowercase(),
        }
    }

    pub(crate) fn insert(&mut self, document: Document) {
        let key = document.id.to_lowercase();
        self.forget(&key);
        if document.kind == Kind::Api {
            let path = self.gateway_path(&document);
            self.paths.insert(path, key.clone());
        }
        if document.kind == Kind::Subscription {
            for slot in ["primaryKey", "secondaryKey"] {
                if let Some(secret) = document.text(slot) {
                    self.keys.insert(secret.to_owned(), key.clone());
                }
            }
        }
        self.documents.insert(key, Arc::new(document));
    }

    /// Removes an entity and everything below it.
    pub(crate) fn remove(&mut self, id: &str) {
        let key = id.to_lowercase();
        let below = format!("{key}/");
        let children: Vec<String> = self
            .documents
            .range(below.clone()..)
            .map(|(id, _)| id)
            .take_while(|id| id.starts_with(&below))
            .cloned()
            .collect();
        for key in children.into_iter().chain([key]) {
            self.forget(&key);
            self.documents.remove(&key);
        }
    }

    fn forget(&mut self, key: &str) {
        match self.documents.get(key).map(|document| document.kind) {
            Some(Kind::Api) => self.paths.retain(|_, api| api != key),
            Some(Kind::Subscription) => self.keys.retain(|_, subscription| subscription != key),
            _ => {}
        }
    }
}

/// What a change does to the world.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    pub(crate) put: Vec<Document>,
    pub(crate) remove: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Running,
    Succeeded,
    Failed { code: String, message: String },
}

/// An operation that ends later. Its change takes place at its end.
#[derive(Debug)]
pub(crate) struct LongOperation {
    pub(crate) id: String,
    pub(crate) resource: String,
    pub(crate) due: Instant,
    /// The status with which the Location ends.
    pub(crate) code: u16,
    pub(crate) progress: Progress,
    change: Option<Change>,
    failure: Option<(String, String)>,
}

#[derive(Debug)]
pub(crate) struct Store {
    world: Arc<World>,
    /// What the gateway sees while changes are on their way to it.
    gateway: Option<Arc<World>>,
    coming: VecDeque<(Instant, Arc<World>)>,
    operations: BTreeMap<String, LongOperation>,
    /// Ids of those that have not ended.
    running: Vec<String>,
    last_etag: u64,
}

impl Store {
    pub(crate) fn new(world: World) -> Self {
        let mut store = Self {
            world: Arc::default(),
            gateway: None,
            coming: VecDeque::new(),
            operations: BTreeMap::new(),
            running: Vec::new(),
            last_etag: 0x0899_6000,
        };
        let put = world
            .documents
            .into_values()
            .map(|document| (*document).clone())
            .collect();
        store.apply(
            Change {
                put,
                remove: Vec::new(),
            },
            Instant::now(),
            Duration::ZERO,
        );
        store
    }

    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    /// The world as the gateway sees it.
    pub(crate) fn gateway(&self) -> Arc<World> {
        Arc::clone(self.gateway.as_ref().unwrap_or(&self.world))
    }

    /// Applies a change now; the gateway sees it after its delay. Every document that is put gets a new ETag.
    pub(crate) fn apply(&mut self, change: Change, now: Instant, gateway_delay: Duration) {
        let waiting = !gateway_delay.is_zero() || !self.coming.is_empty();
        if waiting && self.gateway.is_none() {
            self.gateway = Some(Arc::clone(&self.world));
        }
        let world = Arc::make_mut(&mut self.world);
        for id in &change.remove {
            world.remove(id);
        }
        for mut document in change.put {
            self.last_etag += 1;
            document.etag = self.last_etag;
            world.insert(document);
        }
        if waiting {
            self.coming
                .push_back((now + gateway_delay, Arc::clone(&self.world)));
        }
    }

    /// Starts an operation whose change takes place after `length`, and returns its id.
    pub(crate) fn start(
        &mut self,
        resource: &str,
        code: u16,
        due: Instant,
        change: Change,
        failure: Option<(String, String)>,
    ) -> String {
        let unique: String = uuid::Uuid::new_v4()
            .simple()
            .to_string()
            .chars()
            .take(24)
            .collect();
        // Opaque to clients; the name lets a test tell whose operation somebody asks about.
        let name = resource.split('/').nth(1).unwrap_or_default();
        let id = format!("{unique}-{name}");
        let operation = LongOperation {
            id: id.clone(),
            resource: resource.to_lowercase(),
            due,
            code,
            progress: Progress::Running,
            change: Some(change),
            failure,
        };
        self.operations.insert(id.clone(), operation);
        self.running.push(id.clone());
        id
    }

    pub(crate) fn operation(&self, id: &str) -> Option<&LongOperation> {
        self.operations.get(id)
    }

    /// Whether an operation on this entity is in progress.
    pub(crate) fn busy(&self, id: &str) -> bool {
        let key = id.to_lowercase();
        self.running().any(|operation| operation.resource == key)
    }

    fn running(&self) -> impl Iterator<Item = &LongOperation> {
        self.running.iter().filter_map(|id| self.operations.get(id))
    }

    /// Ends the operations that are due, and lets the gateway see what has reached it.
    pub(crate) fn settle(&mut self, now: Instant, gateway_delay: Duration) {
        let ended = self.running().filter(|operation| operation.due <= now);
        let mut due: Vec<(Instant, String)> = ended
            .map(|operation| (operation.due, operation.id.clone()))
            .collect();
        self.running
            .retain(|id| !due.iter().any(|(_, ended)| ended == id));
        due.sort();
        for (_, id) in due {
            let Some(operation) = self.operations.get_mut(&id) else {
                continue;
            };
            let change = operation.change.take();
            if let Some((code, message)) = operation.failure.take() {
                operation.progress = Progress::Failed { code, message };
            } else {
                operation.progress = Progress::Succeeded;
                self.apply(change.unwrap_or_default(), now, gateway_delay);
            }
        }
        while self.coming.front().is_some_and(|(at, _)| *at <= now) {
            self.gateway = self.coming.pop_front().map(|(_, world)| world);
        }
        if self.coming.is_empty() {
            self.gateway = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn api(name: &str, path: &str) -> Document {
        let properties = json!({"path": path}).as_object().cloned().unwrap();
        Document::new(Kind::Api, format!("apis/{name}"), properties)
    }

    #[test]
    fn the_longest_path_wins_and_segments_are_whole() {
        let mut world = World::default();
        world.insert(api("a", "mcp"));
        world.insert(api("b", "mcp/tools"));
        let found = |path: &str| world.api_for_path(path).map(|(_, api)| api.name().to_owned());
        assert_eq!(found("/mcp/tools/x").as_deref(), Some("b"));
        assert_eq!(found("/mcp/toolsmith").as_deref(), Some("a"));
        assert_eq!(found("/mcpx"), None);
    }

    #[test]
    fn the_gateway_follows_after_its_delay() {
        let mut store = Store::new(World::default());
        let (now, delay) = (Instant::now(), Duration::from_secs(5));
        store.apply(
            Change {
                put: vec![api("a", "mcp")],
                remove: vec![],
            },
            now,
            delay,
        );
        store.settle(now, delay);
        assert!(store.world().get("apis/A").is_some());
        assert!(store.gateway().get("apis/a").is_none());
        store.settle(now + delay, delay);
        assert!(store.gateway().get("apis/a").is_some());
    }

    #[test]
    fn an_operation_changes_the_world_at_its_end() {
        let mut store = Store::new(World::default());
        let now = Instant::now();
        let due = now + Duration::from_secs(1);
        let id = store.start(
            "apis/a",
            201,
            due,
            Change {
                put: vec![api("a", "mcp")],
                remove: vec![],
            },
            None,
        );
        store.settle(now, Duration::ZERO);
        assert!(store.busy("apis/a") && store.world().get("apis/a").is_none());
        store.settle(due, Duration::ZERO);
        assert!(!store.busy("apis/a") && store.world().get("apis/a").is_some());
        assert_eq!(
            store.operation(&id).map(|operation| operation.progress.clone()),
            Some(Progress::Succeeded)
        );
    }
}
