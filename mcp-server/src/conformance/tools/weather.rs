//! The weather server's tools through rmcp: its own code runs them, so the answer is the same as without rmcp.

use super::super::questions::internal;
use super::Call;
use crate::protocol::answer::RenderedId;
use crate::protocol::envelope::Id;
use crate::protocol::json::{self, Json, Object};
use crate::tools::{self, Work};
use rmcp::ErrorData;
use rmcp::model::{CallToolResult, ErrorCode};
use serde_json::Value;

pub(super) async fn call(call: &Call<'_>) -> Result<CallToolResult, ErrorData> {
    let text = match &call.request.arguments {
        Some(arguments) => serde_json::to_vec(arguments).map_err(|error| internal(&error))?,
        None => b"{}".to_vec(),
    };
    let arguments = match json::parse(&text) {
        Ok(Json::Object(arguments)) => arguments,
        _ => Object::default(),
    };
    let work = tools::Call {
        id: RenderedId::from_id(&Id::Number("0")),
        era: call.era(),
        work: Work::read(&call.request.name, &arguments),
    };
    let reply = call.fixture.shared.app.run(work).await;
    let mut answer: Value = serde_json::from_slice(&reply.body).map_err(|error| internal(&error))?;
    match reply.error {
        None => serde_json::from_value(answer["result"].take()).map_err(|error| internal(&error)),
        Some(code) => {
            let message = answer["error"]["message"].as_str().unwrap_or_default().to_owned();
            Err(ErrorData::new(ErrorCode(code.number()), message, None))
        }
    }
}
