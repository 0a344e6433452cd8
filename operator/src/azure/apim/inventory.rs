//! What exists in one API Management service, as its lists tell it: one paged list per kind speaks for every server.
//! In: the pages of three lists, and word of our own writes; out: for each resource of a server whether it is absent, as
//! wanted, or to be looked at, and which API has a path.
//!
//! It holds heads, not bodies: a print of what we compare (`wire::print`), and of APIs the path and the owner. A list may
//! be out of date from the moment it is read, so its word is never enough to write over something: it saves the reads of
//! what is as it should be, and everything that is to be changed is read again first (`look`). docs/adr/0009 has the reasons.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::{
    document::{ServerDocuments, ServerIds},
    error::ArmError,
    mark::{self, Owner},
    operation::in_progress,
    target::Resource,
    transport::ArmClient,
    wire::{Backend, Item, ListedApi, Print as _, Subscription},
};

/// Reading the lists again costs at most this many reads in the time for which they hold at least; longer lists hold
/// longer. Of ARM's 25 reads a second that is a fiftieth.
const READS_IN_A_PERIOD: u32 = 15;
/// A wish to move is forgotten after this time: its server has come to rest, or is gone.
const WISH_HOLDS: Duration = Duration::from_mins(5);
const MOST_WISHES: usize = 1024;
/// Servers that wait for each other in a longer circle are told apart by their retries.
const LONGEST_CIRCLE: usize = 16;

/// What the lists say about one resource of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    Absent,
    /// Everything that we compare is as wanted, the mark included.
    AsWanted,
    /// It differs, or is not known for sure.
    Unsure,
}

/// An API that stands in the way of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) api: String,
    pub(crate) path: String,
    pub(crate) owner: Option<Owner>,
}

/// One service's inventory, shared by all that use its client.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    /// Held by the one who reads the lists.
    reading: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct State {
    /// When the lists were begun, and how many reads they took.
    listed: Option<(Instant, u32)>,
    failed: Option<(Instant, ArmError)>,
    /// Counts our own writes.
    writes: u64,
    /// By name in lower case: the service ignores case.
    apis: HashMap<Box<str>, ApiHead>,
    backends: Heads,
    subscriptions: Heads,
    /// APIs that wait for a path, by name, and the path.
    wishes: HashMap<Box<str>, (Box<str>, Instant)>,
}

/// By a hash of the name: other people's subscriptions may be many, and only their absence matters.
type Heads = HashMap<u64, Head>;

#[derive(Clone, Copy, Debug)]
struct Head {
    /// `None` while nobody knows: we have begun to write.
    print: Option<u64>,
    /// Number of our own latest write.
    written: u64,
}

#[derive(Debug)]
struct ApiHead {
    head: Head,
    path: Box<str>,
    owner: Option<Box<Owner>>,
}

/// What one reading of the lists brings.
struct Lists {
    apis: HashMap<Box<str>, ApiHead>,
    backends: Heads,
    subscriptions: Heads,
    reads: u32,
}

impl Inventory {
    /// Reads the lists unless they are young enough. Many may ask at once: one reads, and all of them take its answer.
    pub(crate) async fn refresh(&self, client: &ArmClient) -> Result<(), ArmError> {
        let asked = Instant::now();
        let holds = client.limits().inventory;
        if self.lock().holds(asked, holds) {
            return Ok(());
        }
        let _reading = self.reading.lock().await;
        let (writes, failed) = {
            let state = self.lock();
            if state.holds(asked, holds) {
                return Ok(());
            }
            (state.writes, state.failed.clone())
        };
        if let Some((at, error)) = failed
            && at >= asked
        {
            return Err(error);
        }
        let begun = Instant::now();
        match self.read(client).await {
            Ok(lists) => {
                self.lock().take(lists, begun, writes);
                Ok(())
            }
            Err(error) => {
                self.lock().failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// One kind after the other, a page at a time.
    async fn read(&self, client: &ArmClient) -> Result<Lists, ArmError> {
        let listed = |print| Head { print, written: 0 };
        let mut apis = HashMap::new();
        let mut reads = pages(client, &Resource::Apis, |item: Item<ListedApi>| {
            let busy = in_progress(item.properties.provisioning_state.as_deref());
            let api = item.properties.api();
            let owner = api.description.as_deref().and_then(mark::parse).map(Box::new);
            let path = api.path.as_deref().unwrap_or_default().trim_matches('/');
            let head = ApiHead {
                head: listed((!busy).then(|| api.print())),
                path: path.into(),
                owner,
            };
            // Revisions that are not current have the path of the one that is.
            let name = item.name.split(';').next().unwrap_or_default();
            if name.len() == item.name.len() {
                apis.insert(key(name), head);
            } else {
                apis.entry(key(name)).or_insert(head);
            }
        })
        .await?;
        let mut backends = HashMap::new();
        reads += pages(client, &Resource::Backends, |item: Item<Backend>| {
            backends.insert(self.hash(&item.name), listed(Some(item.properties.print())));
        })
        .await?;
        let mut subscriptions = HashMap::new();
        reads += pages(client, &Resource::Subscriptions, |item: Item<Subscription>| {
            subscriptions.insert(self.hash(&item.name), listed(Some(item.properties.print())));
        })
        .await?;
        Ok(Lists {
            apis,
            backends,
            subscriptions,
            reads,
        })
    }

    /// What is known of a server: backend, API, subscription.
    pub(crate) fn sight(&self, ids: &ServerIds, documents: &ServerDocuments) -> [Sight; 3] {
        let state = self.lock();
        let judge = |head: Option<&Head>, wanted: Option<u64>| match (head, wanted) {
            (None, None) => Sight::AsWanted,
            (None, Some(_)) => Sight::Absent,
            (Some(head), _) if wanted.is_some() && head.print == wanted => Sight::AsWanted,
            (Some(_), _) => Sight::Unsure,
        };
        let backend = state.backends.get(&self.hash(&ids.backend_id));
        let api = state.apis.get(&key(&ids.api_id)).map(|api| &api.head);
        let subscription = state.subscriptions.get(&self.hash(&ids.subscription_id));
        [
            judge(backend, Some(documents.backend.print())),
            judge(api, Some(documents.api.print())),
            judge(
                subscription,
                documents.subscription.as_ref().map(Subscription::print),
            ),
        ]
    }

    /// Called before each write: until it is known how it ended, the resource counts as unknown.
    pub(crate) fn writing(&self, resource: &Resource) {
        let mut state = self.lock();
        state.writes += 1;
        let head = Head {
            print: None,
            written: state.writes,
        };
        match resource {
            Resource::Api(id) | Resource::Operation(id, _) => {
                let api = state.apis.entry(key(id)).or_insert_with(|| ApiHead {
                    head,
                    path: "".into(),
                    owner: None,
                });
                api.head = head;
            }
            Resource::Backend(id) => {
                state.backends.insert(self.hash(id), head);
            }
            Resource::Subscription(id) => {
                state.subscriptions.insert(self.hash(id), head);
            }
            _ => {}
        }
    }

    /// A server has the path that it wants: it waits for none.
    pub(crate) fn rests(&self, api: &str) {
        self.lock().wishes.remove(&key(api));
    }

    /// A server was written, and is as its documents say.
    pub(crate) fn settled(&self, ids: &ServerIds, documents: &ServerDocuments) {
        let mut state = self.lock();
        state.writes += 1;
        let head = |print| Head {
            print: Some(print),
            written: state.writes,
        };
        let api = ApiHead {
            head: head(documents.api.print()),
            path: documents.api.path.as_deref().unwrap_or_default().into(),
            owner: documents
                .api
                .description
                .as_deref()
                .and_then(mark::parse)
                .map(Box::new),
        };
        let backend = head(documents.backend.print());
        let subscription = documents.subscription.as_ref().map(|wanted| head(wanted.print()));
        state.apis.insert(key(&ids.api_id), api);
        state.backends.insert(self.hash(&ids.backend_id), backend);
        let name = self.hash(&ids.subscription_id);
        match subscription {
            Some(head) => state.subscriptions.insert(name, head),
            None => state.subscriptions.remove(&name),
        };
    }

    /// An API of ours has another path now; the rest of it is not known.
    pub(crate) fn moved(&self, api: &str, path: &str) {
        if let Some(api) = self.lock().apis.get_mut(&key(api)) {
            api.path = path.into();
        }
    }

    /// The API whose path is this one, contains it or lies in it. An API at the root of the gateway contains everything
    /// and stands in nobody's way: the gateway prefers longer paths.
    pub(crate) fn holder(&self, path: &str, except: &str) -> Option<Holder> {
        self.lock().holder(path, &key(except))
    }

    /// Remembers that an API waits for a path.
    pub(crate) fn wish(&self, api: &str, path: &str) {
        let now = Instant::now();
        let mut state = self.lock();
        state
            .wishes
            .retain(|_, (_, at)| now.saturating_duration_since(*at) < WISH_HOLDS);
        if state.wishes.len() < MOST_WISHES {
            state.wishes.insert(key(api), (path.into(), now));
        }
    }

    /// Whether those that are in the way wait, one for the other, for a path that this API has.
    pub(crate) fn wait_in_circle(&self, api: &str, path: &str) -> bool {
        let state = self.lock();
        let own = key(api);
        let (mut mover, mut path) = (own.clone(), path.to_owned());
        for _ in 0..LONGEST_CIRCLE {
            let Some(holder) = state.holder(&path, &mover) else {
                return false;
            };
            mover = key(&holder.api);
            if mover == own {
                return true;
            }
            match state.wishes.get(&mover) {
                Some((wish, _)) => wish.as_ref().clone_into(&mut path),
                None => return false,
            }
        }
        false
    }

    fn hash(&self, name: &str) -> u64 {
        self.hasher.hash_one(name.to_ascii_lowercase())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every statement leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn holds(&self, asked: Instant, least: Duration) -> bool {
        self.listed
            .is_some_and(|(begun, reads)| begun + least * (reads / READS_IN_A_PERIOD).max(1) >= asked)
    }

    /// What we wrote while the lists were read is newer than they are.
    fn take(&mut self, mut lists: Lists, begun: Instant, writes: u64) {
        for (name, api) in self.apis.drain().filter(|(_, api)| api.head.written > writes) {
            lists.apis.insert(name, api);
        }
        let newer = |own: &mut Heads, listed: &mut Heads| {
            listed.extend(own.drain().filter(|(_, head)| head.written > writes));
        };
        newer(&mut self.backends, &mut lists.backends);
        newer(&mut self.subscriptions, &mut lists.subscriptions);
        self.apis = lists.apis;
        self.backends = lists.backends;
        self.subscriptions = lists.subscriptions;
        self.listed = Some((begun, lists.reads));
        self.failed = None;
    }

    fn holder(&self, path: &str, except: &str) -> Option<Holder> {
        let (name, api) = self
            .apis
            .iter()
            .find(|(name, api)| name.as_ref() != except && overlap(&api.path, path))?;
        Some(Holder {
            api: name.to_string(),
            path: api.path.to_string(),
            owner: api.owner.as_deref().cloned(),
        })
    }
}

fn key(name: &str) -> Box<str> {
    name.to_ascii_lowercase().into()
}

/// Whether two paths are the same, or one contains the other: by whole segments, in any case.
pub(crate) fn overlap(one: &str, other: &str) -> bool {
    let [one, other] = [one, other].map(|path| path.trim_matches('/').as_bytes());
    let (short, long) = if one.len() <= other.len() {
        (one, other)
    } else {
        (other, one)
    };
    let (start, rest) = long.split_at(short.len());
    !short.is_empty() && start.eq_ignore_ascii_case(short) && matches!(rest.first(), None | Some(b'/'))
}

/// Gives each item of a list to `take`, a page at a time; answers the number of reads.
async fn pages<T: DeserializeOwned>(
    client: &ArmClient,
    resource: &Resource,
    mut take: impl FnMut(Item<T>) + Send,
) -> Result<u32, ArmError> {
    let mut reads = 0;
    let mut next = Some(client.first_page(resource, None));
    while let Some(request) = next {
        let (items, following) = client.page::<Item<T>>(request, reads).await?;
        items.into_iter().for_each(&mut take);
        reads += 1;
        next = following;
    }
    Ok(reads)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::azure::apim::document::{documents, tests::registration};

    fn head(print: u64, written: u64) -> Head {
        Head {
            print: Some(print),
            written,
        }
    }

    fn api(path: &str, written: u64) -> ApiHead {
        ApiHead {
            head: head(1, written),
            path: path.into(),
            owner: None,
        }
    }

    fn lists() -> Lists {
        Lists {
            apis: HashMap::new(),
            backends: HashMap::new(),
            subscriptions: HashMap::new(),
            reads: 3,
        }
    }

    fn with_paths(paths: &[(&str, &str)]) -> Inventory {
        let inventory = Inventory::default();
        let mut found = lists();
        for (name, path) in paths {
            found.apis.insert(key(name), api(path, 0));
        }
        inventory.lock().take(found, Instant::now(), 0);
        inventory
    }

    #[test]
    fn paths_overlap_by_whole_segments_in_any_case() {
        for (one, other, expected) in [
            ("demo/tools/weather", "demo/tools/weather", true),
            ("demo/tools/weather", "Demo/Tools/Weather", true),
            ("demo/tools/weather", "demo/tools/weather/messages", true),
            ("demo/tools/weather/mcp", "demo/tools/WEATHER", true),
            ("demo", "demo/tools/weather", true),
            ("/demo/tools/weather/", "demo/tools/weather", true),
            ("demo/tools/weather", "demo/tools/weather2", false),
            ("demo/tools/weather", "demo/tools/weather-2/x", false),
            ("demo/tools/weather", "demo/tools", true),
            ("demo/tools/a", "demo/tools/b", false),
            ("", "demo/tools/weather", false),
            ("", "", false),
            ("é/a", "é", true),
        ] {
            assert_eq!(overlap(one, other), expected, "{one} {other}");
            assert_eq!(overlap(other, one), expected, "{other} {one}");
        }
    }

    #[test]
    fn what_we_write_while_the_lists_are_read_is_newer() {
        let desired = registration();
        let documents = documents(&desired).unwrap();
        let inventory = Inventory::default();
        inventory.settled(&desired.ids, &documents);
        let begun = inventory.lock().writes;
        assert_eq!(
            inventory.sight(&desired.ids, &documents),
            [Sight::AsWanted, Sight::AsWanted, Sight::AsWanted]
        );
        inventory.writing(&Resource::Backend(desired.ids.backend_id.clone()));
        assert_eq!(inventory.sight(&desired.ids, &documents)[0], Sight::Unsure);
        // The lists were begun before that write, and know nothing of it, nor of what came before.
        inventory.lock().take(lists(), Instant::now(), begun);
        assert_eq!(
            inventory.sight(&desired.ids, &documents),
            [Sight::Unsure, Sight::Absent, Sight::Absent]
        );
    }

    #[test]
    fn whoever_waits_in_a_circle_is_found_and_nobody_else() {
        let inventory = with_paths(&[("a", "p/1"), ("b", "p/2"), ("c", "p/3"), ("other", "q")]);
        assert!(!inventory.wait_in_circle("a", "p/2"), "b does not want to leave");
        inventory.wish("B", "p/1");
        assert!(inventory.wait_in_circle("a", "P/2"));
        inventory.wish("b", "p/3");
        assert!(!inventory.wait_in_circle("a", "p/2"), "c stays");
        inventory.wish("c", "p/1");
        assert!(inventory.wait_in_circle("a", "p/2"), "three in a circle");
        inventory.moved("a", "p/4");
        assert!(!inventory.wait_in_circle("a", "p/2"), "c can move now");
        inventory.moved("a", "p/1");
        inventory.rests("c");
        assert!(!inventory.wait_in_circle("a", "p/2"), "c wants to stay after all");
        assert!(!inventory.wait_in_circle("a", "free"));
    }

    #[tokio::test(start_paused = true)]
    async fn long_lists_hold_longer() {
        let mut state = State::default();
        let least = Duration::from_secs(30);
        assert!(!state.holds(Instant::now(), least));
        for (reads, seconds) in [(3, 30), (30, 60), (150, 300)] {
            state.listed = Some((Instant::now(), reads));
            tokio::time::advance(Duration::from_secs(seconds)).await;
            assert!(state.holds(Instant::now(), least), "{reads} reads");
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(!state.holds(Instant::now(), least), "{reads} reads");
        }
        state.listed = Some((Instant::now(), 3));
        assert!(state.holds(Instant::now(), Duration::ZERO));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!state.holds(Instant::now(), Duration::ZERO));
    }

    /// 5,000 servers, and 20,000 subscriptions of others.
    #[test]
    fn the_heads_of_five_thousand_servers_are_a_few_mebibytes() {
        let name = "demo-some-namespace-some-server-12345678";
        let owner = Owner {
            cluster_id: "demo".into(),
            namespace: "some-namespace".into(),
            name: "some-server".into(),
            uid: "4fd0f1a2-0001-4000-8000-00000000000a".into(),
        };
        let path = "demo/some-namespace/some-server";
        let texts = name.len() + path.len() + owner.namespace.len() + owner.name.len() + owner.uid.len() + 4;
        // A hash table is at most 16 times as large as its entries at the worst moment: it doubles when 7/8 are taken.
        let entry = size_of::<(Box<str>, ApiHead)>() + 1;
        let apis = 5_000 * (texts + size_of::<Owner>()) + 8_192 * entry;
        let heads = (8_192 + 32_768) * (size_of::<(u64, Head)>() + 1);
        assert!(apis + heads < 4 << 20, "{} bytes", apis + heads);
    }
}
