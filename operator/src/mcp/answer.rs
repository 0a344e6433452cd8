//! What an HTTP reply means. In: a reply to a JSON-RPC request; out: its result, or why there is none. The same rules
//! hold for every transport.

use http::{StatusCode, header};
use serde_json::Value;

use super::Role;
use super::error::{Call, ProbeError, cut};
use super::exchange::Reply;
use super::framing::Decoder;
use super::message::{self, Response};

/// Reads the response to request `id`: a JSON body, or a stream of events that is left as soon as it has come.
pub(super) async fn read(mut reply: Reply, role: Role, id: u64) -> Result<Response, ProbeError> {
    if reply.content_type() == "text/event-stream" && reply.status.is_success() {
        let mut decoder = Decoder::default();
        while let Some(bytes) = reply.body.chunk().await? {
            for event in decoder.push(&bytes) {
                if let Some(response) = message::response(&event.data, id) {
                    return Ok(response);
                }
            }
        }
        return Err(not_mcp(&reply, "an event stream that ended without the answer"));
    }
    // A server's own 4xx carries a JSON-RPC error, and says more than the status.
    let text = reply.body.text().await?;
    match message::response(&text, id) {
        Some(response) if !speaks_for_itself(reply.status) => Ok(response),
        _ => Err(refusal(&reply, &text, role)),
    }
}

/// Statuses that gateways and guards give, whatever the body says.
fn speaks_for_itself(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS
    )
}

/// Accepts a notification or a message to an event stream, which have no answer of their own.
pub(super) async fn accepted(mut reply: Reply, role: Role) -> Result<(), ProbeError> {
    if reply.status.is_success() {
        return Ok(());
    }
    let text = reply.body.text().await?;
    Err(refusal(&reply, &text, role))
}

/// Why a reply is no answer.
pub(super) fn refusal(reply: &Reply, text: &str, role: Role) -> ProbeError {
    let call = reply.call.clone();
    let body: Option<Value> = serde_json::from_str(text).ok();
    if let Some(cause) = body.as_ref().and_then(api_server_status) {
        return ProbeError::Unreachable { call, cause };
    }
    let detail = || detail(body.as_ref());
    match reply.status {
        StatusCode::UNAUTHORIZED => unauthorized(reply, call, detail()),
        StatusCode::FORBIDDEN => ProbeError::Forbidden {
            call,
            detail: detail(),
        },
        StatusCode::TOO_MANY_REQUESTS => ProbeError::RateLimited {
            call,
            retry_after: reply.retry_after(),
        },
        StatusCode::NOT_FOUND if role == Role::Gateway && is_gateway_answer(body.as_ref()) => {
            ProbeError::NotFound {
                call,
                hint: String::new(),
            }
        }
        status if status.is_server_error() => ProbeError::ServerError {
            call,
            status: status.as_u16(),
            detail: detail(),
        },
        _ => ProbeError::NotMcp {
            call,
            found: reply.found(),
        },
    }
}

fn not_mcp(reply: &Reply, found: &str) -> ProbeError {
    ProbeError::NotMcp {
        call: reply.call.clone(),
        found: found.to_owned(),
    }
}

/// API Management answers errors of its own with `{"statusCode": n, "message": ".."}`.
fn is_gateway_answer(body: Option<&Value>) -> bool {
    body.is_some_and(|body| {
        body.get("statusCode").is_some_and(Value::is_number) && body.get("message").is_some()
    })
}

/// The API server answers with a `Status` when the service proxy cannot reach the server.
fn api_server_status(body: &Value) -> Option<String> {
    let is_status = body.get("kind")? == "Status" && body.get("apiVersion")? == "v1";
    is_status.then(|| format!("the API server's service proxy says: {}", detail(Some(body))))
}

fn detail(body: Option<&Value>) -> String {
    let text = body.and_then(|body| {
        let message = body.get("message").or_else(|| body.get("error")?.get("message"));
        message?.as_str()
    });
    text.map_or_else(|| "no message".to_owned(), cut)
}

/// A challenge counts when it is `Bearer` and names the resource's metadata (RFC 9728, section 5.1).
fn unauthorized(reply: &Reply, call: Call, detail: String) -> ProbeError {
    let challenges = reply
        .headers
        .get_all(header::WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    for challenge in challenges {
        if let Some(resource_metadata) = resource_metadata(challenge) {
            return ProbeError::Challenge {
                call,
                resource_metadata,
            };
        }
    }
    ProbeError::Unauthorized { call, detail }
}

fn resource_metadata(challenge: &str) -> Option<String> {
    let (scheme, parameters) = challenge.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (_, value) = parameters.split_once("resource_metadata=")?;
    let value = value.strip_prefix('"').map_or_else(
        || value.split(',').next().unwrap_or_default(),
        |quoted| quoted.split('"').next().unwrap_or_default(),
    );
    let url = url::Url::parse(value.trim()).ok()?;
    matches!(url.scheme(), "https" | "http").then(|| cut(url.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bearer_challenge_with_metadata_counts() {
        let cases = [
            (
                r#"Bearer resource_metadata="https://a.example/.well-known/x", scope="s""#,
                Some("https://a.example/.well-known/x"),
            ),
            (
                r#"bearer error="invalid_token", resource_metadata=https://a.example/x"#,
                Some("https://a.example/x"),
            ),
            (r#"Bearer error="invalid_token""#, None),
            (
                r#"AzureApiManagementKey realm="https://a.example/x",name="Ocp-Apim-Subscription-Key""#,
                None,
            ),
            (r#"Bearer resource_metadata="javascript:x""#, None),
            ("Bearer", None),
        ];
        for (challenge, expected) in cases {
            assert_eq!(resource_metadata(challenge).as_deref(), expected, "{challenge}");
        }
    }
}
