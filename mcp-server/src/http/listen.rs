//! subscriptions/listen on POST /mcp (2026-07-28, basic/patterns/subscriptions): a filter goes in, a stream comes out.
//!
//! What a filter can ask for never happens here: the lists change with the server's version only, and nobody can subscribe to
//! alerts. So the stream says which notifications it will carry (none), stays quiet, and ends with the result of the request
//! when the server drains. Closing it is all that a client has to do.

use super::refusal::json_response;
use crate::app::App;
use crate::protocol::answer::{self, Code, RenderedId};
use crate::protocol::envelope::Id;
use crate::protocol::json::{Json, Object};
use crate::sse::framing;
use crate::sse::open::event_stream;
use axum::body::Body;
use http::{Response, StatusCode};

/// The method.
pub const METHOD: &str = "subscriptions/listen";

/// Open a subscription. It counts as one of the open streams.
pub fn open(app: &App, id: &Id<'_>, params: &Object<'_>) -> Response<Body> {
    let id = RenderedId::from_id(id);
    if let Err(text) = check_filter(params.get("notifications")) {
        let body = answer::error(Some(&id), Code::InvalidParams, &text, None);
        return json_response(StatusCode::OK, body);
    }
    let first = framing::event("message", &answer::subscription_acknowledged(&id));
    let last = framing::event("message", &answer::subscription_ended(&id));
    // Nothing is ever addressed to this stream, so its token only has to differ from all others.
    let opened = app
        .streams
        .open_with_end(rand::random(), first, last, app.limits.keep_alive);
    match opened {
        Ok(body) => event_stream(body),
        Err(refusal) => refusal.into_response_to(Some(&id), &app.metrics),
    }
}

/// Whether it is a filter (schema, SubscriptionFilter). What we do not know in it is not asked of us.
fn check_filter(filter: Option<&Json<'_>>) -> Result<(), String> {
    let Some(Json::Object(filter)) = filter else {
        return Err("notifications is missing: pass an object that says what to listen to".to_owned());
    };
    for (name, value) in &filter.0 {
        let fits = match (name.as_ref(), value) {
            ("toolsListChanged" | "promptsListChanged" | "resourcesListChanged", value) => {
                matches!(value, Json::Bool(_))
            }
            ("resourceSubscriptions", Json::Array(uris)) => uris.iter().all(|uri| uri.as_str().is_some()),
            ("resourceSubscriptions", _) => false,
            _ => true,
        };
        if !fits {
            return Err(format!(
                "notifications.{name} does not fit: the lists take true or false, resourceSubscriptions a list of URIs"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::json::parse;

    #[test]
    fn a_filter_has_its_types() {
        let fits = |text: &str| check_filter(Some(&parse(text.as_bytes()).unwrap())).is_ok();
        for filter in [
            "{}",
            r#"{"toolsListChanged":true,"promptsListChanged":false,"resourcesListChanged":true}"#,
            r#"{"resourceSubscriptions":["weather://alerts/CA"],"future":1}"#,
            r#"{"resourceSubscriptions":[]}"#,
        ] {
            assert!(fits(filter), "{filter}");
        }
        for filter in [
            "[]",
            "null",
            r#"{"toolsListChanged":1}"#,
            r#"{"promptsListChanged":null}"#,
            r#"{"resourceSubscriptions":"weather://alerts/CA"}"#,
            r#"{"resourceSubscriptions":[1]}"#,
        ] {
            assert!(!fits(filter), "{filter}");
        }
        assert!(check_filter(None).is_err());
    }
}
