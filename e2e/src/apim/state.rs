//! Everything that the planes of one stand-in share.
//! In: the configuration. Out: one locked state, brought up to date with the clock whenever it is taken.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use super::arm::limits::Limits;
use super::arm::schema::Schemas;
use super::arm::throttle::Throttle;
use super::config::Config;
use super::fault::{Action, Faults, Plane};
use super::gateway::limit::Counts;
use super::journal::Journal;
use super::keys::KeyCache;
use super::kind::Kind;
use super::policy::facts::PolicyFacts;
use super::policy::xml::{Format, parse};
use super::store::{Document, Store, World};
use super::switches::Switches;

/// Which planes end every connection without an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Down {
    pub arm: bool,
    pub token: bool,
    pub gateway: bool,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) switches: Switches,
    pub(crate) faults: Faults,
    pub(crate) journal: Journal,
    pub(crate) throttle: Throttle,
    pub(crate) down: Down,
    pub(crate) counts: Counts,
    /// Signs the access tokens; a new one makes all issued tokens invalid.
    pub(crate) token_secret: String,
}

impl State {
    pub(crate) fn gateway_delay(&self) -> Duration {
        Duration::from_millis(self.switches.gateway_delay_millis)
    }

    fn new(switches: Switches, throttle: Throttle) -> Self {
        Self {
            store: Store::new(first_world()),
            switches,
            faults: Faults::default(),
            journal: Journal::default(),
            throttle,
            down: Down::default(),
            counts: Counts::default(),
            token_secret: new_secret(),
        }
    }
}

pub(crate) fn new_secret() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) limits: Limits,
    pub(crate) facts: PolicyFacts,
    pub(crate) schemas: Option<Schemas>,
    pub(crate) keys: KeyCache,
    pub(crate) default_policy: Arc<Document>,
    state: Mutex<State>,
}

impl Shared {
    pub(crate) fn new(config: Config) -> anyhow::Result<Self> {
        Ok(Self {
            limits: Limits::load()?,
            facts: PolicyFacts::load()?,
            schemas: config.schemas.as_deref().map(Schemas::load).transpose()?,
            keys: KeyCache::new(config.keys.clone()),
            default_policy: Arc::new(default_policy()),
            state: Mutex::new(State::new(config.switches.clone(), Throttle::new(Instant::now()))),
            config,
        })
    }

    /// The state as of now: operations that are due have ended.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let delay = state.gateway_delay();
        state.store.settle(Instant::now(), delay);
        state
    }

    /// Back to the first state, with the switches it was started with.
    pub(crate) fn reset(&self) {
        let mut state = self.lock();
        let secret = state.token_secret.clone();
        *state = State::new(self.config.switches.clone(), Throttle::new(Instant::now()));
        state.token_secret = secret;
    }

    /// What a test wants to happen to this request; `None` for the usual.
    pub(crate) fn fault(&self, plane: Plane, method: &str, path: &str) -> Option<Action> {
        let mut state = self.lock();
        let down = match plane {
            Plane::Arm => state.down.arm,
            Plane::Token => state.down.token,
            Plane::Gateway => state.down.gateway,
        };
        if down {
            Some(Action::CutBefore)
        } else {
            state.faults.next(plane, method, path)
        }
    }
}

/// A new service has the built-in groups.
fn first_world() -> World {
    let mut world = World::default();
    for (name, title) in [
        ("administrators", "Administrators"),
        ("developers", "Developers"),
        ("guests", "Guests"),
    ] {
        let group = json!({"displayName": title, "builtIn": true, "type": "system"});
        world.insert(Document::new(
            Kind::Group,
            format!("groups/{name}"),
            json_map(&group),
        ));
    }
    world
}

/// What the gateway does as long as the service has no global policy of its own (recorded: there is no document).
fn default_policy() -> Document {
    let text =
        "<policies><inbound /><backend><forward-request /></backend><outbound /><on-error /></policies>";
    let mut policy = Document::new(Kind::GlobalPolicy, "policies/policy", Map::new());
    policy.policies = parse(text, Format::Xml).ok().map(Arc::new);
    policy
}

pub(crate) fn json_map(value: &serde_json::Value) -> super::store::Properties {
    value.as_object().cloned().unwrap_or_default()
}
