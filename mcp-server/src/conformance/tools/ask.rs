//! Tools that ask the client in the middle of a call, as the handshake revisions allow: a question goes out on the stream of
//! the call, and the client posts the answer to its session.

#![expect(deprecated, reason = "the suite tests sampling, which SEP-2577 deprecates")]

use super::super::questions::read;
use super::{Call, said};
use rmcp::ErrorData;
use rmcp::model::{CallToolResult, ContentBlock, ElicitRequestParams, ElicitResult};
use rmcp::service::ServiceError;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// For a person to answer; a call does not wait for ever.
const ANSWER_TIME: Duration = Duration::from_mins(1);

/// test_sampling
pub(super) async fn model(call: &Call<'_>) -> Result<CallToolResult, ErrorData> {
    let prompt = call.text("prompt")?;
    let capabilities = call.context.client_capabilities().unwrap_or_default();
    if capabilities.sampling.is_none() {
        return Ok(failed("The client does not support sampling."));
    }
    let params = read(json!({
        "messages": [{"role": "user", "content": {"type": "text", "text": prompt}}],
        "maxTokens": 100,
    }))?;
    let asked = timeout(ANSWER_TIME, call.context.peer.create_message(params));
    Ok(
        match asked
            .await
            .unwrap_or(Err(ServiceError::Timeout { timeout: ANSWER_TIME }))
        {
            Ok(result) => {
                let text = result
                    .message
                    .content
                    .first()
                    .and_then(|content| content.as_text());
                let text = text.map_or("(no text)", |content| content.text.as_str());
                said(format!("LLM response: {text}"))
            }
            Err(error) => unanswered(&error),
        },
    )
}

/// test_elicitation
pub(super) async fn contact(call: &Call<'_>) -> Result<CallToolResult, ErrorData> {
    let message = call.text("message")?;
    let schema = json!({
        "type": "object",
        "properties": {
            "username": {"type": "string", "description": "User's response"},
            "email": {"type": "string", "description": "User's email address"},
        },
        "required": ["username", "email"],
    });
    elicit(call, message, schema, "User response: ").await
}

/// test_elicitation_sep1034_defaults
pub(super) async fn defaults(call: &Call<'_>) -> Result<CallToolResult, ErrorData> {
    let schema = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "default": "John Doe"},
            "age": {"type": "integer", "default": 30},
            "score": {"type": "number", "default": 95.5},
            "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
            "verified": {"type": "boolean", "default": true},
        },
        "required": [],
    });
    elicit(
        call,
        "Please check these values",
        schema,
        "Elicitation completed: ",
    )
    .await
}

/// test_elicitation_sep1330_enums
pub(super) async fn choices(call: &Call<'_>) -> Result<CallToolResult, ErrorData> {
    let options = json!(["option1", "option2", "option3"]);
    let titled = |kind: &str| {
        ["First", "Second", "Third"]
            .into_iter()
            .enumerate()
            .map(|(index, nth)| json!({"const": format!("value{}", index + 1), "title": format!("{nth} {kind}")}))
            .collect::<Value>()
    };
    let schema = json!({
        "type": "object",
        "properties": {
            "untitledSingle": {"type": "string", "enum": options},
            "titledSingle": {"type": "string", "oneOf": titled("Option")},
            "legacyEnum": {
                "type": "string",
                "enum": ["opt1", "opt2", "opt3"],
                "enumNames": ["Option One", "Option Two", "Option Three"],
            },
            "untitledMulti": {"type": "array", "items": {"type": "string", "enum": options}},
            "titledMulti": {"type": "array", "items": {"anyOf": titled("Choice")}},
        },
        "required": [],
    });
    elicit(call, "Please choose", schema, "Elicitation completed: ").await
}

async fn elicit(
    call: &Call<'_>,
    message: &str,
    schema: Value,
    before: &str,
) -> Result<CallToolResult, ErrorData> {
    let capabilities = call.context.client_capabilities().unwrap_or_default();
    if capabilities.elicitation.is_none() {
        return Ok(failed("The client does not support elicitation."));
    }
    let params: ElicitRequestParams =
        read(json!({"mode": "form", "message": message, "requestedSchema": schema}))?;
    let peer = &call.context.peer;
    Ok(
        match peer
            .create_elicitation_with_timeout(params, Some(ANSWER_TIME))
            .await
        {
            Ok(ElicitResult { action, content, .. }) => {
                let action = json!(action);
                let content = content.unwrap_or_default();
                said(format!(
                    "{before}action={}, content={content}",
                    action.as_str().unwrap_or_default()
                ))
            }
            Err(error) => unanswered(&error),
        },
    )
}

fn unanswered(error: &ServiceError) -> CallToolResult {
    failed(&format!("The client did not answer: {error}"))
}

fn failed(text: &str) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(text)])
}
