//! Who calls: headers go in, a bounded name comes out that somebody claimed, or that the gateway asserted: it signs what it says with
//! the secret that it shares with this server.

use crate::http::gateway_secret::GatewaySecret;
use aws_lc_rs::digest::{SHA256, digest};
use http::{HeaderMap, HeaderName};
use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

/// Before a name on its way between replicas.
const ASSERTED: char = '+';
const CLAIMED: char = '-';
/// Longest name that is kept; the rest is cut off.
const LONGEST: usize = 96;
/// Headers whose values are secrets, so that they can never get into the audit by a setting.
const SECRET: [&str; 9] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "ocp-apim-subscription-key",
    "api-key",
    "x-api-key",
    "x-functions-key",
    "mcp-session-id",
    "x-gateway-secret",
];

/// The header in which the gateway says who calls. The gateway must overwrite it, or it says what the caller wants it to say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallerHeader(Option<HeaderName>);

impl FromStr for CallerHeader {
    type Err = String;

    fn from_str(text: &str) -> Result<CallerHeader, String> {
        if text.is_empty() {
            return Ok(CallerHeader(None));
        }
        let name = HeaderName::from_str(text).map_err(|_| "must be the name of a header".to_owned())?;
        if SECRET.contains(&name.as_str()) {
            return Err(format!(
                "{name} holds a secret, which does not belong into an audit: name a header that the gateway sets"
            ));
        }
        Ok(CallerHeader(Some(name)))
    }
}

impl fmt::Display for CallerHeader {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0.as_ref().map_or("", HeaderName::as_str))
    }
}

impl CallerHeader {
    /// Whether this is the header `name`.
    pub fn is(&self, name: &HeaderName) -> bool {
        self.0.as_ref() == Some(name)
    }

    /// The name in the header. A header that is there twice has not been overwritten by anybody, so it says nothing.
    pub(super) fn read(&self, headers: &HeaderMap, secret: Option<&GatewaySecret>) -> Option<Caller> {
        let mut values = headers.get_all(self.0.as_ref()?).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return None;
        };
        let signed =
            secret.is_some_and(|secret| secret.has_signed(headers, value.as_bytes(), SystemTime::now()));
        Some(Caller::from_bytes(value.as_bytes())?.asserted(signed))
    }
}

/// A name that somebody gave: visible ASCII and spaces, short, and kept in place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    length: u8,
    /// By the gateway; else anybody may have said so.
    asserted: bool,
    bytes: [u8; LONGEST],
}

impl Caller {
    /// What is left of `text`; anything but visible ASCII and spaces becomes a question mark. No space stands at either end, also
    /// where it was cut: HTTP takes it for no part of a header's value, so another replica would be told, and sign, another name.
    pub fn from_bytes(text: &[u8]) -> Option<Caller> {
        let text = text.trim_ascii();
        let text = text.get(..LONGEST).unwrap_or(text).trim_ascii_end();
        let mut bytes = [0; LONGEST];
        let mut length = 0;
        for (to, from) in bytes.iter_mut().zip(text) {
            *to = if matches!(from, b' '..=b'~') { *from } else { b'?' };
            length += 1;
        }
        (length > 0).then_some(Caller {
            length,
            asserted: false,
            bytes,
        })
    }

    /// Whether the gateway said so.
    #[must_use]
    pub fn asserted(self, asserted: bool) -> Caller {
        Caller { asserted, ..self }
    }

    /// Whether the gateway said so.
    pub fn is_asserted(&self) -> bool {
        self.asserted
    }

    /// For another replica, which is told who vouched for the name too.
    pub fn to_replica(&self) -> String {
        format!(
            "{}{}",
            if self.asserted { ASSERTED } else { CLAIMED },
            self.as_str()
        )
    }

    /// What another replica told.
    pub fn from_replica(text: &str) -> Option<Caller> {
        match text.strip_prefix(ASSERTED) {
            Some(name) => Some(Caller::from_bytes(name.as_bytes())?.asserted(true)),
            None => Caller::from_bytes(text.strip_prefix(CLAIMED)?.as_bytes()),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        let used = self.bytes.get(..usize::from(self.length)).unwrap_or_default();
        std::str::from_utf8(used).unwrap_or_default()
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(out)
    }
}

/// A session in the audit: enough to tell sessions apart, and of no use to anybody who reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionHash([u8; 8]);

impl SessionHash {
    /// The first 64 bits of the SHA-256 of the id as it is on the wire.
    pub fn of(id: &str) -> SessionHash {
        let mut short = [0; 8];
        for (to, from) in short.iter_mut().zip(digest(&SHA256, id.as_bytes()).as_ref()) {
            *to = *from;
        }
        SessionHash(short)
    }
}

impl fmt::Display for SessionHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

/// Where a call came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Origin {
    /// Who calls.
    pub caller: Option<Caller>,
    /// On which session.
    pub session: Option<SessionHash>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(header: &str, values: &[&[u8]]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("x-mcp-caller", http::HeaderValue::from_bytes(value).unwrap());
        }
        let caller = header.parse::<CallerHeader>().unwrap().read(&headers, None)?;
        Some(caller.as_str().to_owned())
    }

    #[test]
    fn a_name_is_bounded_and_printable() {
        let long = "x".repeat(5000);
        let cut_at_a_space = format!("{} {long}", &long[1..LONGEST]);
        for (values, name) in [
            (&[&b"tools/agents"[..]][..], Some("tools/agents")),
            (&[b"  team a \t"], Some("team a")),
            (&[b"caf\xc3\xa9\t\"\x80"], Some("caf???\"?")),
            (&[long.as_bytes()], Some(&long[..LONGEST])),
            (&[cut_at_a_space.as_bytes()], Some(&long[1..LONGEST])),
            (&[b""], None),
            (&[b"  "], None),
            (&[b"a", b"b"], None),
            (&[], None),
        ] {
            assert_eq!(read("X-Mcp-Caller", values).as_deref(), name, "{values:?}");
        }
        assert_eq!(read("", &[b"a"]), None, "no header is named");
        assert_eq!(read("x-other", &[b"a"]), None);
    }

    #[test]
    fn another_replica_is_told_who_vouched() {
        let claimed = Caller::from_bytes(b"+team a").unwrap();
        for caller in [claimed, claimed.asserted(true)] {
            assert_eq!(Caller::from_replica(&caller.to_replica()), Some(caller));
        }
        for nobody in ["", "-", "+", "team a"] {
            assert_eq!(Caller::from_replica(nobody), None, "{nobody}");
        }
    }

    #[test]
    fn a_header_with_a_secret_is_refused() {
        for name in [
            "Authorization",
            "Ocp-Apim-Subscription-Key",
            "COOKIE",
            "Mcp-Session-Id",
        ] {
            assert!(
                name.parse::<CallerHeader>().unwrap_err().contains("secret"),
                "{name}"
            );
        }
        assert!("not a name".parse::<CallerHeader>().is_err());
    }

    #[test]
    fn a_session_is_the_hash_that_a_shell_prints() {
        // printf %s abc | sha256sum | cut -c1-16
        assert_eq!(SessionHash::of("abc").to_string(), "ba7816bf8f01cfea");
    }
}
