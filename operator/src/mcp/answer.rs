//! What an HTTP reply means. In: a reply to a JSON-RPC request; out: its result, or why there is none. The same rules
//! hold for every transport.

use http::{StatusCode, header};
use serde::Deserialize;

use super::error::{Call, ProbeError, cut};
use super::exchange::Reply;
use super::framing::Decoder;
use super::json::{self, Member};
use super::message::{self, Response};
use super::{Role, Target};

/// Reads the response to request `id`: a JSON body, or a stream of events that is left as soon as it has come.
pub(super) async fn read(mut reply: Reply, target: &Target, id: u64) -> Result<Response, ProbeError> {
    if reply.content_type() == "text/event-stream" && reply.status.is_success() {
        let mut decoder = Decoder::new(reply.body.most());
        while let Some(bytes) = reply.body.chunk().await? {
            decoder.feed(bytes);
            while let Some(event) = decoder.next() {
                if let Ok(response) = message::response(event.data, id) {
                    return Ok(response);
                }
            }
        }
        return Err(not_mcp(&reply, "an event stream that ended without the answer"));
    }
    let text = reply.body.text().await?;
    if speaks_for_itself(reply.status) {
        return Err(refusal(&reply, &text, target));
    }
    // A server's own 4xx carries a JSON-RPC error, and says more than the status.
    message::response(text, id).map_err(|text| refusal(&reply, &text, target))
}

/// Statuses that gateways and guards give, whatever the body says.
fn speaks_for_itself(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS
    )
}

/// Accepts a notification or a message to an event stream, which have no answer of their own.
pub(super) async fn accepted(mut reply: Reply, target: &Target) -> Result<(), ProbeError> {
    if reply.status.is_success() {
        return Ok(());
    }
    let text = reply.body.text().await?;
    Err(refusal(&reply, &text, target))
}

/// Why a reply is no answer.
pub(super) fn refusal(reply: &Reply, text: &str, target: &Target) -> ProbeError {
    let call = reply.call.clone();
    let body: Explanation<'_> = json::object(text).unwrap_or_default();
    if let Some(cause) = api_server_status(&body) {
        return ProbeError::Unreachable { call, cause };
    }
    let detail = || detail(&body);
    match reply.status {
        StatusCode::UNAUTHORIZED => unauthorized(reply, call, &body, target),
        StatusCode::FORBIDDEN => ProbeError::Forbidden {
            call,
            detail: detail(),
        },
        StatusCode::TOO_MANY_REQUESTS => ProbeError::RateLimited {
            call,
            retry_after: reply.retry_after(),
        },
        StatusCode::NOT_FOUND if target.role == Role::Gateway && is_gateway_answer(&body) => {
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

/// What gateways, servers and the API server say about an error of theirs.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Explanation<'a> {
    #[serde(borrow, default)]
    kind: Member<'a>,
    #[serde(borrow, default)]
    api_version: Member<'a>,
    #[serde(borrow, default)]
    status_code: Member<'a>,
    #[serde(borrow, default)]
    message: Member<'a>,
    #[serde(borrow, default)]
    error: Member<'a>,
}

/// API Management answers errors of its own with `{"statusCode": n, "message": ".."}`.
fn is_gateway_answer(body: &Explanation<'_>) -> bool {
    let code = body.status_code.and_then(|code| code.get().parse::<u16>().ok());
    code.is_some() && body.message.is_some()
}

/// The API server answers with a `Status` when the service proxy cannot reach the server.
fn api_server_status(body: &Explanation<'_>) -> Option<String> {
    let is = |member: Member<'_>, text: &str| member.is_some_and(|member| member.get() == text);
    let is_status = is(body.kind, r#""Status""#) && is(body.api_version, r#""v1""#);
    is_status.then(|| format!("the API server's service proxy says: {}", detail(body)))
}

fn detail(body: &Explanation<'_>) -> String {
    /// Bytes of a message that is looked at, to be cut.
    const LIMIT: usize = 8 * 1024;
    let inner = || {
        let error: Explanation<'_> = json::object(body.error?.get())?;
        error.message
    };
    let text = json::string(body.message.or_else(inner), LIMIT);
    text.map_or_else(|| "no message".to_owned(), |text| cut(&text))
}

/// A challenge counts when its scheme is `Bearer`: a server behind one static token says no more (RFC 6750, section 3),
/// one with an authorization server names the resource's metadata (RFC 9728, section 5.1). A gateway that refuses the
/// key says so in a scheme or a body of its own.
fn unauthorized(reply: &Reply, call: Call, body: &Explanation<'_>, target: &Target) -> ProbeError {
    let detail = detail(body);
    let challenges: Vec<&str> = reply
        .headers
        .get_all(header::WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let mut bearers = challenges
        .iter()
        .filter_map(|challenge| bearer(challenge))
        .peekable();
    let of_gateway = target.role == Role::Gateway && (!challenges.is_empty() || is_gateway_answer(body));
    if target.token.is_some() && (bearers.peek().is_some() || !of_gateway) {
        return ProbeError::TokenRefused { call, detail };
    }
    if bearers.peek().is_some() {
        return ProbeError::Challenge {
            call,
            resource_metadata: bearers.find_map(resource_metadata),
        };
    }
    let hint = match target.role {
        Role::Server => "; if the server demands a token, name it in probe.tokenSecretRef",
        Role::Gateway => "",
    };
    ProbeError::Unauthorized { call, detail, hint }
}

/// The parameters of a `Bearer` challenge, which may be one of several in a header.
fn bearer(challenges: &str) -> Option<&str> {
    const SCHEME: &str = "bearer";
    challenges
        .match_indices(|character: char| character.is_ascii_alphabetic())
        .map(|(at, _)| challenges.split_at(at))
        .filter(|(before, _)| {
            let before = before.trim_end();
            before.is_empty() || before.ends_with(',')
        })
        .find_map(|(_, challenge)| {
            let scheme = challenge.get(..SCHEME.len())?;
            let rest = &challenge[SCHEME.len()..];
            let ends = rest.is_empty() || rest.starts_with([' ', ',']);
            (scheme.eq_ignore_ascii_case(SCHEME) && ends).then_some(rest)
        })
}

fn resource_metadata(parameters: &str) -> Option<String> {
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
    fn a_bearer_challenge_is_found_and_its_metadata() {
        let metadata = |url: &'static str| Some(Some(url));
        let cases = [
            (
                r#"Bearer resource_metadata="https://a.example/.well-known/x", scope="s""#,
                metadata("https://a.example/.well-known/x"),
            ),
            (
                r#"bearer error="invalid_token", resource_metadata=https://a.example/x"#,
                metadata("https://a.example/x"),
            ),
            (
                r#"Basic realm="x", Bearer resource_metadata="https://a.example/x""#,
                metadata("https://a.example/x"),
            ),
            (r#"Bearer error="invalid_token""#, Some(None)),
            (r#"Bearer resource_metadata="javascript:x""#, Some(None)),
            ("Bearer", Some(None)),
            (r#"Basic realm="a",Bearer"#, Some(None)),
            (
                r#"AzureApiManagementKey realm="https://a.example/x",name="Ocp-Apim-Subscription-Key""#,
                None,
            ),
            (r#"Basic realm="bearer""#, None),
            ("Bearers", None),
            ("Token Bearer", None),
            ("", None),
            ("é", None),
        ];
        for (challenge, expected) in cases {
            let found = bearer(challenge).map(resource_metadata);
            let found = found.as_ref().map(Option::as_deref);
            assert_eq!(found, expected, "{challenge}");
        }
    }
}
