//! Why a server is not opened (yet) by an access, in words for the consumer. In: what `validate` found; out: message,
//! reason, and whose turn it is. Pure.

use super::load::MOST_SERVERS;
use crate::condition::reasons;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Hindrance {
    #[error("spec must have servers or selector, one of the two")]
    Invalid,
    #[error("there is no McpServer {server}: create it, or take it from spec.servers")]
    NotFound { server: String },
    #[error("McpServer {server} is being deleted")]
    Deleting { server: String },
    #[error("McpServer {server} does not consent: its owner adds {line}, or it is taken from spec.servers")]
    NoConsent { server: String, line: String },
    #[error("McpServer {server} is in no gateway: its gateway.enabled is false")]
    Disabled { server: String },
    #[error(
        "McpGateway {gateway} does not allow the namespace of McpServer {server}: see its spec.allowedNamespaces"
    )]
    NotAllowed { server: String, gateway: String },
    #[error("McpServer {server} is not registered in its gateway yet ({state})")]
    NotRegistered { server: String, state: String },
    #[error("the servers are in different gateways ({gateways}): make one McpAccess for each of them")]
    DifferentGateways { gateways: String },
    #[error(
        "McpServer {server} is in gateway {other}, and this access is in {gateway}: make another McpAccess for it"
    )]
    OtherGateway {
        server: String,
        other: String,
        gateway: String,
    },
    #[error("no McpServer that consents is selected by spec.selector")]
    NothingSelected,
    #[error(
        "spec.selector selects {beyond} servers more than the {MOST_SERVERS} that one access opens: narrow it"
    )]
    TooManyServers { beyond: usize },
    #[error("there is no McpGateway {gateway}")]
    NoGateway { gateway: String },
    #[error("McpGateway {gateway} has not reported its URL yet")]
    NoGatewayUrl { gateway: String },
    #[error("spec.managementPolicy Orphan is not allowed: McpGateway {gateway} spec.allow.orphan")]
    OrphanNotAllowed { gateway: String },
}

impl Hindrance {
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Invalid => reasons::INVALID,
            Self::NotFound { .. } => "ServerNotFound",
            Self::Deleting { .. } => "ServerDeleting",
            Self::NoConsent { .. } => "NoConsent",
            Self::Disabled { .. } => reasons::GATEWAY_DISABLED,
            Self::NotAllowed { .. } => reasons::GATEWAY_NOT_ALLOWED,
            Self::NotRegistered { .. } => "ServerNotRegistered",
            Self::DifferentGateways { .. } | Self::OtherGateway { .. } => "DifferentGateways",
            Self::NothingSelected => "NothingSelected",
            Self::TooManyServers { .. } => "TooManyServers",
            Self::NoGateway { .. } => reasons::GATEWAY_NOT_FOUND,
            Self::NoGatewayUrl { .. } => reasons::GATEWAY_NOT_READY,
            Self::OrphanNotAllowed { .. } => "OrphanNotAllowed",
        }
    }

    /// Whether a person has to change something, or it is only a matter of time.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Invalid
            | Self::NoConsent { .. }
            | Self::Disabled { .. }
            | Self::NotAllowed { .. }
            | Self::DifferentGateways { .. }
            | Self::OtherGateway { .. }
            | Self::TooManyServers { .. }
            | Self::OrphanNotAllowed { .. } => true,
            Self::NotFound { .. }
            | Self::Deleting { .. }
            | Self::NotRegistered { .. }
            | Self::NothingSelected
            | Self::NoGateway { .. }
            | Self::NoGatewayUrl { .. } => false,
        }
    }

    /// Whether nothing at all may be given, whatever other servers say.
    pub(super) fn stops_everything(&self) -> bool {
        matches!(self, Self::Invalid | Self::OrphanNotAllowed { .. })
    }
}
