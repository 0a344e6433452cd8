//! The fixture's tools: a call goes in, and what the suite expects comes out. Those of the weather server stand beside them.

mod ask;
mod catalog;
mod rounds;
mod tell;

pub(super) use catalog::Catalog;

use super::changes::Change;
use super::handler::{Fixture, era_of};
use super::media::{PNG, WAV};
use super::questions::missing_capability;
use super::weather;
use crate::metrics::Outcome;
use crate::tools::Tool;
use rmcp::model::{CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ResourceContents};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde_json::json;
use std::time::Instant;

/// A call with what it may need of its surroundings.
#[derive(Debug)]
pub(super) struct Call<'c> {
    pub(super) fixture: &'c Fixture,
    pub(super) request: CallToolRequestParams,
    pub(super) context: &'c RequestContext<RoleServer>,
}

impl Call<'_> {
    /// An argument that must be a string.
    fn text(&self, name: &str) -> Result<&str, ErrorData> {
        let found = self
            .request
            .arguments
            .as_ref()
            .and_then(|arguments| arguments.get(name)?.as_str());
        found.ok_or_else(|| {
            ErrorData::invalid_params(format!("{} needs the string {name}", self.request.name), None)
        })
    }

    /// Run it, counted like a call of the weather server.
    pub(super) async fn run(self) -> Result<CallToolResponse, ErrorData> {
        let shared = &self.fixture.shared;
        if shared.weather.has_tool(&self.request.name) {
            let result = weather::ask(&shared.app, self.context, "tools/call", &self.request);
            return result.await.map(CallToolResponse::Complete);
        }
        let metrics = &shared.app.metrics;
        let running = metrics.call_started(Tool::Other, era_of(self.context), Instant::now());
        let result = self.answer().await;
        let outcome = match &result {
            Err(_) => Outcome::Refused,
            Ok(CallToolResponse::Complete(result)) if result.is_error == Some(true) => Outcome::ToolError,
            Ok(_) => Outcome::Ok,
        };
        running.end(outcome);
        result
    }

    async fn answer(&self) -> Result<CallToolResponse, ErrorData> {
        let name = self.request.name.as_ref();
        if let Some(content) = fixed(name) {
            return Ok(CallToolResult::success(content).into());
        }
        let changes = &self.fixture.shared.changes;
        let result = match name {
            "test_error_handling" => CallToolResult::error(vec![ContentBlock::text(
                "This tool intentionally returns an error for testing",
            )]),
            "test_tool_with_logging" | "test_logging_tool" => tell::logging(self).await?,
            "test_tool_with_progress" => tell::progress(self).await?,
            "test_reconnection" => tell::late().await,
            "test_sampling" => ask::model(self).await?,
            "test_elicitation" => ask::contact(self).await?,
            "test_elicitation_sep1034_defaults" => ask::defaults(self).await?,
            "test_elicitation_sep1330_enums" => ask::choices(self).await?,
            "test_x_mcp_header" => said(format!("region {}", self.text("region")?)),
            "test_missing_capability" => {
                let capabilities = self.context.client_capabilities().unwrap_or_default();
                if capabilities.sampling.is_none() {
                    return Err(missing_capability(json!({"sampling": {}})));
                }
                said("The client declared sampling.")
            }
            "test_trigger_tool_change" => {
                changes.announce(Change::Tools);
                said("The list of tools was announced as changed.")
            }
            "test_trigger_prompt_change" => {
                changes.announce(Change::Prompts);
                said("The list of prompts was announced as changed.")
            }
            _ => return rounds::call(self),
        };
        Ok(result.into())
    }
}

fn said(text: impl Into<String>) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text)])
}

/// Content of the tools that always answer the same.
fn fixed(name: &str) -> Option<Vec<ContentBlock>> {
    let image = || ContentBlock::image(PNG, "image/png");
    Some(match name {
        "test_simple_text" => vec![ContentBlock::text("This is a simple text response for testing.")],
        "test_image_content" => vec![image()],
        "test_audio_content" => vec![ContentBlock::audio(WAV, "audio/wav")],
        "test_embedded_resource" => vec![ContentBlock::resource(ResourceContents::text(
            "This is an embedded resource content.",
            "test://embedded-resource",
        ))],
        "test_multiple_content_types" => {
            let data = json!({"test": "data", "value": 123}).to_string();
            let contents = ResourceContents::text(data, "test://mixed-content-resource");
            vec![
                ContentBlock::text("Multiple content types test:"),
                image(),
                ContentBlock::resource(contents.with_mime_type("application/json")),
            ]
        }
        "json_schema_2020_12_tool" => vec![ContentBlock::text("The schema is what counts here.")],
        _ => return None,
    })
}
