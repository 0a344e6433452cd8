//! The protocol revisions that we speak, and which of them opens how.

/// The stateless revision: every request carries its own version and capabilities.
pub const MODERN: &str = "2026-07-28";

/// A revision that opens with `initialize`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Handshake {
    /// HTTP+SSE only.
    V2024_11_05,
    /// The first with streamable HTTP; a request without a version header is taken for this one.
    V2025_03_26,
    /// Structured content, version header.
    V2025_06_18,
    /// The last with a handshake.
    V2025_11_25,
}

impl Handshake {
    /// What we offer to a client that asks for a revision that we do not speak.
    pub const LATEST: Handshake = Handshake::V2025_11_25;

    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Handshake::V2024_11_05 => "2024-11-05",
            Handshake::V2025_03_26 => "2025-03-26",
            Handshake::V2025_06_18 => "2025-06-18",
            Handshake::V2025_11_25 => "2025-11-25",
        }
    }

    /// From the wire.
    pub fn parse(text: &str) -> Option<Handshake> {
        [
            Handshake::V2024_11_05,
            Handshake::V2025_03_26,
            Handshake::V2025_06_18,
            Handshake::V2025_11_25,
        ]
        .into_iter()
        .find(|revision| revision.as_str() == text)
    }
}

/// Where a message came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// POST /mcp
    StreamableHttp,
    /// GET /sse with POST /messages
    Sse,
}

/// How a request wants to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// 2026-07-28: `resultType`, caching hints, `_meta`.
    Modern,
    /// Up to 2025-11-25: none of these words.
    Handshake(Transport),
}

impl Era {
    /// Label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Era::Modern => "modern",
            Era::Handshake(Transport::StreamableHttp) => "handshake",
            Era::Handshake(Transport::Sse) => "sse",
        }
    }
}

/// The revision that we answer an `initialize` with: the one asked for if the transport has it, else the latest.
pub fn negotiate(asked: &str, transport: Transport) -> Handshake {
    match (Handshake::parse(asked), transport) {
        (Some(Handshake::V2024_11_05), Transport::StreamableHttp) | (None, _) => Handshake::LATEST,
        (Some(revision), _) => revision,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negotiates_what_the_transport_has() {
        for text in ["2025-11-25", "2025-06-18", "2025-03-26"] {
            assert_eq!(negotiate(text, Transport::StreamableHttp).as_str(), text);
            assert_eq!(negotiate(text, Transport::Sse).as_str(), text);
        }
        assert_eq!(negotiate("2024-11-05", Transport::Sse).as_str(), "2024-11-05");
        assert_eq!(
            negotiate("2024-11-05", Transport::StreamableHttp),
            Handshake::LATEST
        );
        assert_eq!(negotiate("2026-07-28", Transport::Sse), Handshake::LATEST);
        assert_eq!(
            negotiate("1999-01-01", Transport::StreamableHttp),
            Handshake::LATEST
        );
    }
}
