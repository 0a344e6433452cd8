//! Errors of the line, one enum a step. Each answers `reason()`, for condition, Event and metric, and `retry()`.

use crate::azure::apim;
use crate::azure::clients::ConnectError;
use crate::condition::reasons;
use crate::kube_write::WriteError;
use crate::mcp::ProbeError;
use crate::runtime::backoff::Retry;

/// Step `load` failed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("failed to see the pods of McpServer {server}: {source}")]
    Pods { server: String, source: WriteError },
}

/// Step `validate` found something that a person has to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidServer {
    #[error(
        "no McpGateway is marked as default: annotate one with mcpfleet.dev/is-default-gateway: \"true\", set gateway.name, or set gateway.enabled: false"
    )]
    NoDefaultGateway,
    #[error(
        "{gateways} are both marked as default: take the annotation mcpfleet.dev/is-default-gateway from one, or set gateway.name"
    )]
    TwoDefaultGateways { gateways: String },
    #[error(
        "there is no McpGateway {gateway}: create it, or delete this McpServer and apply it with another gateway.name, which cannot be changed"
    )]
    GatewayNotFound { gateway: String },
    #[error(
        "McpGateway {gateway} is being deleted: delete this McpServer and apply it with another gateway.name, which cannot be changed"
    )]
    GatewayDeleting { gateway: String },
    #[error(
        "McpGateway {gateway} does not allow namespace {namespace}: add it to the gateway's allowedNamespaces, or delete this McpServer and apply it with another gateway.name"
    )]
    NamespaceNotAllowed { gateway: String, namespace: String },
    #[error("McpGateway {gateway} is not ready: {message}")]
    GatewayNotReady {
        gateway: String,
        message: String,
        judged: bool,
    },
    #[error(
        "gateway.path {path} is outside {prefix}/, and McpGateway {gateway} does not allow that: choose a path below {prefix}/, or leave it out"
    )]
    PathOutsidePrefix {
        path: String,
        prefix: String,
        gateway: String,
    },
    #[error("path {path} of McpGateway {gateway} belongs to McpServer {holder}: choose another gateway.path")]
    PathTaken {
        path: String,
        gateway: String,
        holder: String,
    },
    #[error(
        "McpGateway {gateway} does not allow gateway.backendUrl: remove it, or set allowBackendUrl in the gateway"
    )]
    BackendUrlNotAllowed { gateway: String },
    #[error("{field}: {problem}")]
    Field { field: String, problem: String },
}

impl InvalidServer {
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoDefaultGateway | Self::GatewayNotFound { .. } | Self::GatewayDeleting { .. } => {
                reasons::GATEWAY_NOT_FOUND
            }
            Self::TwoDefaultGateways { .. } => "TwoDefaultGateways",
            Self::NamespaceNotAllowed { .. } => reasons::GATEWAY_NOT_ALLOWED,
            Self::GatewayNotReady { .. } => reasons::GATEWAY_NOT_READY,
            Self::PathOutsidePrefix { .. } => "PathNotAllowed",
            Self::PathTaken { .. } => reasons::CONFLICT,
            Self::BackendUrlNotAllowed { .. } => "BackendUrlNotAllowed",
            Self::Field { .. } => reasons::INVALID,
        }
    }

    pub fn retry(&self) -> Retry {
        match self {
            // Another server's end is no change of this one.
            Self::PathTaken { .. } => Retry::Slow,
            _ => Retry::UntilChanged,
        }
    }

    /// Whether the refusal also takes away what was there under another rule, or before another server came: the
    /// platform withdrew its leave, and that is more than a note. Everything else leaves what is there as it is.
    pub fn revokes(&self) -> bool {
        match self {
            Self::NamespaceNotAllowed { .. } | Self::BackendUrlNotAllowed { .. } => true,
            Self::NoDefaultGateway
            | Self::TwoDefaultGateways { .. }
            | Self::GatewayNotFound { .. }
            | Self::GatewayDeleting { .. }
            | Self::GatewayNotReady { .. }
            | Self::PathOutsidePrefix { .. }
            | Self::PathTaken { .. }
            | Self::Field { .. } => false,
        }
    }
}

/// Step `register`, or deregistration, failed.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    #[error("failed to connect to the gateway: {source}")]
    Connect { source: ConnectError },
    #[error("failed to claim the registration: {source}")]
    Claim { source: WriteError },
    #[error("{source}")]
    Registration { source: apim::RegistrationError },
    /// Taking a registration back: nobody will change the object for that, so it is tried again whatever was wrong.
    #[error("{source}")]
    Removal { source: apim::RegistrationError },
    #[error("backend address {address} is not a URL: {source}")]
    BackendUrl {
        address: String,
        source: url::ParseError,
    },
    #[error(
        "McpGateway {gateway}, where this server is registered, is gone: create it again, or set gateway.managementPolicy: Orphan to leave {api} as it is"
    )]
    GatewayGone { gateway: String, api: String },
    #[error(
        "this server is registered in {claimed}, but McpGateway {gateway} now names {service}: restore the gateway, or set gateway.managementPolicy: Orphan to leave {claimed} as it is"
    )]
    ServiceChanged {
        gateway: String,
        claimed: String,
        service: String,
    },
    #[error("failed to read McpServer {server}: {source}")]
    Read { server: String, source: WriteError },
    #[error("failed to write the claim as JSON: {source}")]
    Json { source: serde_json::Error },
}

impl RegisterError {
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Connect { source } => source.reason(),
            Self::Claim { source } | Self::Read { source, .. } => source.reason(),
            Self::Registration { .. } | Self::Removal { .. } if self.is_unreachable() => {
                reasons::GATEWAY_UNREACHABLE
            }
            Self::Registration { source } | Self::Removal { source } => source.reason(),
            Self::BackendUrl { .. } | Self::Json { .. } => reasons::INVALID,
            Self::GatewayGone { .. } => reasons::GATEWAY_NOT_FOUND,
            Self::ServiceChanged { .. } => reasons::CONFLICT,
        }
    }

    pub fn retry(&self) -> Retry {
        match self {
            Self::Connect { source } => source.retry(),
            Self::Claim { source } | Self::Read { source, .. } => source.retry(),
            Self::Registration { source } => source.retry().into(),
            Self::Removal { source } => Retry::from(source.retry()).in_deletion(),
            Self::BackendUrl { .. } | Self::Json { .. } => Retry::UntilChanged,
            Self::GatewayGone { .. } | Self::ServiceChanged { .. } => Retry::Slow,
        }
    }

    /// No usable answer came from the service: not a word about the registration itself.
    fn is_unreachable(&self) -> bool {
        use apim::ErrorClass;
        matches!(
            self,
            Self::Registration { source: apim::RegistrationError::Arm(error) }
                | Self::Removal { source: apim::RegistrationError::Arm(error) }
                if matches!(error.class, ErrorClass::Connection { .. } | ErrorClass::Timeout | ErrorClass::Server { .. })
        )
    }

    /// Nothing was heard about the registration itself: nobody was reached, or nobody wanted to talk to us.
    pub fn is_no_answer(&self) -> bool {
        use apim::ErrorClass;
        match self {
            Self::Connect { .. } | Self::Claim { .. } | Self::Read { .. } => true,
            Self::Registration {
                source: apim::RegistrationError::Arm(error),
            }
            | Self::Removal {
                source: apim::RegistrationError::Arm(error),
            } => {
                matches!(
                    error.class,
                    ErrorClass::Auth { .. } | ErrorClass::Forbidden { .. }
                ) || matches!(self.retry(), Retry::Fast | Retry::After(_))
            }
            Self::Registration { .. } | Self::Removal { .. } => {
                matches!(self.retry(), Retry::Fast | Retry::After(_))
            }
            Self::BackendUrl { .. }
            | Self::GatewayGone { .. }
            | Self::ServiceChanged { .. }
            | Self::Json { .. } => false,
        }
    }
}

/// Step `verify` failed.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("{way}: {source}")]
    Probe {
        /// `directly` or `through the gateway`.
        way: &'static str,
        source: ProbeError,
    },
    #[error("through the gateway, with the key of McpGateway {gateway}, which is written again: {source}")]
    KeyRefused { gateway: String, source: ProbeError },
    #[error("the address of the probe is not a URL: {source}")]
    Url { source: url::ParseError },
}

impl VerifyError {
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Probe { source, .. } => source.reason(),
            Self::KeyRefused { .. } => reasons::PROBE_KEY_REFUSED,
            Self::Url { .. } => reasons::INVALID,
        }
    }

    pub fn retry(&self) -> Retry {
        match self {
            Self::Probe { source, .. } | Self::KeyRefused { source, .. } => source.retry(),
            Self::Url { .. } => Retry::UntilChanged,
        }
    }
}

/// A pass failed at one of its steps.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    #[error(transparent)]
    Load(LoadError),
    #[error(transparent)]
    Invalid(InvalidServer),
    #[error(transparent)]
    Apply(WriteError),
    #[error(transparent)]
    Register(RegisterError),
    #[error(transparent)]
    Verify(VerifyError),
    #[error("the pass took longer than {seconds} s")]
    Timeout { seconds: u64 },
}

impl PassError {
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Load(LoadError::Pods { source, .. }) | Self::Apply(source) => source.reason(),
            Self::Invalid(error) => error.reason(),
            Self::Register(error) => error.reason(),
            Self::Verify(error) => error.reason(),
            Self::Timeout { .. } => reasons::TIMEOUT,
        }
    }

    pub fn retry(&self) -> Retry {
        match self {
            Self::Load(LoadError::Pods { source, .. }) | Self::Apply(source) => source.retry(),
            Self::Invalid(error) => error.retry(),
            Self::Register(error) => error.retry(),
            Self::Verify(error) => error.retry(),
            Self::Timeout { .. } => Retry::Fast,
        }
    }
}
