//! Any number of replicas behind one Service: who owns a stream, and how a message gets there.
//!
//! The id of an SSE stream is an encrypted note to ourselves: the address of the replica that holds it, the nonce of that
//! process's life, and 128 random bits. Every replica has the key, so whichever one gets the POST reads where it belongs.

pub mod forward;
pub mod keys;
pub mod peer;
pub mod session_id;
mod signature;

use aws_lc_rs::rand;
use forward::Forwarder;
use keys::{KeyError, Keys};
use session_id::SessionId;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

/// This process among its replicas.
#[derive(Debug)]
pub struct Replica {
    /// The pod's address; unspecified when unknown, which no other replica can be asked at.
    address: IpAddr,
    /// Distinguishes this process from an earlier one at the same address.
    boot: u64,
    /// What seals ids and signs messages.
    pub keys: Arc<Keys>,
    /// To the other replicas, when they can be reached.
    pub forwarder: Option<Forwarder>,
}

/// Where a stream lives.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// Here, if it is still open.
    Here(u128),
    /// At another replica, if that is still alive.
    Elsewhere(IpAddr),
    /// Nowhere that we could know of.
    Nowhere,
}

impl Replica {
    /// Join the replicas that share `key_file`; without one, or without an address of our own, be alone.
    pub fn join(
        address: Option<IpAddr>,
        key_file: Option<&Path>,
        peer_port: u16,
    ) -> Result<Replica, KeyError> {
        let keys = Arc::new(key_file.map_or_else(Keys::random, Keys::from_file)?);
        let forwarder = (key_file.is_some() && address.is_some()).then(|| Forwarder::to_port(peer_port));
        let mut boot = [0; 8];
        rand::fill(&mut boot).map_err(|_| KeyError::Random)?;
        let address = address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        Ok(Replica {
            address,
            boot: u64::from_be_bytes(boot),
            keys,
            forwarder,
        })
    }

    /// A new id for a stream of ours, and the random part that it is known by here.
    pub fn name_stream(&self) -> Result<(u128, String), KeyError> {
        let mut token = [0; 16];
        rand::fill(&mut token).map_err(|_| KeyError::Random)?;
        let token = u128::from_be_bytes(token);
        let id = SessionId {
            owner: self.address,
            boot: self.boot,
            token,
        };
        Ok((token, session_id::seal(&self.keys.ring(), id)?))
    }

    /// Where the stream with this id lives.
    pub fn locate(&self, id: &str) -> Place {
        let Some(id) = session_id::open(&self.keys.ring(), id) else {
            return Place::Nowhere;
        };
        if id.owner == self.address {
            // Another process had this address before us.
            return if id.boot == self.boot {
                Place::Here(id.token)
            } else {
                Place::Nowhere
            };
        }
        if self.forwarder.is_some() && !id.owner.is_unspecified() {
            Place::Elsewhere(id.owner)
        } else {
            Place::Nowhere
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_knows_its_own_streams_and_whose_the_others_are() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("current");
        std::fs::write(&file, "k".repeat(32)).unwrap();
        let join = |address: &str| Replica::join(Some(address.parse().unwrap()), Some(&file), 1).unwrap();
        let (first, second) = (join("127.0.0.1"), join("127.0.0.2"));
        let (token, id) = first.name_stream().unwrap();
        assert_eq!(first.locate(&id), Place::Here(token));
        assert_eq!(second.locate(&id), Place::Elsewhere("127.0.0.1".parse().unwrap()));
        assert_eq!(
            join("127.0.0.1").locate(&id),
            Place::Nowhere,
            "another life at the same address"
        );
        let stranger = Replica::join(Some("127.0.0.1".parse().unwrap()), None, 1).unwrap();
        assert_eq!(stranger.locate(&id), Place::Nowhere);
    }

    #[test]
    fn without_a_key_file_a_replica_is_alone() {
        let alone = Replica::join(None, None, 1).unwrap();
        assert!(alone.forwarder.is_none());
        let (token, id) = alone.name_stream().unwrap();
        assert_eq!(alone.locate(&id), Place::Here(token));
    }
}
