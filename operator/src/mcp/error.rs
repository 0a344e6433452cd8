//! Why a probe did not get through. In: what was seen at the target; out: a reason for conditions, and a message that
//! names the call, what was found and what to change. Texts from outside are cut and stay the same from pass to pass:
//! they end up in status, and a random id in them would make every pass a write.

use std::fmt;
use std::time::Duration;

use super::Target;
use super::exchange::shown;
use crate::runtime::backoff::Retry;

/// One HTTP exchange, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub verb: &'static str,
    /// Without query and with random path segments masked.
    pub address: String,
    /// The MCP step that the exchange is part of.
    pub step: &'static str,
}

impl fmt::Display for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} ({})", self.verb, self.address, self.step)
    }
}

/// What stood in the way.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProbeError {
    /// An HTTP server, but not MCP.
    #[error(
        "{call} was answered with {found}, which is not MCP: check the image, its port and its transports' paths"
    )]
    NotMcp { call: Call, found: String },
    /// JSON-RPC, but the method failed.
    #[error("{call} was answered with MCP error {code}: {message}")]
    Protocol { call: Call, code: i64, message: String },
    #[error("{call} did not reach a server: {cause}")]
    Unreachable { call: Call, cause: String },
    #[error("{call} was not answered within {} s", after.as_secs())]
    Timeout { call: Call, after: Duration },
    #[error("{call} failed to set up TLS: {cause}")]
    Tls { call: Call, cause: String },
    /// 401 without a challenge that counts.
    #[error("{call} was answered with 401: {detail}{hint}")]
    Unauthorized {
        call: Call,
        detail: String,
        /// What to change, where that is known.
        hint: &'static str,
    },
    /// 401 to the token of `probe.tokenSecretRef`.
    #[error(
        "{call} was answered with 401 to the token of probe.tokenSecretRef: {detail}; put the token that the server \
         takes into the Secret"
    )]
    TokenRefused { call: Call, detail: String },
    /// 401 with a Bearer challenge (RFC 6750, section 3), which may name the resource's metadata (RFC 9728, section 5.1).
    #[error("{call} demands a token{}", metadata_text(resource_metadata.as_deref()))]
    Challenge {
        call: Call,
        resource_metadata: Option<String>,
    },
    #[error("{call} was answered with 403: {detail}")]
    Forbidden { call: Call, detail: String },
    /// The gateway has no such API or operation (yet).
    #[error(
        "{call} was answered with 404 by the gateway: it does not know this API or operation (yet){hint}"
    )]
    NotFound { call: Call, hint: String },
    #[error("{call} was answered with 429{}", retry_text(*retry_after))]
    RateLimited {
        call: Call,
        retry_after: Option<Duration>,
    },
    #[error("{call} was answered with {status}: {detail}")]
    ServerError { call: Call, status: u16, detail: String },
    #[error("{call} was answered with more than {limit}: the probe stops reading there")]
    TooLarge { call: Call, limit: String },
    /// Clients would send their messages to another API, or to none (FAQ of every SSE server behind a path).
    #[error(
        "the endpoint event of {stream} leads to {endpoint}, outside {inside}: the server must send a reference that is \
         relative to the stream, such as messages/<id>, without a slash in front"
    )]
    SseEndpointOutsidePath {
        stream: String,
        endpoint: String,
        inside: String,
    },
    /// A session that only one replica knows.
    #[error(
        "{call} was refused with {status} for a session that the server had just issued: its {replicas} replicas do not \
         share sessions; issue no Mcp-Session-Id, share them, or set replicas: 1"
    )]
    SessionsNotShared { call: Call, status: u16, replicas: i32 },
}

impl ProbeError {
    /// A target that must not be called.
    pub fn elsewhere(target: &Target, cause: &str) -> Self {
        let call = Call {
            verb: "probe of",
            address: shown(&target.base),
            step: "as a whole",
        };
        let cause = cause.to_owned();
        Self::Unreachable { call, cause }
    }

    /// CamelCase, for conditions, Events and metric labels.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotMcp { .. } => "NotMcp",
            Self::Protocol { .. } => "ProtocolError",
            Self::Unreachable { .. } => "Unreachable",
            Self::Timeout { .. } => "Timeout",
            Self::Tls { .. } => "TlsError",
            Self::Unauthorized { .. } => "Unauthorized",
            Self::TokenRefused { .. } => "TokenRefused",
            Self::Challenge { .. } => "ChallengeSeen",
            Self::Forbidden { .. } => "Forbidden",
            Self::NotFound { .. } => "NotFound",
            Self::RateLimited { .. } => "RateLimited",
            Self::ServerError { .. } => "ServerError",
            Self::TooLarge { .. } => "AnswerTooLarge",
            Self::SseEndpointOutsidePath { .. } => "SseEndpointOutsidePath",
            Self::SessionsNotShared { .. } => "SessionsNotShared",
        }
    }

    /// What a server is (not MCP, sessions of its own, a wrong endpoint) stays until someone changes it; everything
    /// else may be a start or a change on its way.
    pub fn retry(&self) -> Retry {
        match self {
            Self::NotMcp { .. }
            | Self::Protocol { .. }
            | Self::TooLarge { .. }
            | Self::SseEndpointOutsidePath { .. }
            | Self::SessionsNotShared { .. } => Retry::Slow,
            Self::RateLimited {
                retry_after: Some(delay),
                ..
            } => Retry::After(*delay),
            _ => Retry::Fast,
        }
    }
}

fn metadata_text(resource_metadata: Option<&str>) -> String {
    resource_metadata.map_or_else(String::new, |url| format!("; metadata is at {url}"))
}

fn retry_text(retry_after: Option<Duration>) -> String {
    retry_after.map_or_else(String::new, |delay| {
        format!(", retry after {} s", delay.as_secs())
    })
}

/// At most 160 characters of one line, for messages. What is cut off is not looked at.
pub(super) fn cut(text: &str) -> String {
    const LIMIT: usize = 160;
    let mut line = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        let space = (!line.is_empty()).then_some(' ');
        for character in space.into_iter().chain(word.chars()) {
            if length == LIMIT {
                line.pop();
                line.push('…');
                return line;
            }
            line.push(character);
            length += 1;
        }
    }
    line
}

/// A path without what differs from session to session: segments that look like ids. Of a long one, its beginning.
pub(super) fn mask(path: &str) -> String {
    const SEGMENTS: usize = 16;
    let mut masked = path
        .splitn(SEGMENTS + 1, '/')
        .take(SEGMENTS)
        .map(|segment| if looks_random(segment) { "<id>" } else { segment })
        .collect::<Vec<_>>()
        .join("/");
    if path.split('/').nth(SEGMENTS).is_some() {
        masked.push_str("/…");
    }
    cut(&masked)
}

fn looks_random(segment: &str) -> bool {
    let digits = segment.chars().filter(char::is_ascii_digit).count();
    let hexadecimal = segment.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    segment.len() >= 12 && (digits >= 4 || (hexadecimal && digits > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_masked_and_names_stay() {
        let cases = [
            ("/messages/3f1e9c1a-5b1d-4a7e-9a53-8f2d9d7e0a11", "/messages/<id>"),
            ("/messages/deadbeefdeadbeef0", "/messages/<id>"),
            ("/messages/kq8Zr7-1vX20bT4sP", "/messages/<id>"),
            (
                "/demo/tools/weather-forecasts/messages",
                "/demo/tools/weather-forecasts/messages",
            ),
            ("/mcp", "/mcp"),
        ];
        for (path, masked) in cases {
            assert_eq!(mask(path), masked);
        }
    }

    #[test]
    fn long_texts_are_cut_to_one_line() {
        assert_eq!(cut("a\n b"), "a b");
        assert_eq!(cut(""), "");
        for length in [159, 160] {
            let text = "é".repeat(length);
            assert_eq!(cut(&text), text);
        }
        for word in ["x", "é ", "xy ", "seven x ", "   a\n\n"] {
            let line = cut(&word.repeat(500));
            let length = line.chars().count();
            assert_eq!(length, 160, "{line}");
            assert!(line.ends_with('…') && !line.contains("  "), "{line}");
        }
        assert_eq!(mask(&"/a".repeat(500)).chars().count(), 2 * 15 + 2);
    }
}
