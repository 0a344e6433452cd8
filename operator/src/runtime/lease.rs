//! The lease: only its holder writes. In: a client and the lease's name and length. Out: [`Lease`], asked before
//! each write.
//!
//! The lease manager tells when the lease changes hands, but while the API server cannot be reached it tells
//! nothing. So the holder also reads the Lease itself: what it last saw there, plus the length of the lease, is how
//! long it may write. When that time is over, or the task that renews ends, the process must end: a controller that
//! has lost its lease is worse than none.
//!
//! The lease has one place in the cluster, so that a second release of the operator meets the first one there. It does not
//! compete: as long as the first one was heard of lately, it waits and says for whom.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use kube_lease_manager::{LeaseManagerBuilder, LeaseManagerError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::constants::{LEASE, annotations, field_managers};
use crate::runtime::http::Readiness;

/// A release that is silent for so long is given up: longer than any upgrade of it takes.
const GIVEN_UP: Duration = Duration::from_mins(5);
/// Between two looks at another release's lease.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Of one request for the lease.
const LIMIT: Duration = Duration::from_secs(10);

/// The lease was not taken, or not kept.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    #[error("failed to prepare the lease {lease}: {source}")]
    Prepare {
        lease: String,
        source: Box<LeaseManagerError>,
    },
    #[error("the lease {lease} was lost")]
    Lost { lease: String },
    #[error("the task that renews the lease {lease} ended")]
    Ended { lease: String },
}

/// How long the lease lasts, where it is, and for whom.
#[derive(Clone, Debug)]
pub struct LeaseSettings {
    pub namespace: String,
    pub identity: String,
    /// namespace/name of the release that this process belongs to.
    pub release: String,
    pub seconds: u64,
}

impl LeaseSettings {
    /// The lease, as messages name it.
    fn lease(&self) -> String {
        format!("{}/{LEASE}", self.namespace)
    }
}

/// Whether this process may write. Cheap to ask and to clone.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Milliseconds since the epoch.
    valid_until: Arc<AtomicI64>,
}

impl Lease {
    pub fn is_held(&self) -> bool {
        Timestamp::now().as_millisecond() < self.valid_until.load(Ordering::Acquire)
    }

    /// A lease that is always held, for tests and for tools that run alone.
    pub fn always() -> Self {
        Self {
            valid_until: Arc::new(AtomicI64::new(i64::MAX)),
        }
    }
}

/// The task that keeps the lease. Dropping it without [`Keeper::release`] leaves the lease to expire.
#[derive(Debug)]
pub struct Keeper {
    settings: LeaseSettings,
    api: Api<LeaseObject>,
    lease: Lease,
    held: watch::Receiver<bool>,
    task: JoinHandle<Result<kube_lease_manager::LeaseManager, LeaseManagerError>>,
}

/// Takes the lease; returns when this process holds it. While another release has it, `readiness` says so.
pub async fn acquire(
    client: Client,
    settings: LeaseSettings,
    readiness: &Readiness,
) -> Result<(Lease, Keeper), LeaseError> {
    let api = Api::namespaced(client.clone(), &settings.namespace);
    wait_for_other_release(&api, &settings, readiness).await;
    let prepared = LeaseManagerBuilder::new(client, LEASE)
        .with_namespace(&settings.namespace)
        .with_identity(&settings.identity)
        .with_duration(settings.seconds)
        .with_grace((settings.seconds / 3).max(1))
        .build()
        .await;
    let manager = prepared.map_err(|source| LeaseError::Prepare {
        lease: settings.lease(),
        source: Box::new(source),
    })?;
    let (held, task) = manager.watch().await;
    let lease = Lease {
        valid_until: Arc::new(AtomicI64::new(0)),
    };
    let mut keeper = Keeper {
        settings,
        api,
        lease: lease.clone(),
        held,
        task,
    };
    let name = keeper.settings.lease();
    tracing::info!(
        lease = name,
        identity = keeper.settings.identity,
        "waiting for the lease"
    );
    loop {
        if *keeper.held.borrow_and_update() {
            keeper.look().await;
            if lease.is_held() {
                tracing::info!(lease = name, "the lease is held");
                keeper.name_release().await;
                return Ok((lease, keeper));
            }
        }
        tokio::select! {
            changed = keeper.held.changed() => changed.map_err(|_| keeper.ended())?,
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
        }
    }
}

impl Keeper {
    /// Keeps the lease. Returns only when it is lost, and always with an error.
    pub async fn keep(&mut self) -> LeaseError {
        let every = Duration::from_millis(self.settings.seconds * 1000 / 5);
        loop {
            tokio::select! {
                changed = self.held.changed() => {
                    if changed.is_err() {
                        return self.ended();
                    }
                }
                () = tokio::time::sleep(every) => {}
            }
            self.look().await;
            if !*self.held.borrow() || !self.lease.is_held() {
                self.lease.valid_until.store(0, Ordering::Release);
                return LeaseError::Lost {
                    lease: self.settings.lease(),
                };
            }
            if self.task.is_finished() {
                self.lease.valid_until.store(0, Ordering::Release);
                return self.ended();
            }
        }
    }

    /// Gives the lease back, so that the next process need not wait for it to expire.
    pub async fn release(self) {
        let Self {
            settings,
            lease,
            held,
            task,
            ..
        } = self;
        lease.valid_until.store(0, Ordering::Release);
        drop(held);
        match tokio::time::timeout(Duration::from_secs(5), task).await {
            Ok(Ok(Ok(_))) => tracing::info!(lease = settings.lease(), "the lease is released"),
            Ok(Ok(Err(error))) => {
                tracing::warn!(lease = settings.lease(), %error, "failed to release the lease");
            }
            Ok(Err(error)) => tracing::warn!(lease = settings.lease(), %error, "the lease task ended badly"),
            Err(_) => tracing::warn!(lease = settings.lease(), "no answer while the lease was released"),
        }
    }

    async fn look(&self) {
        let limit = Duration::from_millis(self.settings.seconds * 1000 / 3);
        match tokio::time::timeout(limit, self.api.get(LEASE)).await {
            Ok(Ok(object)) => {
                let until = valid_until(&object, &self.settings.identity);
                self.lease.valid_until.store(until, Ordering::Release);
            }
            Ok(Err(error)) => {
                tracing::warn!(lease = self.settings.lease(), %error, "failed to read the lease");
            }
            Err(_) => tracing::warn!(
                lease = self.settings.lease(),
                "no answer while the lease was read"
            ),
        }
    }

    /// Writes into the lease whose it is. Without it the next release that comes competes like a replica of this one.
    async fn name_release(&self) {
        let release = &self.settings.release;
        let patch = serde_json::json!({"metadata": {"annotations": {annotations::RELEASE: release}}});
        let parameters = PatchParams {
            field_manager: Some(field_managers::CLAIM.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(patch);
        match tokio::time::timeout(LIMIT, self.api.patch(LEASE, &parameters, &patch)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(lease = self.settings.lease(), %error, "failed to name the release in the lease");
            }
            Err(_) => tracing::warn!(
                lease = self.settings.lease(),
                "no answer while the lease was named"
            ),
        }
    }

    fn ended(&self) -> LeaseError {
        LeaseError::Ended {
            lease: self.settings.lease(),
        }
    }
}

/// Returns when no other release holds the lease, or has held it lately.
async fn wait_for_other_release(api: &Api<LeaseObject>, settings: &LeaseSettings, readiness: &Readiness) {
    let mut said = None;
    loop {
        let other = match tokio::time::timeout(LIMIT, api.get_opt(LEASE)).await {
            Ok(Ok(object)) => {
                object.and_then(|object| other_release(&object, &settings.release, Timestamp::now()))
            }
            // Whoever cannot read the lease cannot take it either; what follows says so.
            Ok(Err(_)) | Err(_) => None,
        };
        let now = other.map(|other| {
            format!(
                "the end of release {other}, which works in this cluster already (lease {}): uninstall one of the two",
                settings.lease()
            )
        });
        if now != said {
            if let Some(before) = said.take() {
                readiness.arrived(&before);
            }
            if let Some(text) = &now {
                tracing::error!("waiting for {text}");
                readiness.await_(text);
            }
        }
        if now.is_none() {
            return;
        }
        said = now;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The release that has the lease, if it is not this one and was heard of lately.
fn other_release(object: &LeaseObject, own: &str, now: Timestamp) -> Option<String> {
    let release = object.annotations().get(annotations::RELEASE)?;
    let renewed = object.spec.as_ref()?.renew_time.as_ref()?.0;
    let fresh = now.duration_since(renewed).unsigned_abs() < GIVEN_UP;
    (release != own && fresh).then(|| release.clone())
}

/// Until when, in milliseconds since the epoch, a Lease object lets `identity` write.
fn valid_until(object: &LeaseObject, identity: &str) -> i64 {
    let Some(spec) = &object.spec else { return 0 };
    if spec.holder_identity.as_deref() != Some(identity) {
        return 0;
    }
    let renewed = spec.renew_time.as_ref().map_or(0, |time| time.0.as_millisecond());
    renewed + i64::from(spec.lease_duration_seconds.unwrap_or(0)) * 1000
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::coordination::v1::LeaseSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    use super::*;

    #[test]
    fn another_release_is_waited_for_while_it_was_heard_of_lately() {
        let held = |release: &str, renewed: i64| LeaseObject {
            metadata: kube::api::ObjectMeta {
                annotations: Some([(annotations::RELEASE.to_owned(), release.to_owned())].into()),
                ..kube::api::ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                renew_time: Some(MicroTime(Timestamp::from_second(renewed).unwrap())),
                ..LeaseSpec::default()
            }),
        };
        let now = Timestamp::from_second(1000).unwrap();
        let other = |object: &LeaseObject| other_release(object, "b/fleet", now);
        assert_eq!(other(&held("a/fleet", 990)).as_deref(), Some("a/fleet"));
        // Between two of its pods nobody holds the lease.
        assert_eq!(other(&held("a/fleet", 800)).as_deref(), Some("a/fleet"));
        assert_eq!(other(&held("a/fleet", 600)), None);
        assert_eq!(other(&held("b/fleet", 990)), None);
        assert_eq!(other(&LeaseObject::default()), None);
    }

    #[test]
    fn only_the_holder_may_write_and_not_for_ever() {
        let object = LeaseObject {
            spec: Some(LeaseSpec {
                holder_identity: Some("a".to_owned()),
                lease_duration_seconds: Some(15),
                renew_time: Some(MicroTime(Timestamp::from_second(100).unwrap())),
                ..LeaseSpec::default()
            }),
            ..LeaseObject::default()
        };
        assert_eq!(valid_until(&object, "a"), 115_000);
        assert_eq!(valid_until(&object, "b"), 0);
        assert_eq!(valid_until(&LeaseObject::default(), "a"), 0);
        assert!(Lease::always().is_held());
    }
}
