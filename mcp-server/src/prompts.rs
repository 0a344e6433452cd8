//! The prompts: a name and arguments as a person gave them go in, the message that they stand for comes out.

use crate::protocol::answer::push_string;
use crate::protocol::json::{Json, Object};
use crate::protocol::listing::Listing;
use crate::tools::point::Point;
use crate::tools::state::{self, State};
use crate::tools::{quote, refuse_unknown};
use serde_json::json;

/// Name of the prompt that takes a state.
pub const BRIEFING: &str = "weather_briefing";
/// Its argument.
pub const STATE: &str = "state";
const TRIP: &str = "trip_forecast";
const LATITUDE: &str = "latitude";
const LONGITUDE: &str = "longitude";
const BRIEFING_TEXT: &str = "A briefing on the active weather alerts of a US state or territory";
const TRIP_TEXT: &str = "What weather to expect at a place in the United States, and what to pack for it";

/// What prompts/list answers.
pub fn listing() -> Listing {
    let argument = |name: &str, text: &str| json!({"name": name, "description": text, "required": true});
    Listing::of(
        "prompts",
        &json!([
            {
                "name": BRIEFING,
                "title": "Weather briefing",
                "description": BRIEFING_TEXT,
                "arguments": [argument(STATE, "Two-letter code or full name, for example CA or California")]
            },
            {
                "name": TRIP,
                "title": "Forecast for a trip",
                "description": TRIP_TEXT,
                "arguments": [
                    argument(LATITUDE, "Degrees, north positive, for example 47.6062"),
                    argument(LONGITUDE, "Degrees, east positive, for example -122.3321")
                ]
            }
        ]),
    )
}

/// The members of the result of prompts/get, or what to pass instead.
pub fn get(params: &Object<'_>) -> Result<Vec<u8>, String> {
    let no_arguments = Object::default();
    let arguments = match params.get("arguments") {
        None | Some(Json::Null) => &no_arguments,
        Some(Json::Object(arguments)) => arguments,
        Some(_) => return Err("arguments must be an object".to_owned()),
    };
    match params.get("name").and_then(Json::as_str) {
        Some(BRIEFING) => briefing(arguments),
        Some(TRIP) => trip(arguments),
        Some(other) => Err(format!(
            "Unknown prompt {}: get {BRIEFING} or {TRIP}.",
            quote(other)
        )),
        None => Err(format!(
            "prompts/get needs the name of a prompt: {BRIEFING} or {TRIP}."
        )),
    }
}

fn briefing(arguments: &Object<'_>) -> Result<Vec<u8>, String> {
    refuse_unknown(arguments, &[STATE])?;
    let text = read_text(arguments, STATE, state::HINT)?;
    let state = State::parse(text)
        .ok_or_else(|| format!("{} is not a US state or territory: {}.", quote(text), state::HINT))?;
    let (name, code) = (state.name(), state.code());
    Ok(message(
        BRIEFING_TEXT,
        &format!(
            "Brief me on the weather alerts in {name}. Call get_alerts with state \"{code}\". \
             Begin with the most severe alert; for each say what is expected, where, and what to do. \
             If no alert is active, say that in one sentence. \
             If the answer is marked as stale, say as of when it is."
        ),
    ))
}

fn trip(arguments: &Object<'_>) -> Result<Vec<u8>, String> {
    refuse_unknown(arguments, &[LATITUDE, LONGITUDE])?;
    let latitude = read_degrees(arguments, LATITUDE, 90.0, "\"47.6062\"")?;
    let longitude = read_degrees(arguments, LONGITUDE, 180.0, "\"-122.3321\"")?;
    let point = Point::from_degrees(latitude, longitude);
    let (latitude, longitude) = (point.latitude(), point.longitude());
    Ok(message(
        TRIP_TEXT,
        &format!(
            "I am going to latitude {latitude}, longitude {longitude}. Call get_forecast with these two numbers. \
             Tell me day by day what weather to expect, and then what to wear and pack. \
             If the answer is marked as stale, say as of when it is."
        ),
    ))
}

/// Arguments of prompts are strings in every revision.
fn read_text<'a>(arguments: &'a Object<'_>, name: &str, hint: &str) -> Result<&'a str, String> {
    match arguments.get(name) {
        Some(Json::String(text)) => Ok(text),
        Some(_) => Err(format!("\"{name}\" must be a string: {hint}.")),
        None => Err(format!("\"{name}\" is missing: {hint}.")),
    }
}

fn read_degrees(arguments: &Object<'_>, name: &str, limit: f64, example: &str) -> Result<f64, String> {
    let hint = format!("pass degrees from -{limit} to {limit} as text, such as {example}");
    let text = read_text(arguments, name, &hint)?;
    match text.trim().parse::<f64>() {
        Ok(degrees) if degrees.abs() <= limit => Ok(degrees),
        _ => Err(format!("{} is no {name}: {hint}.", quote(text))),
    }
}

fn message(description: &str, text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(description.len() + text.len() + 128);
    out.extend_from_slice(br#""description":"#);
    push_string(&mut out, description);
    out.extend_from_slice(br#","messages":[{"role":"user","content":{"type":"text","text":"#);
    push_string(&mut out, text);
    out.extend_from_slice(b"}}]");
    out
}

/// The argument names of a prompt, if there is such a prompt.
pub fn arguments_of(name: &str) -> Option<&'static [&'static str]> {
    match name {
        BRIEFING => Some(&[STATE]),
        TRIP => Some(&[LATITUDE, LONGITUDE]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::json::parse;
    use serde_json::Value;

    fn ask(params: &str) -> Result<Value, String> {
        let Json::Object(params) = parse(params.as_bytes()).unwrap() else {
            panic!("params")
        };
        let members = get(&params)?;
        Ok(serde_json::from_str(&format!("{{{}}}", String::from_utf8(members).unwrap())).unwrap())
    }

    #[test]
    fn prompts_say_which_tool_to_call_with_what() {
        let result = ask(r#"{"name":"weather_briefing","arguments":{"state":"new york"}}"#).unwrap();
        assert_eq!(result["messages"][0]["role"], "user");
        let text = result["messages"][0]["content"]["text"].as_str().unwrap();
        assert!(
            text.contains("in New York.") && text.contains("get_alerts with state \"NY\""),
            "{text}"
        );

        let trip = r#"{"name":"trip_forecast","arguments":{"latitude":" 47.60621 ","longitude":"-122.33"}}"#;
        let result = ask(trip).unwrap();
        let text = result["messages"][0]["content"]["text"].as_str().unwrap();
        assert!(text.contains("latitude 47.6062, longitude -122.33."), "{text}");
    }

    #[test]
    fn bad_arguments_say_what_to_pass() {
        for (params, part) in [
            ("{}", "weather_briefing or trip_forecast"),
            (r#"{"name":"x\ny"}"#, "Unknown prompt \"xy\""),
            (
                r#"{"name":"weather_briefing"}"#,
                "\"state\" is missing: pass a two-letter code",
            ),
            (
                r#"{"name":"weather_briefing","arguments":[]}"#,
                "must be an object",
            ),
            (
                r#"{"name":"weather_briefing","arguments":{"state":1}}"#,
                "must be a string",
            ),
            (
                r#"{"name":"weather_briefing","arguments":{"state":"Kanada"}}"#,
                "\"Kanada\" is not",
            ),
            (
                r#"{"name":"weather_briefing","arguments":{"state":"CA","x":"1"}}"#,
                "Unknown argument \"x\"",
            ),
            (
                r#"{"name":"trip_forecast","arguments":{"latitude":"1"}}"#,
                "\"longitude\" is missing",
            ),
            (
                r#"{"name":"trip_forecast","arguments":{"latitude":1,"longitude":"1"}}"#,
                "must be a string",
            ),
            (
                r#"{"name":"trip_forecast","arguments":{"latitude":"north","longitude":"1"}}"#,
                "\"north\" is no latitude",
            ),
            (
                r#"{"name":"trip_forecast","arguments":{"latitude":"NaN","longitude":"1"}}"#,
                "from -90 to 90",
            ),
            (
                r#"{"name":"trip_forecast","arguments":{"latitude":"1","longitude":"1e309"}}"#,
                "from -180 to 180",
            ),
        ] {
            let text = ask(params).unwrap_err();
            assert!(text.contains(part) && !text.contains('\n'), "{params}: {text}");
        }
    }

    #[test]
    fn the_list_names_the_arguments_that_are_read() {
        let list = format!("{{{}}}", String::from_utf8(listing().handshake).unwrap());
        let list: Value = serde_json::from_str(&list).unwrap();
        for prompt in list["prompts"].as_array().unwrap() {
            let listed: Vec<&str> = prompt["arguments"]
                .as_array()
                .unwrap()
                .iter()
                .map(|argument| argument["name"].as_str().unwrap())
                .collect();
            assert_eq!(arguments_of(prompt["name"].as_str().unwrap()), Some(&*listed));
        }
        assert_eq!(list["prompts"].as_array().unwrap().len(), 2);
    }
}
