//! What about the service is not known for sure, as switches.
//! In: JSON from the test controls. Out: the settings that the ARM plane and the gateway follow.
//! The table in docs/stand-in.md says for each whether its default is recorded, documented or guessed.

use serde::{Deserialize, Serialize};

/// What happens to a request whose `If-Match` header is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MissingIfMatch {
    Allowed,
    PreconditionFailed,
    BadRequest,
}

/// Which of the two polling headers a long operation answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AsyncHeaders {
    Both,
    Location,
    AzureAsyncOperation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ApiDeletion {
    Async,
    Sync,
}

/// When the API document of an import can first be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ImportVisible {
    AtOnce,
    AtEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OperationIds {
    Kept,
    LowerCased,
}

/// What becomes of a subscription whose scope is an API that is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OrphanSubscriptions {
    Deleted,
    Kept,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RateLimiter {
    SlidingWindow,
    TokenBucket,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Switches {
    /// The service says that it is of a v2 tier, which reports no addresses (recorded).
    pub without_addresses: bool,
    /// Token buckets of ARM: 250 reads and 25 a second, 200 writes and 10 a second, the same for deletes.
    pub throttle: bool,
    /// The caller has the role; false answers 403 AuthorizationFailed.
    pub authorized: bool,
    pub if_match_on_delete: MissingIfMatch,
    pub if_match_on_patch: MissingIfMatch,
    /// On a PUT that changes an entity.
    pub if_match_on_put: MissingIfMatch,
    /// 201 (200 for an update) or 202.
    pub import_status: u16,
    pub async_headers: AsyncHeaders,
    /// How long a long operation takes, in milliseconds.
    pub async_millis: u64,
    /// `Retry-After` of running operations, in seconds; none when absent.
    pub async_retry_after: Option<u64>,
    pub api_deletion: ApiDeletion,
    pub import_visible: ImportVisible,
    pub imported_operation_ids: OperationIds,
    /// Status for a path that another API has: 400 or 409.
    pub taken_path_status: u16,
    /// Status of a DELETE of what is not there: 204 or 404.
    pub delete_missing_status: u16,
    pub subscriptions_of_deleted_api: OrphanSubscriptions,
    /// A backend that policies send requests to, or a named value that they refer to, cannot be deleted.
    pub refuse_deleting_used_backend: bool,
    /// A section that a policy document leaves out is as if it held `<base />` alone (else as if it were empty).
    pub absent_section_inherits: bool,
    /// A second product with the same display name is refused.
    pub unique_product_names: bool,
    /// Members that the contract does not know are refused (else ignored).
    pub refuse_unknown_members: bool,
    /// A PUT that changes nothing keeps the ETag.
    pub same_put_keeps_etag: bool,
    /// State of a subscription that names none: `active` or `submitted`.
    pub new_subscription_state: String,
    /// A key of a product that is not published opens its APIs.
    pub unpublished_product_opens: bool,
    /// How long the gateway needs to take a change over, in milliseconds.
    pub gateway_delay_millis: u64,
    pub rate_limiter: RateLimiter,
    /// Life of an access token, in seconds.
    pub token_seconds: u64,
    /// Members per page of a list.
    pub page_size: usize,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            without_addresses: false,
            throttle: true,
            authorized: true,
            if_match_on_delete: MissingIfMatch::Allowed,
            if_match_on_patch: MissingIfMatch::PreconditionFailed,
            if_match_on_put: MissingIfMatch::Allowed,
            import_status: 201,
            async_headers: AsyncHeaders::Both,
            async_millis: 300,
            async_retry_after: None,
            api_deletion: ApiDeletion::Async,
            import_visible: ImportVisible::AtOnce,
            imported_operation_ids: OperationIds::Kept,
            taken_path_status: 400,
            delete_missing_status: 204,
            subscriptions_of_deleted_api: OrphanSubscriptions::Deleted,
            refuse_deleting_used_backend: true,
            absent_section_inherits: false,
            unique_product_names: true,
            refuse_unknown_members: true,
            same_put_keeps_etag: true,
            new_subscription_state: "active".into(),
            unpublished_product_opens: false,
            gateway_delay_millis: 0,
            rate_limiter: RateLimiter::SlidingWindow,
            token_seconds: 3600,
            page_size: 100,
        }
    }
}
