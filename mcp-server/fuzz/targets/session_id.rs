//! Session ids: nothing that we have not sealed is one, and what we have sealed comes back, but not with a character changed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_weather::replica::keys::{KeyRing, Keys};
use mcp_weather::replica::session_id::{LENGTH, SessionId, open, seal};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, LazyLock};

// What must hold does not depend on the key.
static RING: LazyLock<Arc<KeyRing>> =
    LazyLock::new(|| Keys::random().expect("the system has randomness").ring());

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        assert_eq!(open(&RING, text), None, "nobody sealed it");
    }
    let Some((id, edits)) = read(data) else {
        return;
    };
    let sealed = seal(&RING, id).expect("sealing works");
    assert_eq!(sealed.len(), LENGTH);
    assert_eq!(open(&RING, &sealed), Some(id));
    let mut edited = sealed.clone().into_bytes();
    for edit in edits.chunks_exact(2) {
        match (usize::from(edit[0]), edit[1]) {
            (at, byte) if at < edited.len() => edited[at] = byte,
            (250.., _) => edited.truncate(usize::from(edit[1])),
            (_, byte) => edited.push(byte),
        }
    }
    if let Ok(edited) = String::from_utf8(edited)
        && edited != sealed
    {
        assert_eq!(open(&RING, &edited), None, "{edited} is not {sealed}");
    }
});

/// An id, and what is to be changed in its text: pairs of a place and a byte.
fn read(data: &[u8]) -> Option<(SessionId, &[u8])> {
    let (owner, rest) = data.split_first_chunk::<16>()?;
    let (boot, rest) = rest.split_first_chunk::<8>()?;
    let (token, edits) = rest.split_first_chunk::<16>()?;
    let id = SessionId {
        owner: IpAddr::V6(Ipv6Addr::from(*owner)).to_canonical(),
        boot: u64::from_be_bytes(*boot),
        token: u128::from_be_bytes(*token),
    };
    Some((id, edits))
}
