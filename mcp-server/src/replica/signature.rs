//! What replicas sign: a message on its way to the owner of its stream, and the owner's answer.

use super::keys::{Key, KeyRing};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

/// Who calls, as the replica was told that the message reached first.
pub(super) const CALLER: &str = "x-replica-caller";
/// Seconds since 1970 at the sender.
pub(super) const TIME: &str = "x-replica-time";
/// 16 random bytes, base64url.
pub(super) const NONCE: &str = "x-replica-nonce";
/// The signature, base64url.
pub(super) const MAC: &str = "x-replica-mac";

/// A message between replicas. No part but the body can hold a newline, so the signed text has one reading.
pub(super) struct Signed<'a> {
    pub(super) kind: &'a str,
    /// Session id of a message, status of an answer.
    pub(super) subject: &'a str,
    pub(super) time: &'a str,
    pub(super) nonce: &'a str,
    /// Empty when nobody said, and in an answer.
    pub(super) caller: &'a str,
    pub(super) body: &'a [u8],
}

impl Signed<'_> {
    fn head(&self) -> String {
        let Signed {
            kind,
            subject,
            time,
            nonce,
            caller,
            body: _,
        } = self;
        format!("{kind}\n{subject}\n{time}\n{nonce}\n{caller}\n")
    }

    /// Sign with the key that we send with.
    pub(super) fn sign(&self, key: &Key) -> String {
        let mut context = hmac::Context::with_key(&key.sign);
        context.update(self.head().as_bytes());
        context.update(self.body);
        BASE64_URL_SAFE_NO_PAD.encode(context.sign())
    }

    /// Whether `mac` was made with a key that we accept.
    pub(super) fn verify(&self, keys: &KeyRing, mac: &str) -> bool {
        let Ok(mac) = BASE64_URL_SAFE_NO_PAD.decode(mac) else {
            return false;
        };
        let text = [self.head().as_bytes(), self.body].concat();
        keys.accepted()
            .any(|key| hmac::verify(&key.sign, &text, &mac).is_ok())
    }
}
