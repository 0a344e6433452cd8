//! The queue of a lane. In: keys that ask for work, with a priority, a section and a tenant; out: the next key to work
//! on. What has to be done for a key is the lane's to know.
//!
//! - A key waits once, however often it asks, and never runs twice at once: what asks during a run leads to another.
//! - First what is new or was changed, then deletions, then repairs; a line that was passed over often goes first once,
//!   so that none starves. Within a priority tenants take turns, and each tenant's keys keep their order.
//! - Each section (a gateway) and each tenant (a namespace) has a limit of its own: one that hangs holds nobody else.
//!
//! kube's own queue hands out what is due in the order of a hash map, which passes some over for as long as others
//! keep coming.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::runtime::metrics::LaneGauges;

/// How urgent work is. The order is that of importance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Somebody may have changed something by hand, or a process begins and knows nothing yet.
    Repair,
    Deletion,
    /// An object that is new, was changed, or has lost something.
    News,
}

const PRIORITIES: [Priority; 3] = [Priority::News, Priority::Deletion, Priority::Repair];

/// A line that others were preferred to this often goes first once.
const PATIENCE: u32 = 8;

/// After a panic, which is a fault of ours: the rest of the fleet goes on.
const AFTER_PANIC: Duration = Duration::from_mins(1);

/// How a key wants to be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub priority: Priority,
    /// What shares a limit, for example everything of one gateway. Empty where a lane has no sections.
    pub section: String,
    /// Whose it is: the namespace. Empty for what is cluster-scoped.
    pub tenant: String,
}

/// How many may run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub section: usize,
    pub tenant: usize,
}

impl Limits {
    /// A lane without sections, in which a tenant may use every slot.
    pub fn total(limit: usize) -> Self {
        Self {
            section: limit,
            tenant: limit,
        }
    }
}

/// What comes after a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    After(Duration, Priority),
    /// Not before somebody asks.
    WhenAsked,
}

/// The queue of one lane.
#[derive(Debug)]
pub struct Queue<K> {
    limits: Limits,
    gauges: LaneGauges,
    state: Mutex<State<K>>,
    news: Notify,
}

#[derive(Debug)]
struct State<K> {
    entries: HashMap<K, Entry>,
    sections: BTreeMap<String, Section<K>>,
    /// Sections in the order in which they are asked next.
    turns: VecDeque<String>,
    later: BTreeMap<(Instant, u64), K>,
    waiting: usize,
    running: usize,
    /// Tells a place in a line from an earlier one of the same key.
    tickets: u64,
}

/// At least one of its members is there, or the key is not in the queue.
#[derive(Debug, Default)]
struct Entry {
    waiting: Option<(u64, Ask)>,
    later: Option<(Instant, u64, Ask)>,
    running: Option<Ask>,
    /// Asked for during the run.
    again: Option<Ask>,
}

#[derive(Debug)]
struct Section<K> {
    running: usize,
    tenants: HashMap<String, usize>,
    /// One for each of [`PRIORITIES`].
    lines: [Line<K>; PRIORITIES.len()],
}

#[derive(Debug)]
struct Line<K> {
    passed_over: u32,
    /// Tenants with something in line, in the order of their turns.
    turns: VecDeque<String>,
    keys: HashMap<String, VecDeque<(u64, K)>>,
}

impl<K> Default for Line<K> {
    fn default() -> Self {
        Self {
            passed_over: 0,
            turns: VecDeque::new(),
            keys: HashMap::new(),
        }
    }
}

impl<K> Default for Section<K> {
    fn default() -> Self {
        Self {
            running: 0,
            tenants: HashMap::new(),
            lines: std::array::from_fn(|_| Line::default()),
        }
    }
}

impl<K> Line<K> {
    fn push(&mut self, tenant: &str, ticket: u64, key: K) {
        if let Some(keys) = self.keys.get_mut(tenant) {
            keys.push_back((ticket, key));
            return;
        }
        self.turns.push_back(tenant.to_owned());
        self.keys
            .insert(tenant.to_owned(), VecDeque::from([(ticket, key)]));
    }
}

impl<K: Clone + Eq + Hash + Debug> Queue<K> {
    pub fn new(limits: Limits, gauges: LaneGauges) -> Self {
        Self {
            limits,
            gauges,
            state: Mutex::new(State {
                entries: HashMap::new(),
                sections: BTreeMap::new(),
                turns: VecDeque::new(),
                later: BTreeMap::new(),
                waiting: 0,
                running: 0,
                tickets: 0,
            }),
            news: Notify::new(),
        }
    }

    /// Asks for a run as soon as possible. A key that waits keeps its place, unless this is more urgent.
    pub fn add(&self, key: K, ask: Ask) {
        let mut state = self.lock();
        state.ask(key, ask);
        self.tell(&state);
    }

    /// Takes a key out that is wanted no more. What runs is not stopped, but nothing follows it.
    pub fn remove(&self, key: &K) {
        let mut state = self.lock();
        state.forget_place(key);
        if let Some(entry) = state.entries.get_mut(key) {
            entry.again = None;
        }
        state.tidy(key);
        self.tell(&state);
    }

    /// The next key, if one may run now. Whoever takes it says [`Queue::done`] at the end.
    pub fn try_take(&self) -> Option<K> {
        let mut state = self.lock();
        state.wake(Instant::now());
        let taken = state.take(self.limits);
        // Whoever takes needs no waking.
        self.gauges.set(state.waiting, state.running);
        taken
    }

    /// The next key, when one may run. Safe to cancel.
    pub async fn take(&self) -> K {
        loop {
            // Before the look, so that what comes after it wakes us.
            let news = self.news.notified();
            if let Some(key) = self.try_take() {
                return key;
            }
            let due = self.lock().later.keys().next().map(|(at, _)| *at);
            match due {
                Some(at) => tokio::select! {
                    () = news => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => news.await,
            }
        }
    }

    /// A run is over.
    pub fn done(&self, key: &K, next: Again) {
        let mut state = self.lock();
        state.done(key, next);
        self.tell(&state);
    }

    /// How many wait for a slot; not those whose time has not come.
    pub fn waiting(&self) -> usize {
        self.lock().waiting
    }

    /// How many run.
    pub fn running(&self) -> usize {
        self.lock().running
    }

    /// Whether a key waits for its time to come.
    pub fn comes_back(&self, key: &K) -> bool {
        let state = self.lock();
        state.entries.get(key).is_some_and(|entry| entry.later.is_some())
    }

    /// Lets all the time pass that any key waits for.
    #[cfg(test)]
    pub(crate) fn pass_time(&self) {
        let mut state = self.lock();
        let last = state.later.keys().next_back().map(|(at, _)| *at);
        if let Some(last) = last {
            state.wake(last);
        }
        self.tell(&state);
    }

    fn tell(&self, state: &State<K>) {
        self.gauges.set(state.waiting, state.running);
        self.news.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        // No caller's code runs under the lock, so nothing there can panic half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash + Debug> State<K> {
    fn ask(&mut self, key: K, ask: Ask) {
        let entry = self.entries.entry(key.clone()).or_default();
        if entry.running.is_some() {
            let more_urgent = entry
                .again
                .as_ref()
                .is_none_or(|again| again.priority <= ask.priority);
            if more_urgent {
                entry.again = Some(ask);
            }
            return;
        }
        if let Some((_, present)) = &entry.waiting
            && present.section == ask.section
            && present.priority >= ask.priority
        {
            return;
        }
        let priority = entry
            .waiting
            .as_ref()
            .map_or(ask.priority, |(_, present)| present.priority.max(ask.priority));
        self.forget_place(&key);
        self.place(key, Ask { priority, ..ask });
    }

    /// Puts a key in line that is nowhere in line.
    fn place(&mut self, key: K, ask: Ask) {
        self.tickets += 1;
        let ticket = self.tickets;
        if !self.sections.contains_key(&ask.section) {
            self.turns.push_back(ask.section.clone());
        }
        let section = self.sections.entry(ask.section.clone()).or_default();
        section.lines[line_of(ask.priority)].push(&ask.tenant, ticket, key.clone());
        self.entries.entry(key).or_default().waiting = Some((ticket, ask));
        self.waiting += 1;
    }

    /// Out of its line, and out of those whose time has not come. The ticket that stays in the line is void.
    fn forget_place(&mut self, key: &K) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if entry.waiting.take().is_some() {
            self.waiting -= 1;
        }
        if let Some((at, ticket, _)) = entry.later.take() {
            self.later.remove(&(at, ticket));
        }
    }

    /// Those whose time has come get in line.
    fn wake(&mut self, now: Instant) {
        while let Some(first) = self.later.first_entry().filter(|first| first.key().0 <= now) {
            let key = first.remove();
            let later = self.entries.get_mut(&key).and_then(|entry| entry.later.take());
            if let Some((_, _, ask)) = later {
                self.place(key, ask);
            }
        }
    }

    fn take(&mut self, limits: Limits) -> Option<K> {
        for _ in 0..self.turns.len() {
            let name = self.turns.pop_front()?;
            let taken = self.take_from(&name, limits);
            let idle = self.sections.get(&name).is_none_or(|section| {
                section.running == 0 && section.lines.iter().all(|line| line.keys.is_empty())
            });
            if idle {
                self.sections.remove(&name);
            } else {
                self.turns.push_back(name);
            }
            if taken.is_some() {
                return taken;
            }
        }
        None
    }

    fn take_from(&mut self, name: &str, limits: Limits) -> Option<K> {
        let Self {
            entries, sections, ..
        } = self;
        let section = sections.get_mut(name)?;
        if section.running >= limits.section {
            return None;
        }
        let mut order: Vec<usize> = (0..section.lines.len()).collect();
        // Whoever was passed over too often comes first.
        order.sort_by_key(|line| (section.lines[*line].passed_over < PATIENCE, *line));
        let running = &section.tenants;
        let (line, tenant, key) = order.into_iter().find_map(|line| {
            let (tenant, key) = take_in_turn(&mut section.lines[line], running, entries, limits.tenant)?;
            Some((line, tenant, key))
        })?;
        section.lines[line].passed_over = 0;
        for lower in &mut section.lines[line + 1..] {
            if !lower.keys.is_empty() {
                lower.passed_over += 1;
            }
        }
        section.running += 1;
        *section.tenants.entry(tenant).or_insert(0) += 1;
        self.running += 1;
        self.waiting -= 1;
        if let Some(entry) = entries.get_mut(&key) {
            entry.running = entry.waiting.take().map(|(_, ask)| ask);
        }
        Some(key)
    }

    fn done(&mut self, key: &K, next: Again) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        let Some(ask) = entry.running.take() else { return };
        let again = entry.again.take();
        self.running -= 1;
        if let Some(section) = self.sections.get_mut(&ask.section) {
            section.running -= 1;
            if let Some(count) = section.tenants.get_mut(&ask.tenant) {
                *count -= 1;
                if *count == 0 {
                    section.tenants.remove(&ask.tenant);
                }
            }
        }
        match (again, next) {
            (Some(again), _) => self.place(key.clone(), again),
            (None, Again::After(wait, priority)) => {
                self.tickets += 1;
                let (at, ticket) = (Instant::now() + wait, self.tickets);
                self.later.insert((at, ticket), key.clone());
                let later = Some((at, ticket, Ask { priority, ..ask }));
                self.entries.entry(key.clone()).or_default().later = later;
            }
            (None, Again::WhenAsked) => self.tidy(key),
        }
    }

    fn tidy(&mut self, key: &K) {
        let empty = self.entries.get(key).is_some_and(|entry| {
            let Entry {
                waiting,
                later,
                running,
                again,
            } = entry;
            waiting.is_none() && later.is_none() && running.is_none() && again.is_none()
        });
        if empty {
            self.entries.remove(key);
        }
    }
}

/// The next key of the tenant whose turn it is, and which has a slot left.
fn take_in_turn<K: Clone + Eq + Hash>(
    line: &mut Line<K>,
    running: &HashMap<String, usize>,
    entries: &HashMap<K, Entry>,
    limit: usize,
) -> Option<(String, K)> {
    for _ in 0..line.turns.len() {
        let tenant = line.turns.pop_front()?;
        let Some(keys) = line.keys.get_mut(&tenant) else {
            continue;
        };
        // Tickets of places that were given up.
        while keys
            .front()
            .is_some_and(|(ticket, key)| !holds(entries, key, *ticket))
        {
            keys.pop_front();
        }
        if keys.is_empty() {
            line.keys.remove(&tenant);
            continue;
        }
        if running.get(&tenant).is_some_and(|count| *count >= limit) {
            line.turns.push_back(tenant);
            continue;
        }
        let key = keys.pop_front().map(|(_, key)| key);
        if keys.is_empty() {
            line.keys.remove(&tenant);
        } else {
            line.turns.push_back(tenant.clone());
        }
        return key.map(|key| (tenant, key));
    }
    None
}

fn holds<K: Eq + Hash>(entries: &HashMap<K, Entry>, key: &K, ticket: u64) -> bool {
    let waiting = entries.get(key).and_then(|entry| entry.waiting.as_ref());
    waiting.is_some_and(|(held, _)| *held == ticket)
}

fn line_of(priority: Priority) -> usize {
    match priority {
        Priority::News => 0,
        Priority::Deletion => 1,
        Priority::Repair => 2,
    }
}

/// Works off a queue until `shutdown`; what is under way then is finished first. Each job is a task of its own: jobs
/// use all threads, and a panic in one hurts its own object alone.
pub async fn work<K, Job>(queue: Arc<Queue<K>>, shutdown: CancellationToken, job: impl Fn(K) -> Job + Send)
where
    K: Clone + Eq + Hash + Debug + Send + 'static,
    Job: Future<Output = Again> + Send + 'static,
{
    let mut jobs = FuturesUnordered::new();
    let ended = |(key, result): (K, Result<Again, tokio::task::JoinError>)| {
        let next = result.unwrap_or_else(|error| {
            tracing::error!(?key, %error, "work on an object ended abnormally");
            Again::After(AFTER_PANIC, Priority::Repair)
        });
        queue.done(&key, next);
    };
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(end) = jobs.next() => ended(end),
            key = queue.take() => {
                let task = tokio::spawn(job(key.clone()));
                jobs.push(async move { (key, task.await) });
            }
        }
    }
    while let Some(end) = jobs.next().await {
        ended(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Test = Queue<&'static str>;

    fn queue(section: usize, tenant: usize) -> Test {
        Queue::new(Limits { section, tenant }, LaneGauges::default())
    }

    fn ask(priority: Priority, section: &str, tenant: &str) -> Ask {
        Ask {
            priority,
            section: section.to_owned(),
            tenant: tenant.to_owned(),
        }
    }

    fn news(tenant: &str) -> Ask {
        ask(Priority::News, "", tenant)
    }

    /// Takes all that is there, one at a time.
    fn order(queue: &Test) -> Vec<&'static str> {
        std::iter::from_fn(|| {
            let key = queue.try_take()?;
            queue.done(&key, Again::WhenAsked);
            Some(key)
        })
        .collect()
    }

    #[tokio::test]
    async fn keys_keep_their_order_and_wait_once() {
        let queue = queue(1, 1);
        for key in ["a", "b", "a", "c", "b"] {
            queue.add(key, news("tools"));
        }
        assert_eq!(queue.waiting(), 3);
        assert_eq!(order(&queue), ["a", "b", "c"]);
        assert_eq!((queue.waiting(), queue.running()), (0, 0));
        assert!(
            queue.lock().entries.is_empty(),
            "nothing is kept of keys that are done"
        );
        assert!(queue.try_take().is_none());
        assert!(queue.lock().sections.is_empty());
    }

    #[tokio::test]
    async fn namespaces_take_turns() {
        let queue = queue(1, 1);
        for key in ["a1", "a2", "a3", "a4"] {
            queue.add(key, news("a"));
        }
        queue.add("b1", news("b"));
        queue.add("c1", news("c"));
        queue.add("b2", news("b"));
        assert_eq!(order(&queue), ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]);
    }

    #[tokio::test]
    async fn what_is_new_goes_first_and_what_waits_can_become_urgent() {
        let queue = queue(1, 1);
        queue.add("repair", ask(Priority::Repair, "", "a"));
        queue.add("deletion", ask(Priority::Deletion, "", "a"));
        queue.add("changed", ask(Priority::Repair, "", "a"));
        queue.add("new", news("a"));
        queue.add("changed", news("a"));
        // Less urgent news do not send it back.
        queue.add("changed", ask(Priority::Repair, "", "a"));
        assert_eq!(queue.waiting(), 4);
        assert_eq!(order(&queue), ["new", "changed", "deletion", "repair"]);
    }

    #[tokio::test]
    async fn no_line_starves() {
        let queue: Queue<u32> = Queue::new(Limits::total(1), LaneGauges::default());
        queue.add(1_000, ask(Priority::Deletion, "", "a"));
        queue.add(2_000, ask(Priority::Repair, "", "a"));
        let mut taken = Vec::new();
        for key in 0..40 {
            // More comes than can be done.
            queue.add(2 * key, news("a"));
            queue.add(2 * key + 1, news("b"));
            let key = queue.try_take().unwrap();
            queue.done(&key, Again::WhenAsked);
            taken.push(key);
        }
        let place = |key| taken.iter().position(|taken| *taken == key);
        assert!(place(1_000).is_some_and(|place| place < 12), "{taken:?}");
        assert!(place(2_000).is_some_and(|place| place < 20), "{taken:?}");
    }

    #[tokio::test]
    async fn a_section_that_hangs_holds_no_slot_of_another() {
        let queue = queue(2, 2);
        for key in ["a1", "a2", "a3"] {
            queue.add(key, ask(Priority::News, "hangs", "tools"));
        }
        assert_eq!(queue.try_take(), Some("a1"));
        assert_eq!(queue.try_take(), Some("a2"));
        assert_eq!(queue.try_take(), None, "its slots are in use");
        queue.add("b1", ask(Priority::Repair, "well", "tools"));
        assert_eq!(queue.try_take(), Some("b1"));
        assert_eq!((queue.waiting(), queue.running()), (1, 3));
        queue.done(&"a1", Again::WhenAsked);
        assert_eq!(queue.try_take(), Some("a3"));
    }

    #[tokio::test]
    async fn a_tenant_has_a_share() {
        let queue = queue(3, 1);
        queue.add("a1", news("a"));
        queue.add("a2", news("a"));
        queue.add("b1", news("b"));
        assert_eq!(queue.try_take(), Some("a1"));
        assert_eq!(queue.try_take(), Some("b1"));
        assert_eq!(queue.try_take(), None, "a has its share");
        queue.done(&"a1", Again::WhenAsked);
        assert_eq!(queue.try_take(), Some("a2"));
    }

    #[tokio::test]
    async fn what_asks_during_a_run_runs_again_and_never_at_once() {
        let queue = queue(9, 9);
        queue.add("a", news("tools"));
        assert_eq!(queue.try_take(), Some("a"));
        queue.add("a", news("tools"));
        assert_eq!(queue.try_take(), None);
        // Asked for meanwhile, so at once and not in an hour.
        queue.done(&"a", Again::After(Duration::from_hours(1), Priority::Repair));
        assert_eq!(order(&queue), ["a"]);
    }

    #[tokio::test]
    async fn what_comes_back_later_comes_then_or_when_asked() {
        let queue = queue(1, 1);
        let wait = Duration::from_millis(50);
        let begin = Instant::now();
        for key in ["a", "b"] {
            queue.add(key, news("tools"));
            assert_eq!(queue.take().await, key);
            queue.done(&key, Again::After(wait, Priority::Repair));
        }
        assert!(queue.comes_back(&"a"));
        queue.add("b", news("tools"));
        assert!(!queue.comes_back(&"b"), "it has come back already");
        assert_eq!(queue.take().await, "b");
        queue.done(&"b", Again::WhenAsked);
        assert_eq!(queue.take().await, "a");
        assert!(begin.elapsed() >= wait);
        queue.done(&"a", Again::After(Duration::from_hours(1), Priority::Repair));
        queue.remove(&"a");
        queue.pass_time();
        assert_eq!(queue.try_take(), None);
        assert!(queue.lock().entries.is_empty());
    }

    #[tokio::test]
    async fn a_panic_hurts_one_key_and_shutdown_waits_for_what_runs() {
        let queue: Arc<Test> = Arc::new(queue(3, 3));
        let shutdown = CancellationToken::new();
        let (sender, mut ended) = tokio::sync::mpsc::unbounded_channel();
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        for key in ["panics", "a", "b", "slow"] {
            queue.add(key, news("tools"));
        }
        let opened = Arc::clone(&gate);
        let worker = tokio::spawn(work(Arc::clone(&queue), shutdown.clone(), move |key| {
            let (sender, gate) = (sender.clone(), Arc::clone(&gate));
            async move {
                assert_ne!(key, "panics");
                if key == "slow" {
                    gate.acquire().await.unwrap().forget();
                }
                sender.send(key).unwrap();
                Again::WhenAsked
            }
        }));
        let mut first = [ended.recv().await.unwrap(), ended.recv().await.unwrap()];
        first.sort_unstable();
        assert_eq!(first, ["a", "b"]);
        while !queue.comes_back(&"panics") {
            tokio::task::yield_now().await;
        }
        shutdown.cancel();
        tokio::task::yield_now().await;
        queue.add("c", news("tools"));
        opened.add_permits(1);
        worker.await.unwrap();
        assert_eq!(ended.recv().await, Some("slow"));
        assert_eq!(ended.recv().await, None, "nothing new was begun");
    }

    /// A restart of a fleet of 5,000: each is looked at for 0.4 s in one of ten slots, which takes 200 s. One that is new
    /// comes after a second, and one of another namespace after ten.
    #[test]
    fn after_a_restart_what_is_new_does_not_wait_for_the_others() {
        const LOOK: u64 = 400;
        let queue: Queue<u32> = Queue::new(Limits::total(10), LaneGauges::default());
        for key in 0..5_000 {
            queue.add(key, ask(Priority::Repair, "", &format!("team-{}", key % 50)));
        }
        let arrivals = [(1_000, 9_998), (10_000, 9_999)];
        let mut under_way: Vec<(u64, u32)> = Vec::new();
        let mut waited = HashMap::new();
        let mut others = 0;
        for now in (0..300_000).step_by(100) {
            for (_, key) in under_way.extract_if(.., |(end, _)| *end <= now) {
                queue.done(&key, Again::WhenAsked);
                match arrivals.iter().find(|(_, arrived)| *arrived == key) {
                    Some((at, _)) => _ = waited.insert(key, now - at),
                    None => others += 1,
                }
            }
            for (_, key) in arrivals.iter().filter(|(at, _)| *at == now) {
                queue.add(*key, news("team-1"));
            }
            while let Some(key) = queue.try_take() {
                under_way.push((now + LOOK, key));
            }
        }
        assert_eq!(others, 5_000, "all are looked at");
        assert_eq!(waited.len(), 2);
        assert!(waited.values().all(|waited| *waited <= 2 * LOOK), "{waited:?}");
    }
}
