//! What a list method answers: the items go in, the members of the result come out, once for each era.

use serde_json::Value;

/// For how long a client may keep a list; ours change with a new version of the server only.
pub const LIST_TTL_MS: u32 = 300_000;

/// Members of the result of a list method, as JSON text without braces. Every list has one page, the same for every caller.
#[derive(Debug)]
pub struct Listing {
    /// Up to 2025-11-25.
    pub handshake: Vec<u8>,
    /// 2026-07-28: with caching hints (server/utilities/caching).
    pub modern: Vec<u8>,
}

impl Listing {
    /// A list whose items are the same in every era.
    pub fn of(member: &str, items: &Value) -> Listing {
        Listing::of_both(member, items, items)
    }

    /// A list whose items differ.
    pub fn of_both(member: &str, handshake: &Value, modern: &Value) -> Listing {
        Listing {
            handshake: format!(r#""{member}":{handshake}"#).into_bytes(),
            modern: format!(r#""{member}":{modern},"ttlMs":{LIST_TTL_MS},"cacheScope":"public""#)
                .into_bytes(),
        }
    }
}
