//! What every transport does once a server has been greeted. In: a conversation; out: all pages of tools/list, and
//! proof that later requests are accepted too.

use std::future::Future;

use serde_json::{Value, json};

use super::Limits;
use super::error::{Call, ProbeError};
use super::message::{Answer, Greeting, Response};
use super::tools::{self, Found};

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
) -> Result<Answer, ProbeError> {
    match conversation.respond(method, params).await? {
        Response::Result(result) => Ok(result),
        Response::Error { code, message } => Err(ProbeError::Protocol {
            call: conversation.call(method),
            code,
            message,
        }),
    }
}

/// Every tool of a server that declared, in `greeting`, to have tools. A page is dropped before the next is asked for.
pub(super) async fn list_tools<C: Conversation + Send>(
    conversation: &mut C,
    greeting: &Greeting,
    limits: &Limits,
) -> Result<Found, ProbeError> {
    const METHOD: &str = "tools/list";
    let mut found = Found::new();
    if !greeting.tools {
        return Ok(found);
    }
    let mut params = json!({});
    for _ in 0..limits.pages {
        let answer = result(conversation, METHOD, params).await?;
        match tools::page(answer.get(), &mut found, limits.tools) {
            Ok(None) => return Ok(found),
            Ok(Some(cursor)) => params = json!({"cursor": cursor}),
            Err(refusal) => return Err(refused(conversation.call(METHOD), &refusal, limits)),
        }
    }
    let limit = format!("{} pages of tools", limits.pages);
    Err(ProbeError::TooLarge {
        call: conversation.call(METHOD),
        limit,
    })
}

fn refused(call: Call, refusal: &tools::Refusal, limits: &Limits) -> ProbeError {
    match refusal {
        tools::Refusal::NotAList => {
            let found = "a result without a list of named tools".to_owned();
            ProbeError::NotMcp { call, found }
        }
        tools::Refusal::TooMany => ProbeError::TooLarge {
            call,
            limit: format!("{} tools", limits.tools),
        },
        tools::Refusal::TooLarge(limit) => ProbeError::TooLarge {
            call,
            limit: (*limit).to_owned(),
        },
    }
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
