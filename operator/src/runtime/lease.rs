//! The lease: only its holder writes. In: a client and the lease's name and length. Out: [`Lease`], asked before
//! each write.
//!
//! The lease manager tells when the lease changes hands, but while the API server cannot be reached it tells
//! nothing. So the holder also reads the Lease itself: what it last saw there, plus the length of the lease, is how
//! long it may write. When that time is over, or the task that renews ends, the process must end: a controller that
//! has lost its lease is worse than none.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use kube::{Api, Client};
use kube_lease_manager::{LeaseManagerBuilder, LeaseManagerError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The lease was not taken, or not kept.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    #[error("failed to prepare the lease {name}: {source}")]
    Prepare {
        name: String,
        source: Box<LeaseManagerError>,
    },
    #[error("the lease {name} was lost")]
    Lost { name: String },
    #[error("the task that renews the lease {name} ended")]
    Ended { name: String },
}

/// Which lease, how long, for whom.
#[derive(Clone, Debug)]
pub struct LeaseSettings {
    pub namespace: String,
    pub name: String,
    pub identity: String,
    pub seconds: u64,
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

/// Takes the lease; returns when this process holds it.
pub async fn acquire(client: Client, settings: LeaseSettings) -> Result<(Lease, Keeper), LeaseError> {
    let api = Api::namespaced(client.clone(), &settings.namespace);
    let prepared = LeaseManagerBuilder::new(client, &settings.name)
        .with_namespace(&settings.namespace)
        .with_identity(&settings.identity)
        .with_duration(settings.seconds)
        .with_grace((settings.seconds / 3).max(1))
        .build()
        .await;
    let manager = prepared.map_err(|source| LeaseError::Prepare {
        name: settings.name.clone(),
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
    tracing::info!(
        lease = keeper.settings.name,
        identity = keeper.settings.identity,
        "waiting for the lease"
    );
    loop {
        if *keeper.held.borrow_and_update() {
            keeper.look().await;
            if lease.is_held() {
                tracing::info!(lease = keeper.settings.name, "the lease is held");
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
                    name: self.settings.name.clone(),
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
            Ok(Ok(Ok(_))) => tracing::info!(lease = settings.name, "the lease is released"),
            Ok(Ok(Err(error))) => {
                tracing::warn!(lease = settings.name, %error, "failed to release the lease");
            }
            Ok(Err(error)) => tracing::warn!(lease = settings.name, %error, "the lease task ended badly"),
            Err(_) => tracing::warn!(lease = settings.name, "no answer while the lease was released"),
        }
    }

    async fn look(&self) {
        let limit = Duration::from_millis(self.settings.seconds * 1000 / 3);
        match tokio::time::timeout(limit, self.api.get(&self.settings.name)).await {
            Ok(Ok(object)) => {
                let until = valid_until(&object, &self.settings.identity);
                self.lease.valid_until.store(until, Ordering::Release);
            }
            Ok(Err(error)) => tracing::warn!(lease = self.settings.name, %error, "failed to read the lease"),
            Err(_) => tracing::warn!(lease = self.settings.name, "no answer while the lease was read"),
        }
    }

    fn ended(&self) -> LeaseError {
        LeaseError::Ended {
            name: self.settings.name.clone(),
        }
    }
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
