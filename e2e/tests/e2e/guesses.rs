//! The stand-in's guesses, each setting in turn: the main life of a server passes with all of them.
//!
//! What the service really does is not known in these points (docs/stand-in.md), so the operator must not depend on them.

use std::sync::Arc;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::Test;
use crate::bad_gateway::path_taken;
use crate::place::{Place, entry, gateway_url};
use crate::world::{World, until};

/// Every setting that is not the default. Those that end in `together` cannot be seen alone.
const SETTINGS: [(&str, &str); 25] = [
    (
        "delete_without_if_match_is_412",
        r#"{"ifMatchOnDelete": "preconditionFailed"}"#,
    ),
    (
        "delete_without_if_match_is_400",
        r#"{"ifMatchOnDelete": "badRequest"}"#,
    ),
    (
        "patch_without_if_match_is_allowed",
        r#"{"ifMatchOnPatch": "allowed"}"#,
    ),
    (
        "patch_without_if_match_is_400",
        r#"{"ifMatchOnPatch": "badRequest"}"#,
    ),
    (
        "put_without_if_match_is_412",
        r#"{"ifMatchOnPut": "preconditionFailed"}"#,
    ),
    ("put_without_if_match_is_400", r#"{"ifMatchOnPut": "badRequest"}"#),
    ("import_answers_202", r#"{"importStatus": 202}"#),
    (
        "operations_name_location_alone",
        r#"{"asyncHeaders": "location"}"#,
    ),
    (
        "operations_name_azure_asyncoperation_alone",
        r#"{"asyncHeaders": "azureAsyncOperation"}"#,
    ),
    (
        "operations_take_long_and_say_retry_after",
        r#"{"asyncMillis": 2500, "asyncRetryAfter": 1}"#,
    ),
    ("deletion_is_synchronous", r#"{"apiDeletion": "sync"}"#),
    ("an_import_is_visible_at_its_end", r#"{"importVisible": "atEnd"}"#),
    (
        "operation_ids_are_lower_cased",
        r#"{"importedOperationIds": "lowerCased"}"#,
    ),
    ("deleting_what_is_gone_is_404", r#"{"deleteMissingStatus": 404}"#),
    (
        "subscriptions_outlive_their_api",
        r#"{"subscriptionsOfDeletedApi": "kept"}"#,
    ),
    ("product_names_may_repeat", r#"{"uniqueProductNames": false}"#),
    (
        "a_used_backend_can_be_deleted",
        r#"{"refuseDeletingUsedBackend": false}"#,
    ),
    (
        "an_absent_policy_section_inherits",
        r#"{"absentSectionInherits": true}"#,
    ),
    (
        "unknown_members_are_ignored",
        r#"{"refuseUnknownMembers": false}"#,
    ),
    ("the_same_put_changes_the_etag", r#"{"samePutKeepsEtag": false}"#),
    (
        "new_subscriptions_are_submitted",
        r#"{"newSubscriptionState": "submitted"}"#,
    ),
    (
        "the_gateway_follows_after_5_seconds",
        r#"{"gatewayDelayMillis": 5000}"#,
    ),
    (
        "the_limiter_is_a_token_bucket",
        r#"{"rateLimiter": "tokenBucket"}"#,
    ),
    ("a_page_of_a_list_has_two_members", r#"{"pageSize": 2}"#),
    (
        "an_unpublished_product_opens_its_apis",
        r#"{"unpublishedProductOpens": true}"#,
    ),
];

pub fn tests() -> Vec<Test> {
    let settings = SETTINGS.iter().map(|(name, setting)| {
        Test::new(format!("guesses::{name}"), move |world| {
            with(world, setting, life)
        })
        .alone()
    });
    let taken = Test::new("guesses::a_path_that_another_api_has_is_409", |world| {
        with(world, r#"{"takenPathStatus": 409}"#, path_taken)
    })
    .alone();
    settings.chain([taken]).collect()
}

async fn with(world: Arc<World>, setting: &str, test: impl AsyncFnOnce(&Place) -> Result<()>) -> Result<()> {
    let defaults = serde_json::to_value(world.control().switches().await?)?;
    let changes: Value = serde_json::from_str(setting)?;
    world.control().set(changes.clone()).await?;
    let result = world.clone().with_place("guess", test).await;
    // What is under way ends under the same setting.
    let mut back = changes;
    for (name, value) in back.as_object_mut().into_iter().flatten() {
        *value = defaults[name.as_str()].clone();
    }
    world.control().set(back).await?;
    result
}

/// Create, call, change, call, delete.
async fn life(place: &Place) -> Result<()> {
    let world = &place.world;
    let server = place.create_ready("weather", json!({})).await?;
    let key = entry(
        &place.access("agents", &["weather"]).await?,
        "APIM_SUBSCRIPTION_KEY",
    )?;
    answers(world, &gateway_url(&server)?, &key).await?;
    let moved = format!("demo/{}/moved", place.namespace);
    let change = json!({"spec": {"gateway": {"path": moved, "rateLimit": {"calls": 50}}}});
    let server = place.change("weather", change).await?;
    ensure!(
        gateway_url(&server)?.contains(&moved),
        "the change is in the status"
    );
    answers(world, &gateway_url(&server)?, &key).await?;
    let once = place.documents().await?;
    ensure!(
        once.iter()
            .filter(|path| path.starts_with("apis/") && path.matches('/').count() == 1)
            .count()
            == 1,
        "one API: {once:?}"
    );
    place.delete("weather").await?;
    place.server_gone("weather").await?;
    place
        .accesses()
        .delete("agents", &kube::api::DeleteParams::default())
        .await?;
    until("an end of everything in API Management", async || {
        let left = place.documents().await?;
        Ok(if left.is_empty() { Ok(()) } else { Err(left) })
    })
    .await
}

/// The gateway may need a moment to know the key and the path.
async fn answers(world: &World, url: &str, key: &str) -> Result<()> {
    let agent = world.agent(url, Some(key))?;
    until("an answer through the gateway", async || {
        Ok(match agent.tools().await {
            Ok(tools) if tools == ["get_alerts", "get_forecast"] => Ok(()),
            other => Err(format!("{other:?}")),
        })
    })
    .await
}
