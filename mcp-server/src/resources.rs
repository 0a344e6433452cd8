//! The resource template `weather://alerts/{state}`: a URI goes in, a state comes out; and back, alerts become contents.

use crate::protocol::answer::push_string;
use crate::protocol::listing::Listing;
use crate::protocol::revision::Era;
use crate::tools::render::Rendered;
use crate::tools::state::State;
use serde_json::json;

/// What every URI of the template begins with.
const PREFIX: &str = "weather://alerts/";
/// The template (RFC 6570).
pub const TEMPLATE: &str = "weather://alerts/{state}";
/// The variable in it.
pub const VARIABLE: &str = "state";
/// The contents are what get_alerts says, for a model or a person.
const MIME_TYPE: &str = "text/plain";
/// What to read instead of a resource that does not exist.
pub const HINT: &str =
    "read weather://alerts/{state} with a two-letter code, for example weather://alerts/CA";

/// What resources/list answers: nothing, since every resource comes from the template.
pub fn listing() -> Listing {
    Listing::of("resources", &json!([]))
}

/// What resources/templates/list answers.
pub fn templates() -> Listing {
    let template = json!({
        "uriTemplate": TEMPLATE,
        "name": "alerts",
        "title": "Weather alerts",
        "description": "The active weather alerts of a US state or territory, as text. \
            The state is a two-letter code or a full name, for example CA or California.",
        "mimeType": MIME_TYPE
    });
    Listing::of("resourceTemplates", &json!([template]))
}

/// The state whose alerts `uri` names, if it is one of ours.
pub fn find(uri: &str) -> Option<State> {
    let state = uri.strip_prefix(PREFIX)?;
    // Whatever else a path may have (another segment, a query) is no part of any state's name.
    State::parse(&percent_decode(state)?)
}

/// `%41` is `A` (RFC 3986, section 2.1); `None` for half an escape or bytes that are no text.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            let (high, low) = (digit()?, digit()?);
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// The result of reading `uri`, or what went wrong.
///
/// `ttlMs` is 0: how much longer these alerts are fresh is known to the server's cache alone, which answers at once anyway.
pub fn contents(uri: &str, era: Era, alerts: &Rendered) -> Result<Rendered, String> {
    let text = alerts.text_json();
    if alerts.is_error {
        let text = serde_json::from_slice(text);
        return Err(text.unwrap_or_else(|_| "failed to read the alerts".to_owned()));
    }
    let mut out = Vec::with_capacity(uri.len() + text.len() + 128);
    out.extend_from_slice(br#""contents":[{"uri":"#);
    push_string(&mut out, uri);
    out.extend_from_slice(br#","mimeType":"#);
    push_string(&mut out, MIME_TYPE);
    out.extend_from_slice(br#","text":"#);
    out.extend_from_slice(text);
    out.extend_from_slice(b"}]");
    if era == Era::Modern {
        out.extend_from_slice(br#","ttlMs":0,"cacheScope":"public""#);
    }
    Ok(Rendered {
        members: out.into(),
        is_error: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::revision::Transport;
    use crate::tools::render;
    use serde_json::Value;

    #[test]
    fn a_uri_names_a_state() {
        for (uri, code) in [
            ("weather://alerts/CA", "CA"),
            ("weather://alerts/ca", "CA"),
            ("weather://alerts/California", "CA"),
            ("weather://alerts/New%20York", "NY"),
            ("weather://alerts/%4e%59", "NY"),
        ] {
            assert_eq!(find(uri).map(State::code), Some(code), "{uri}");
        }
        for uri in [
            "",
            "weather://alerts/",
            "weather://alerts",
            "weather://alerts/{state}",
            "weather://alerts/XX",
            "weather://alerts/CA/",
            "weather://alerts/CA?x",
            "weather://alerts/CA/../NY",
            "weather://alerts/C%",
            "weather://alerts/C%4",
            "weather://alerts/C%+1",
            "weather://alerts/%ff",
            "WEATHER://alerts/CA",
            "weather://forecast/CA",
            "https://api.weather.gov/alerts/active/area/CA",
        ] {
            assert_eq!(find(uri), None, "{uri}");
        }
    }

    #[test]
    fn contents_have_the_text_of_the_tool() {
        let alerts = Rendered {
            members:
                r#""content":[{"type":"text","text":"No active alerts."}],"structuredContent":{"alerts":[]}"#
                    .into(),
            is_error: false,
        };
        let read = |era| {
            let contents = contents("weather://alerts/CA", era, &alerts).unwrap();
            let text = format!("{{{}}}", std::str::from_utf8(&contents.members).unwrap());
            serde_json::from_str::<Value>(&text).unwrap()
        };
        let content =
            json!([{"uri": "weather://alerts/CA", "mimeType": "text/plain", "text": "No active alerts."}]);
        let handshake = read(Era::Handshake(Transport::Sse));
        assert_eq!(handshake, json!({"contents": content}));
        let modern = read(Era::Modern);
        assert_eq!(
            modern,
            json!({"contents": content, "ttlMs": 0, "cacheScope": "public"})
        );
    }

    #[test]
    fn a_failure_is_told_in_words() {
        let failed = render::failure("Unable to fetch \"x\"\n");
        assert_eq!(
            contents("weather://alerts/CA", Era::Modern, &failed).unwrap_err(),
            "Unable to fetch \"x\"\n"
        );
    }
}
