//! The registration lane, and what a pass asks of it. In: [`Valid`], [`Observed`] and the claim; out: a [`Course`]: what is
//! known at once, or a [`Wish`] for the lane. In the lane: a wish and what is remembered; out: [`Done`].
//!
//! It begins with the first pod that is ready, and goes on whatever becomes of them later: a pod that crashes is no reason
//! to take an API from its callers. The claim is in etcd before the first write.

use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Api, ResourceExt as _};
use mcp_fleet_crds::{GatewayChecks, LastWrite, ManagementPolicy, McpServer};
use url::Url;

use super::claim::Claim;
use super::deregister::{self, Deletion, remove};
use super::error::{InvalidServer, RegisterError};
use super::memory::{Checked, Memory, fingerprint};
use super::observe::Observed;
use super::triggers::concern;
use super::validate::{Backend, Gateway, Plan, ProbeMode, Registration, Valid};
use crate::azure::apim::{
    self, BackendChecks, Depth, Outcome, SecretReference, SecretString, ServerRegistration, ensure_server,
};
use crate::azure::clients::GatewayClients;
use crate::azure::gateway_secret::named_value;
use crate::condition::{find, is_true, types};
use crate::gateway;
use crate::kube_write::{release, set_claim};
use crate::runtime::context::Context;
use crate::runtime::queue::Priority;

/// How far registration has come.
#[derive(Clone, Debug)]
pub enum Progress {
    /// Not wanted, and nothing is left of an earlier one.
    Unregistered,
    /// What was registered under a leave that the platform has withdrawn is taken back.
    Withdrawn(InvalidServer),
    /// The spec is refused; what was registered before stays as it is.
    Refused(InvalidServer),
    /// Cannot begin; the text says what is awaited.
    Waiting(&'static str),
    /// The lane is at it, and nothing is known yet.
    UnderWay,
    /// The service is at work on it.
    Pending {
        what: String,
    },
    Registered(Box<Registered>),
    Failed(Arc<RegisterError>),
}

/// What a pass finds out about the registration without asking anybody.
#[derive(Debug)]
pub enum Course {
    Settled(Progress),
    Ask(Wish),
}

/// What the lane is to bring about.
#[derive(Clone, Debug)]
pub enum Wish {
    Register(Box<Wanted>),
    /// What is claimed goes, or stays as the policy says, and the claim goes. Then the server is as `after` says.
    Leave {
        claim: Box<Claim>,
        policy: ManagementPolicy,
        after: Box<Progress>,
        circumstances: u64,
    },
    /// The same, and the object with it. The generation is that of the policy.
    Delete {
        gateway: Option<String>,
        generation: i64,
        circumstances: u64,
    },
}

/// A registration as it is to be.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub registered: Registered,
    /// What becomes of a registration elsewhere.
    policy: ManagementPolicy,
    desired: ServerRegistration,
    /// Of everything outside the wish that may make another try worth while.
    circumstances: u64,
}

/// What the lane brought about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    Registered,
    Left,
    Deleted,
    /// The service is at work on it.
    Pending {
        what: String,
    },
}

impl Wish {
    pub fn fingerprint(&self) -> u64 {
        match self {
            Self::Register(wanted) => wanted.registered.fingerprint,
            Self::Leave { claim, policy, .. } => fingerprint(&(claim, policy)),
            Self::Delete { generation, .. } => fingerprint(&("delete", generation)),
        }
    }

    pub fn circumstances(&self) -> u64 {
        match self {
            Self::Register(wanted) => wanted.circumstances,
            Self::Leave { circumstances, .. } | Self::Delete { circumstances, .. } => *circumstances,
        }
    }

    /// Whose slots it uses.
    pub fn gateway(&self) -> &str {
        match self {
            Self::Register(wanted) => &wanted.registered.gateway.name,
            Self::Leave { claim, .. } => &claim.gateway,
            Self::Delete { gateway, .. } => gateway.as_deref().unwrap_or_default(),
        }
    }

    pub fn is_deletion(&self) -> bool {
        matches!(self, Self::Delete { .. })
    }

    /// Of another try.
    pub fn priority(&self) -> Priority {
        if self.is_deletion() {
            Priority::Deletion
        } else {
            Priority::Repair
        }
    }

    /// Of an object that is being deleted.
    pub fn delete(context: &Context, server: &McpServer) -> Self {
        let gateway = Claim::of(server).map(|claim| claim.gateway);
        Self::Delete {
            circumstances: circumstances(context, gateway.as_deref().unwrap_or_default()),
            gateway,
            generation: server.metadata.generation.unwrap_or(0),
        }
    }

    /// Whether status tells of just this; so much is taken for true until the lane has looked itself.
    pub fn is_told(&self, server: &McpServer) -> bool {
        let (Self::Register(wanted), Some(status)) = (self, &server.status) else {
            return false;
        };
        let registered = &wanted.registered;
        is_true(&status.conditions, types::REGISTERED)
            && Claim::of(server).as_ref() == Some(&registered.claim)
            && status.gateway.as_ref().is_some_and(|told| {
                told.path.as_ref() == Some(&registered.path)
                    && told.api_id.as_ref() == Some(&registered.claim.api)
            })
    }
}

/// Whether a condition was judged for the spec as it is: what is looked at again lets others go first.
pub fn was_judged(server: &McpServer, type_: &str) -> bool {
    let status = server.status.as_ref();
    status
        .and_then(|status| find(&status.conditions, type_))
        .is_some_and(|found| {
            found.status != "Unknown" && found.observed_generation == server.metadata.generation
        })
}

fn circumstances(context: &Context, gateway: &str) -> u64 {
    let gateway = context.caches.gateways.get(None, gateway);
    gateway.map_or(0, |gateway| concern(&gateway))
}

/// A server that is registered as it should be.
#[derive(Clone, Debug)]
pub struct Registered {
    pub gateway: Gateway,
    pub clients: GatewayClients,
    pub claim: Claim,
    pub path: String,
    pub key_header: String,
    /// What was written and is not in status yet.
    pub untold: Option<LastWrite>,
    /// Of everything that was asked for.
    pub fingerprint: u64,
    pub probe_key: Option<SecretString>,
}

/// What is to be done about the registration.
pub fn course(
    context: &Context,
    server: &McpServer,
    valid: &Valid,
    observed: &Observed,
) -> Result<Course, RegisterError> {
    let claim = Claim::of(server);
    let leave = |claim: Option<Claim>, policy, after| match claim {
        None => Course::Settled(after),
        Some(claim) => Course::Ask(Wish::Leave {
            circumstances: circumstances(context, &claim.gateway),
            claim: Box::new(claim),
            policy,
            after: Box::new(after),
        }),
    };
    let registration = match &valid.registration {
        Ok(Plan::Register(registration)) => registration,
        Ok(Plan::Unregistered { policy }) => return Ok(leave(claim, *policy, Progress::Unregistered)),
        Err(refusal) if refusal.revokes() => {
            return Ok(leave(
                claim,
                ManagementPolicy::Manage,
                Progress::Withdrawn(refusal.clone()),
            ));
        }
        Err(refusal) => return Ok(Course::Settled(Progress::Refused(refusal.clone()))),
    };
    // First, and without a word on the address: Available tells of that, and a message that changes is a write.
    if claim.is_none() && observed.ready_replicas == 0 {
        return Ok(Course::Settled(Progress::Waiting(
            "the workload has not been ready yet",
        )));
    }
    let Some(backend_url) = backend_url(valid, registration, observed)? else {
        return Ok(Course::Settled(Progress::Waiting(
            "the load balancer has no address yet",
        )));
    };
    let clients = context
        .arm
        .get(&registration.gateway.object)
        .map_err(|source| RegisterError::Connect { source })?;
    let uid = &valid.identity.uid;
    let claim = Claim::new(
        uid,
        &registration.gateway.name,
        clients.arm.target(),
        &registration.ids,
    );
    // Without required subscriptions nobody needs a key, the probe neither.
    let probe_key = probe_key(context, registration, &clients, &claim, uid)
        .filter(|_| registration.subscription_required);
    // The gateway's controller looks after a key that is for all servers.
    let own_key = probe_key
        .clone()
        .filter(|_| registration.gateway.probe == ProbeMode::PerServer);
    let object = &registration.gateway.object;
    let has_secret = object
        .status
        .as_ref()
        .is_some_and(|status| status.secret.is_some());
    if valid.secret_header.is_some() && !has_secret {
        let what = "the McpGateway has no secret to send yet: see its condition Registered";
        return Ok(Course::Settled(Progress::Waiting(what)));
    }
    let desired = desired(registration, valid, backend_url, own_key);
    Ok(Course::Ask(Wish::Register(Box::new(Wanted {
        registered: Registered {
            gateway: registration.gateway.clone(),
            clients,
            path: registration.path.clone(),
            key_header: registration.key_header.clone(),
            untold: None,
            fingerprint: fingerprint(&(&desired, &claim)),
            claim,
            probe_key,
        },
        policy: registration.policy,
        desired,
        circumstances: concern(&registration.gateway.object),
    }))))
}

/// The lane's work on one wish. `server` is fresh from the cache.
pub async fn fulfil(
    context: &Context,
    server: &McpServer,
    wish: &Wish,
    memory: &mut Memory,
) -> Result<Done, RegisterError> {
    match wish {
        Wish::Register(wanted) => register(context, server, wanted, memory).await,
        Wish::Leave { claim, policy, .. } => unregister(context, server, claim, *policy, memory).await,
        Wish::Delete { .. } => Ok(match deregister::deregister(context, server).await? {
            Deletion::Done => Done::Deleted,
            Deletion::Pending { what } => Done::Pending { what },
        }),
    }
}

async fn register(
    context: &Context,
    server: &McpServer,
    wanted: &Wanted,
    memory: &mut Memory,
) -> Result<Done, RegisterError> {
    let Registered {
        claim,
        clients,
        fingerprint,
        ..
    } = &wanted.registered;
    // A gateway that only has another name by now is no move.
    if let Some(claimed) = Claim::of(server).filter(|claimed| !claimed.is_same_place(claim)) {
        // Its former gateway is gone, or the gateway is for another service by now.
        if let Some(what) = leave(context, server, &claimed, wanted.policy).await? {
            return Ok(Done::Pending { what });
        }
        *memory = Memory::default();
    }
    take_claim(context, server, claim).await?;
    may_write(context, server)?;
    match ensure(clients, &wanted.desired, *fingerprint, memory).await? {
        Ensured::Pending(what) => Ok(Done::Pending { what }),
        Ensured::InLine(written) => {
            remember(memory, written);
            Ok(Done::Registered)
        }
    }
}

enum Ensured {
    Pending(String),
    /// With what was written, if anything was.
    InLine(Option<String>),
}

/// Asks the service, and writes where it is not as it should be.
async fn ensure(
    clients: &GatewayClients,
    desired: &ServerRegistration,
    fingerprint: u64,
    memory: &mut Memory,
) -> Result<Ensured, RegisterError> {
    let known = memory
        .registered
        .filter(|checked| checked.fingerprint == fingerprint);
    let depth = match known {
        _ if memory.repair => Depth::Repair,
        Some(_) if memory.progress.is_none() => Depth::Drift { round: memory.round },
        _ => Depth::Full,
    };
    let progress = memory.progress.take();
    // Whatever happens from here on, what was known may no longer be so.
    memory.registered = None;
    let outcome = ensure_server(&clients.arm, desired, depth, progress)
        .await
        .inspect_err(|_| {
            // A drift check that got no answer is taken up where it stood.
            if matches!(depth, Depth::Drift { .. }) {
                memory.registered = known;
            }
        })
        .map_err(|source| RegisterError::Registration { source })?;
    match outcome {
        Outcome::Pending(operation) => {
            let what = operation.resource.clone();
            memory.progress = Some(operation);
            Ok(Ensured::Pending(what))
        }
        Outcome::Done(apim::Registered { changed, .. }) => {
            memory.registered = Some(Checked::new(fingerprint, Instant::now()));
            memory.asked = true;
            memory.round = memory.round.wrapping_add(1);
            memory.repair = false;
            Ok(Ensured::InLine((!changed.is_empty()).then(|| changed.join(", "))))
        }
    }
}

/// Keeps what was written until status tells it.
fn remember(memory: &mut Memory, written: Option<String>) {
    let Some(what) = written else { return };
    let what = match memory.untold.take() {
        Some(before) => format!("{}, {what}", before.what),
        None => what,
    };
    memory.untold = Some(LastWrite {
        time: Time(super::now()),
        what,
    });
}

/// Whoever has lost the lease must not write to the gateway either.
pub fn may_write(context: &Context, server: &McpServer) -> Result<(), RegisterError> {
    let checked = context
        .writer
        .check_lease("register", "McpServer", &server.name_any());
    checked.map_err(|source| RegisterError::Claim { source })
}

async fn take_claim(context: &Context, server: &McpServer, claim: &Claim) -> Result<(), RegisterError> {
    let text = serde_json::to_string(claim).map_err(|source| RegisterError::Json { source })?;
    let api = api(context, server);
    set_claim(&context.writer, &api, server, &text)
        .await
        .map_err(|source| RegisterError::Claim { source })?;
    Ok(())
}

/// Takes back what is claimed, and the claim.
async fn unregister(
    context: &Context,
    server: &McpServer,
    claim: &Claim,
    policy: ManagementPolicy,
    memory: &mut Memory,
) -> Result<Done, RegisterError> {
    if let Some(what) = leave(context, server, claim, policy).await? {
        return Ok(Done::Pending { what });
    }
    *memory = Memory::default();
    // The finalizer goes with the claim: there is nothing left to wait for.
    let api = api(context, server);
    let name = server.name_any();
    let fresh = crate::kube_write::limited("get", "McpServer", &name, api.get(&name)).await;
    let fresh = fresh.map_err(|source| RegisterError::Read { server: name, source })?;
    // One of the same name that was made anew has nothing of this one.
    if fresh.uid() == server.uid() {
        release(&context.writer, &api, &fresh)
            .await
            .map_err(|source| RegisterError::Claim { source })?;
    }
    Ok(Done::Left)
}

/// Takes a claimed registration away, unless it is to be left. Some while the service is at it.
async fn leave(
    context: &Context,
    server: &McpServer,
    claim: &Claim,
    policy: ManagementPolicy,
) -> Result<Option<String>, RegisterError> {
    match policy {
        ManagementPolicy::Orphan => Ok(None),
        ManagementPolicy::Manage => remove(context, server, claim).await,
    }
}

fn api(context: &Context, server: &McpServer) -> Api<McpServer> {
    Api::namespaced(
        context.writer.client.clone(),
        &server.namespace().unwrap_or_default(),
    )
}

/// Where the gateway finds the server; None while that is not known.
fn backend_url(
    valid: &Valid,
    registration: &Registration,
    observed: &Observed,
) -> Result<Option<Url>, RegisterError> {
    if let Backend::Url(url) = &registration.backend {
        return Ok(Some(url.clone()));
    }
    if !valid.exposure.has_load_balancer() {
        return Ok(None);
    }
    let Some(host) = &observed.address else {
        return Ok(None);
    };
    // Url leaves the port out where it is the scheme's own.
    let scheme = if valid.https() { "https" } else { "http" };
    let address = format!("{scheme}://{host}:{}", valid.exposure.port);
    Url::parse(&address)
        .map(Some)
        .map_err(|source| RegisterError::BackendUrl { address, source })
}

fn probe_key(
    context: &Context,
    registration: &Registration,
    clients: &GatewayClients,
    claim: &Claim,
    uid: &str,
) -> Option<SecretString> {
    let Gateway { probe, object, .. } = &registration.gateway;
    match probe {
        ProbeMode::PerServer => Some(SecretString::new(context.probe_keys.derive(&claim.api, uid))),
        ProbeMode::AllApis { .. } => Some(gateway::probe_key(
            object,
            clients.arm.target(),
            &context.probe_keys,
        )),
        ProbeMode::None => None,
    }
}

fn backend_checks(valid: &Valid) -> BackendChecks {
    match valid.tls.as_ref().map(|tls| tls.gateway_checks) {
        None | Some(GatewayChecks::ChainAndName) => BackendChecks::ALL,
        Some(GatewayChecks::Chain) => BackendChecks {
            chain: true,
            name: false,
        },
        Some(GatewayChecks::Nothing) => BackendChecks {
            chain: false,
            name: false,
        },
    }
}

fn desired(
    registration: &Registration,
    valid: &Valid,
    backend_url: Url,
    probe_key: Option<SecretString>,
) -> ServerRegistration {
    let Registration {
        gateway,
        owner,
        ids,
        path,
        display_name,
        description,
        backend,
        policy: _,
        subscription_required,
        key_header,
        timeout_seconds,
        rate_limit,
        cors,
    } = registration.clone();
    let secret = valid.secret_header.clone().map(|header| SecretReference {
        named_value: named_value(&gateway.object),
        header,
    });
    let identity = &valid.identity;
    // Over TLS the name is part of what is checked, so the URL's stays.
    let by_service = backend == Backend::LoadBalancer && !valid.https();
    ServerRegistration {
        owner,
        ids,
        path,
        display_name,
        description,
        backend_url,
        backend_checks: backend_checks(valid),
        backend_host: by_service.then(|| format!("{}.{}.svc", identity.name, identity.namespace)),
        transports: valid.transports.clone(),
        subscription_required,
        key_header,
        timeout_seconds,
        rate_limit,
        cors,
        secret,
        probe_key,
    }
}
