//! Errors of the line, one enum a step. Each answers `reason()`, for condition, Event and metric, and `retry()`.

use crate::azure::apim;
use crate::azure::clients::ConnectError;
use crate::condition::reasons;
use crate::kube_write::WriteError;
use crate::mcp::ProbeError;
use crate::mcp::token::TokenError;
use crate::runtime::backoff::Retry;

/// Step `load` failed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("failed to see the pods of McpServer {server}: {source}")]
    Pods { server: String, source: WriteError },
    #[error("failed to see what McpServer {server} refers to: {source}")]
    Reference { server: String, source: WriteError },
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
        "path {path} of McpGateway {gateway} is, contains or lies within path {taken} of McpServer {holder}: choose another gateway.path"
    )]
    PathTaken {
        path: String,
        gateway: String,
        taken: String,
        holder: String,
        /// The server is registered with it by now.
        registered: bool,
    },
    /// A rule of the platform is against it.
    #[error(
        "{what}: {} does not allow this{}", .rule.described(.gateway.as_deref()), .rule.way_out()
    )]
    NotAllowed {
        rule: Rule,
        what: String,
        /// None where no gateway governs the server.
        gateway: Option<String>,
    },
    #[error(
        "gateway.path {path} is outside {inside}/, and {} does not allow this: choose a path below {inside}/, or leave it out", Rule::AnyPath.described(Some(.gateway.as_str()))
    )]
    PathNotAllowed {
        path: String,
        inside: String,
        gateway: String,
        /// The server is registered with it by now.
        registered: bool,
    },
    #[error(
        "no load balancer: {why}. The ways out: the platform names the gateway's addresses in McpGateway.spec.apim.sourceRanges; service.sources names CIDRs; service.sources is [Any], where McpGateway.spec.allow.anySource is true; or the image is the bundled one, which refuses calls without the gateway's secret"
    )]
    NoSourceAddresses { why: String },
    #[error(
        "this server is registered in McpGateway {from}, and McpGateway {to} is another service or clusterId: a move would take it from its callers. Set gateway.name to {from}, or set gateway.enabled: false until it is taken back, and then the new name"
    )]
    Moves { from: String, to: String },
    #[error(
        "transports.sse: tier Consumption of McpGateway {gateway} holds no streams open: leave sse out, or use a gateway of another tier"
    )]
    SseNotSupported { gateway: String },
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
            Self::PathNotAllowed { .. } => "PathNotAllowed",
            Self::PathTaken { .. } => reasons::CONFLICT,
            Self::NotAllowed { rule, .. } => rule.reason(),
            Self::NoSourceAddresses { .. } => "NoSourceAddresses",
            Self::Moves { .. } => "MoveRefused",
            Self::SseNotSupported { .. } => "SseNotSupported",
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
            Self::NamespaceNotAllowed { .. } | Self::NotAllowed { .. } | Self::NoSourceAddresses { .. } => {
                true
            }
            // What is registered may have another path than the one that is asked for.
            Self::PathNotAllowed { registered, .. } | Self::PathTaken { registered, .. } => *registered,
            Self::NoDefaultGateway
            | Self::TwoDefaultGateways { .. }
            | Self::GatewayNotFound { .. }
            | Self::GatewayDeleting { .. }
            | Self::GatewayNotReady { .. }
            | Self::Moves { .. }
            | Self::SseNotSupported { .. }
            | Self::Field { .. } => false,
        }
    }
}

/// The rules of `McpGateway.spec.allow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    Anonymous,
    AnySource,
    WildcardCors,
    Orphan,
    BackendUrl,
    AnyPath,
    Images,
    ServiceAnnotations,
    ServiceAccounts,
    ServersPerNamespace,
}

impl Rule {
    /// The field below `spec.allow`.
    pub fn field(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::AnySource => "anySource",
            Self::WildcardCors => "wildcardCors",
            Self::Orphan => "orphan",
            Self::BackendUrl => "backendUrl",
            Self::AnyPath => "anyPath",
            Self::Images => "images",
            Self::ServiceAnnotations => "serviceAnnotations",
            Self::ServiceAccounts => "serviceAccounts",
            Self::ServersPerNamespace => "serversPerNamespace",
        }
    }

    pub fn reason(&self) -> &'static str {
        match self {
            Self::Anonymous => "AnonymousNotAllowed",
            Self::AnySource => "AnySourceNotAllowed",
            Self::WildcardCors => "WildcardCorsNotAllowed",
            Self::Orphan => "OrphanNotAllowed",
            Self::BackendUrl => "BackendUrlNotAllowed",
            Self::AnyPath => "PathNotAllowed",
            Self::Images => "ImageNotAllowed",
            Self::ServiceAnnotations => "ServiceAnnotationNotAllowed",
            Self::ServiceAccounts => "ServiceAccountNotAllowed",
            Self::ServersPerNamespace => "TooManyServers",
        }
    }

    /// The rule with the gateway that has it.
    fn described(self, gateway: Option<&str>) -> String {
        match gateway {
            Some(gateway) => format!("McpGateway {gateway} spec.allow.{}", self.field()),
            None => format!(
                "spec.allow.{} of the default McpGateway, of which there is none,",
                self.field()
            ),
        }
    }

    fn way_out(self) -> &'static str {
        match self {
            Self::Anonymous => ": require subscriptions",
            Self::AnySource => ": name CIDRs, or leave service.sources out",
            Self::WildcardCors => ": name the origins",
            Self::Orphan => ": set it to Manage; until then a deletion deregisters too",
            Self::BackendUrl | Self::ServiceAnnotations => ": remove it",
            Self::AnyPath => ": leave gateway.path out",
            Self::Images => ": use an image that it lists",
            Self::ServiceAccounts => ": leave it out",
            Self::ServersPerNamespace => ": delete another one first",
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
    #[error("API Management took longer than {seconds} s")]
    Timeout { seconds: u64 },
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
            Self::Timeout { .. } => reasons::TIMEOUT,
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
            Self::Timeout { .. } => Retry::Fast,
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
            Self::Connect { .. } | Self::Claim { .. } | Self::Read { .. } | Self::Timeout { .. } => true,
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
    #[error("tls.ca: {problem}")]
    Authority { problem: String },
    #[error("failed to read what tls.ca names: {source}")]
    ReadAuthority { source: WriteError },
    #[error("the address of the probe is not a URL: {source}")]
    Url { source: url::ParseError },
    #[error("{source}")]
    Token { source: TokenError },
    #[error("the probe took longer than {seconds} s: the server answers, but too slowly for agents")]
    Deadline { seconds: u64 },
}

impl VerifyError {
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Probe { source, .. } => source.reason(),
            Self::KeyRefused { .. } => reasons::PROBE_KEY_REFUSED,
            Self::ReadAuthority { source } => source.reason(),
            Self::Authority { .. } | Self::Url { .. } => reasons::INVALID,
            Self::Token { .. } => "TokenUnavailable",
            Self::Deadline { .. } => reasons::TIMEOUT,
        }
    }

    /// The gateway refused the server's own key, which is then written again.
    pub fn wants_key_written(&self) -> bool {
        matches!(
            self,
            Self::Probe {
                way: super::verify::GATEWAY,
                source: ProbeError::Unauthorized { .. }
            }
        )
    }

    /// The gateway that refused the key that all its servers share.
    pub fn refused_by(&self) -> Option<&str> {
        match self {
            Self::KeyRefused { gateway, .. } => Some(gateway),
            _ => None,
        }
    }

    pub fn retry(&self) -> Retry {
        match self {
            // Secrets are not watched: a look every minute is what notices one.
            Self::Token { .. } | Self::Deadline { .. } => Retry::Fast,
            Self::Probe { source, .. } | Self::KeyRefused { source, .. } => source.retry(),
            // Another object's change is no change of this one.
            Self::Authority { .. } => Retry::Slow,
            Self::ReadAuthority { source } => source.retry(),
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
    #[error("the pass took longer than {seconds} s")]
    Timeout { seconds: u64 },
}

impl PassError {
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Load(LoadError::Pods { source, .. } | LoadError::Reference { source, .. })
            | Self::Apply(source) => source.reason(),
            Self::Invalid(error) => error.reason(),
            Self::Timeout { .. } => reasons::TIMEOUT,
        }
    }

    pub fn retry(&self) -> Retry {
        match self {
            Self::Load(LoadError::Pods { source, .. } | LoadError::Reference { source, .. })
            | Self::Apply(source) => source.retry(),
            Self::Invalid(error) => error.retry(),
            Self::Timeout { .. } => Retry::Fast,
        }
    }
}
