//! Session ids of SSE streams: owner, life and random bits go in, an opaque text comes out; and back, if the text is genuine.

use super::keys::{KeyError, KeyRing};
use crate::audit::SessionHash;
use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

/// Owner address as IPv6, boot nonce, token.
const PLAIN: usize = 16 + 8 + 16;
const TAG: usize = 16;
/// Bytes of an id before encoding.
const BYTES: usize = NONCE_LEN + PLAIN + TAG;
/// Characters of an id.
pub const LENGTH: usize = (BYTES * 8).div_ceil(6);
/// Says what the ciphertext is for, so that it cannot be taken for anything else made with the same key.
const CONTEXT: &[u8] = b"mcp-weather session id 1";

/// What an id means to the replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionId {
    /// Address of the replica that holds the stream.
    pub owner: IpAddr,
    /// The life of that replica's process.
    pub boot: u64,
    /// Names the stream within that life.
    pub token: u128,
}

/// How an id appears in the log: the first 16 hexadecimal digits of its SHA-256. Whoever has the id finds its lines; nobody gets
/// the id out of them.
#[derive(Debug, Clone, Copy)]
pub struct Fingerprint<'a>(pub &'a str);

impl fmt::Display for Fingerprint<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        SessionHash::of(self.0).fmt(out)
    }
}

/// Encrypt and sign.
pub fn seal(keys: &KeyRing, id: SessionId) -> Result<String, KeyError> {
    let mut nonce = [0; NONCE_LEN];
    rand::fill(&mut nonce).map_err(|_| KeyError::Random)?;
    let mut sealed = Vec::with_capacity(PLAIN + TAG);
    sealed.extend_from_slice(&as_v6(id.owner).octets());
    sealed.extend_from_slice(&id.boot.to_be_bytes());
    sealed.extend_from_slice(&id.token.to_be_bytes());
    let key = &keys.outgoing(Instant::now()).seal;
    key.seal_in_place_append_tag(
        Nonce::assume_unique_for_key(nonce),
        Aad::from(CONTEXT),
        &mut sealed,
    )
    .map_err(|_| KeyError::Crypto)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat()))
}

/// Check and decrypt; `None` for anything that no replica of ours made.
pub fn open(keys: &KeyRing, id: &str) -> Option<SessionId> {
    if id.len() != LENGTH {
        return None;
    }
    let bytes: [u8; BYTES] = BASE64_URL_SAFE_NO_PAD.decode(id).ok()?.try_into().ok()?;
    let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>()?;
    keys.accepted().find_map(|key| {
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = key
            .seal
            .open_in_place(nonce, Aad::from(CONTEXT), &mut sealed)
            .ok()?;
        let (owner, rest) = plain.split_first_chunk::<16>()?;
        let (boot, token) = rest.split_first_chunk::<8>()?;
        Some(SessionId {
            owner: IpAddr::V6(Ipv6Addr::from(*owner)).to_canonical(),
            boot: u64::from_be_bytes(*boot),
            token: u128::from_be_bytes(token.try_into().ok()?),
        })
    })
}

fn as_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::Keys;
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn any_address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<[u8; 4]>().prop_map(IpAddr::from),
            any::<[u8; 16]>().prop_map(|octets| IpAddr::from(octets).to_canonical()),
        ]
    }

    proptest! {
        #[test]
        fn every_id_comes_back(owner in any_address(), boot in any::<u64>(), token in any::<u128>()) {
            let ring = Keys::random().unwrap().ring();
            let id = SessionId { owner, boot, token };
            let text = seal(&ring, id).unwrap();
            prop_assert_eq!(text.len(), LENGTH);
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
            prop_assert_eq!(open(&ring, &text), Some(id));
            prop_assert_eq!(open(&Keys::random().unwrap().ring(), &text), None);
        }

        #[test]
        fn nothing_else_is_an_id(text in prop_oneof![any::<String>(), "[A-Za-z0-9_-]{91}", "[A-Za-z0-9+/=_-]{80,100}"]) {
            prop_assert_eq!(open(&Keys::random().unwrap().ring(), &text), None);
        }

        #[test]
        fn one_changed_character_spoils_it(at in 0..LENGTH, to in prop::sample::select(b"ABab01-_".to_vec())) {
            let ring = Keys::random().unwrap().ring();
            let id = SessionId { owner: IpAddr::from([10, 0, 0, 1]), boot: 1, token: 2 };
            let mut text = seal(&ring, id).unwrap().into_bytes();
            if text[at] != to {
                text[at] = to;
                prop_assert_eq!(open(&ring, std::str::from_utf8(&text).unwrap()), None);
            }
        }
    }

    #[test]
    fn ids_do_not_repeat() {
        let ring = Keys::random().unwrap().ring();
        let id = SessionId {
            owner: IpAddr::from([10, 0, 0, 1]),
            boot: 1,
            token: 2,
        };
        let ids: HashSet<String> = (0..1000).map(|_| seal(&ring, id).unwrap()).collect();
        assert_eq!(ids.len(), 1000);
    }

    #[test]
    fn the_log_shows_a_hash() {
        // printf abc | sha256sum
        assert_eq!(Fingerprint("abc").to_string(), "ba7816bf8f01cfea");
    }
}
