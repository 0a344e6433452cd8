//! The weather server through rmcp: a request goes to its own dispatch, so the answer is the same as without rmcp.

use super::endpoint;
use super::handler::era_of;
use crate::app::App;
use crate::audit::Origin;
use crate::protocol::answer::Code;
use crate::protocol::dispatch::{Reply, Step};
use crate::protocol::envelope::Id;
use crate::protocol::json::{self, Json, Object};
use crate::protocol::revision::Era;
use crate::traces::RequestSpan;
use http::request::Parts;
use rmcp::model::{ErrorCode, Prompt, Resource, ResourceTemplate, Tool};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The id of every request to the dispatch; it stays inside.
const ID: Id<'static> = Id::Number("0");

/// Why there is no fixture.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A list of the weather server's.
    #[error("failed to read the weather server's answer to {method}")]
    Weather {
        /// Which list.
        method: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// The dispatch wants to run something to answer a list.
    #[error("failed to ask the weather server for {method}: it does not answer at once")]
    NotAtOnce {
        /// Which list.
        method: &'static str,
    },
    /// No random numbers.
    #[error("failed to make a key for requestState")]
    Random,
}

/// What the weather server lists.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) tools: Vec<Tool>,
    pub(super) prompts: Vec<Prompt>,
    pub(super) resources: Vec<Resource>,
    pub(super) templates: Vec<ResourceTemplate>,
}

impl Listed {
    pub(super) fn read(app: &App) -> Result<Listed, BuildError> {
        Ok(Listed {
            tools: list(app, "tools/list", "tools")?,
            prompts: list(app, "prompts/list", "prompts")?,
            resources: list(app, "resources/list", "resources")?,
            templates: list(app, "resources/templates/list", "resourceTemplates")?,
        })
    }

    pub(super) fn has_tool(&self, name: &str) -> bool {
        self.tools.iter().any(|tool| tool.name == name)
    }

    pub(super) fn has_prompt(&self, name: &str) -> bool {
        self.prompts.iter().any(|prompt| prompt.name == name)
    }

    /// Listed, or of the scheme of the templates.
    pub(super) fn has_resource(&self, uri: &str) -> bool {
        let scheme = uri.split_once("://").map(|(scheme, _)| scheme);
        let of_scheme = |template: &ResourceTemplate| {
            template.uri_template.split_once("://").map(|(scheme, _)| scheme) == scheme
        };
        self.resources.iter().any(|resource| resource.uri == uri)
            || (scheme.is_some() && self.templates.iter().any(of_scheme))
    }
}

fn list<T: DeserializeOwned>(app: &App, method: &'static str, key: &str) -> Result<Vec<T>, BuildError> {
    // The form with `x-mcp-header`, which the gate holds calls of 2026-07-28 to; others need not know it.
    let Step::Answer(reply) = app.dispatch.request(Era::Modern, &ID, method, &Object::default()) else {
        return Err(BuildError::NotAtOnce { method });
    };
    let unread = |source| BuildError::Weather { method, source };
    let mut answer: Value = serde_json::from_slice(&reply.body).map_err(unread)?;
    serde_json::from_value(answer["result"][key].take()).map_err(unread)
}

/// The weather server's result of `method`.
pub(super) async fn ask<T: DeserializeOwned>(
    app: &App,
    context: &RequestContext<RoleServer>,
    method: &str,
    params: &impl Serialize,
) -> Result<T, ErrorData> {
    let text = serde_json::to_vec(params).map_err(|error| internal(&error))?;
    let era = era_of(context);
    let reply = match json::parse(&text) {
        Ok(Json::Object(params)) => match app.dispatch.request(era, &ID, method, &params) {
            Step::Answer(reply) => reply,
            Step::Call(call) => {
                // rmcp keeps the HTTP request beside its own.
                let parts = context.extensions.get::<Parts>();
                let origin =
                    parts.map_or_else(Origin::default, |parts| endpoint::origin(app, &parts.headers));
                app.run(call, origin, &mut RequestSpan::untraced()).await
            }
        },
        // The gate has let in as much, so it is not deeper or longer than it may be.
        _ => return Err(ErrorData::invalid_params("the parameters are no object", None)),
    };
    read(&reply).map_err(|error| internal(&error))?
}

fn read<T: DeserializeOwned>(reply: &Reply) -> Result<Result<T, ErrorData>, serde_json::Error> {
    let mut answer: Value = serde_json::from_slice(&reply.body)?;
    if reply.error.is_none() {
        return serde_json::from_value(answer["result"].take()).map(Ok);
    }
    let mut error = answer["error"].take();
    let code = reply.error.map_or(Code::Internal.number(), Code::number);
    let message = error["message"].as_str().unwrap_or_default().to_owned();
    let data = Some(error["data"].take()).filter(|data| !data.is_null());
    Ok(Err(ErrorData::new(ErrorCode(code), message, data)))
}

/// The fault is in a value of ours.
pub(super) fn internal(error: &serde_json::Error) -> ErrorData {
    tracing::error!(%error, "failed to convert a value of the fixture");
    ErrorData::internal_error("internal error", None)
}
