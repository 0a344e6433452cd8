//! What every transport does once a server has been greeted. In: a conversation; out: all pages of tools/list, and
//! proof that later requests are accepted too.

use std::future::Future;

use mcp_fleet_crds::Tool;
use serde_json::{Value, json};

use super::Limits;
use super::error::{Call, ProbeError, cut};
use super::message::Response;
use super::tools;

/// Requests and their responses, over any transport.
pub(super) trait Conversation {
    fn respond(
        &mut self,
        method: &'static str,
        params: Value,
    ) -> impl Future<Output = Result<Response, ProbeError>> + Send;

    /// The exchange that a request of this name is, for messages.
    fn call(&self, method: &'static str) -> Call;
}

/// The result of a request that must succeed.
pub(super) async fn result<C: Conversation + Send>(
    conversation: &mut C,
    method: &'static str,
    params: Value,
) -> Result<Value, ProbeError> {
    match conversation.respond(method, params).await? {
        Response::Result(result) => Ok(result),
        Response::Error { code, message } => Err(ProbeError::Protocol {
            call: conversation.call(method),
            code,
            message: cut(&message),
        }),
    }
}

/// Every tool of a server that declared, in `greeting`, to have tools.
pub(super) async fn list_tools<C: Conversation + Send>(
    conversation: &mut C,
    greeting: &Value,
    limits: &Limits,
) -> Result<Vec<Tool>, ProbeError> {
    const METHOD: &str = "tools/list";
    if greeting
        .get("capabilities")
        .and_then(|capabilities| capabilities.get("tools"))
        .is_none()
    {
        return Ok(Vec::new());
    }
    let mut all = Vec::new();
    let mut cursor: Option<String> = None;
    for _ in 0..limits.pages {
        let params = cursor
            .take()
            .map_or_else(|| json!({}), |cursor| json!({"cursor": cursor}));
        let answer = result(conversation, METHOD, params).await?;
        let Some((page, next)) = tools::page(&answer) else {
            let found = "a result without a list of named tools".to_owned();
            return Err(ProbeError::NotMcp {
                call: conversation.call(METHOD),
                found,
            });
        };
        all.extend(page);
        if all.len() > limits.tools {
            break;
        }
        match next {
            Some(next) => cursor = Some(next),
            None => return Ok(tools::sorted(all)),
        }
    }
    let limit = format!("{} tools or {} pages", limits.tools, limits.pages);
    Err(ProbeError::TooLarge {
        call: conversation.call(METHOD),
        limit,
    })
}

/// A few requests more, each on a connection of its own: a balancer sends some of them to other replicas.
pub(super) async fn keep_asking<C: Conversation + Send>(
    conversation: &mut C,
    times: usize,
) -> Result<(), ProbeError> {
    for _ in 0..times {
        conversation.respond("ping", json!({})).await?;
    }
    Ok(())
}
