//! The ARM client and the registration engine for Azure API Management.
//! In: plain values from the controllers (registration, owner, names); out: what was written, or a classified error.
//! Knows nothing of Kubernetes.
//!
//! The line of a registration, one file a step:
//! `document` (what we want) -> `look` (against the `inventory`, else by reading) -> `plan` (judge and compare, pure) ->
//! `path` (is it free) -> `ensure` (write) -> `operation` (follow). `remove` is the way back, `access` the same line for products and subscriptions,
//! `probe` for the subscription of a gateway's probe, `named_value` for its secret.

pub mod access;
mod attempts;
pub mod auth;
pub mod document;
pub mod ensure;
pub mod error;
pub mod http;
pub(crate) mod inventory;
mod look;
pub mod mark;
pub mod named_value;
pub mod names;
pub mod openapi;
pub mod operation;
mod path;
mod plan;
pub mod policy;
pub mod probe;
pub mod remove;
pub mod request;
pub mod secret;
pub mod service;
pub mod target;
#[cfg(test)]
mod tests;
pub mod throttle;
pub mod transport;
mod wire;

pub use access::{
    AccessIds, AccessRegistration, Granted, Kept, Keys, Revoked, ensure_access, read_keys, regenerate_key,
    remove_access, revoke,
};
pub use auth::{AuthError, Identity, StaticToken, TokenSource, WorkloadIdentity};
pub use document::{BackendChecks, InvalidRegistration, SecretReference, ServerIds, ServerRegistration};
pub use ensure::{Registered, ensure_server};
pub use error::{ArmError, ErrorClass, GOOD_OUTCOMES, OUTCOMES, RegistrationError, Retry};
pub use http::{HttpError, http_client};
pub use look::Depth;
pub use mark::Owner;
pub use named_value::{SecretRegistration, ensure_secret, known_number, remove_secret};
pub use names::{Purpose, resource_name};
pub use openapi::{Sse, Transports};
pub use operation::{Outcome, PendingOperation};
pub use policy::{Cors, KEY_HEADER, RateLimit};
pub use probe::{ProbeRegistration, ensure_probe, remove_probe};
pub use remove::{Removal, remove_server};
pub use request::Verb;
pub use secret::SecretString;
pub use service::{ServiceFacts, body_logging, service};
pub use target::{Cloud, KeySlot, PlainHttp, Target, TargetError};
pub use throttle::{Rate, Rates, Throttle};
pub use transport::{ArmClient, Limits, Observer, Unobserved};
