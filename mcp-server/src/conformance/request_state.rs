//! What a tool asks its client to send back between two rounds (MRTR, `requestState`): where it is goes in, signed text comes
//! out, and back. A client could otherwise make up a round that never was (2026-07-28, patterns/mrtr, Security).

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time for a person to answer.
const LIFETIME: Duration = Duration::from_mins(10);

/// Where a call is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// The tool that asked.
    pub(super) tool: String,
    /// How many rounds were answered when this one was asked for.
    pub(super) round: u8,
    /// What earlier rounds brought.
    pub(super) answers: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    progress: Progress,
    /// Seconds since 1970.
    until: u64,
}

/// The key, made anew by each process: a call does not outlive the one that it began in.
#[derive(Debug)]
pub(super) struct StateKey(hmac::Key);

impl StateKey {
    /// From 32 random bytes.
    pub(super) fn from_bytes(bytes: [u8; 32]) -> StateKey {
        StateKey(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
    }

    /// Text for the client.
    pub(super) fn seal(&self, progress: Progress, now: SystemTime) -> Result<String, serde_json::Error> {
        let until = seconds(now) + LIFETIME.as_secs();
        let text = serde_json::to_vec(&Sealed { progress, until })?;
        let tag = hmac::sign(&self.0, &text);
        let encode = |bytes| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        Ok(format!("{}.{}", encode(text.as_slice()), encode(tag.as_ref())))
    }

    /// What was sealed, if it was, for `tool`, and not too long ago.
    pub(super) fn open(&self, sealed: &str, tool: &str, now: SystemTime) -> Option<Progress> {
        let (text, tag) = sealed.split_once('.')?;
        let text = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let tag = BASE64_URL_SAFE_NO_PAD.decode(tag).ok()?;
        hmac::verify(&self.0, &text, &tag).ok()?;
        let Sealed { progress, until } = serde_json::from_slice(&text).ok()?;
        (progress.tool == tool && seconds(now) <= until).then_some(progress)
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_sealed_for_this_tool_and_lately_opens() {
        let key = StateKey::from_bytes([1; 32]);
        let now = UNIX_EPOCH + Duration::from_hours(1);
        let progress = Progress {
            tool: "a".into(),
            round: 1,
            answers: vec!["x".into()],
        };
        let sealed = key.seal(progress.clone(), now).unwrap();
        assert_eq!(key.open(&sealed, "a", now), Some(progress));
        assert_eq!(key.open(&sealed, "b", now), None);
        assert_eq!(
            key.open(&sealed, "a", now + LIFETIME + Duration::from_secs(1)),
            None
        );
        assert_eq!(StateKey::from_bytes([2; 32]).open(&sealed, "a", now), None);
        for tampered in [
            format!("{sealed}-TAMPERED"),
            format!("x{sealed}"),
            sealed.replace('.', ""),
            String::new(),
        ] {
            assert_eq!(key.open(&tampered, "a", now), None, "{tampered}");
        }
    }
}
