//! completion/complete: what someone has typed into an argument goes in, what it may become comes out.

use crate::prompts;
use crate::protocol::json::{Json, Object};
use crate::resources;
use crate::tools::state::State;
use serde_json::json;

/// Most values in one answer (server/utilities/completion, Completion Results).
const MAX_VALUES: usize = 100;

/// The members of the result, or what to pass instead.
///
/// A prompt or template that we do not have has no suggestions: that is an empty answer rather than an error, as the
/// conformance suite expects it of every server. What is no reference at all is an error.
pub fn complete(params: &Object<'_>) -> Result<Vec<u8>, String> {
    let argument = params.get("argument").and_then(Json::as_object);
    let text = |key: &str| {
        argument
            .and_then(|argument| argument.get(key))
            .and_then(Json::as_str)
    };
    let (Some(argument), Some(typed)) = (text("name"), text("value")) else {
        return Err("pass argument with its name and value, both strings".to_owned());
    };
    let values: Vec<&str> = if is_state(params.get("ref"), argument)? {
        State::beginning_with(typed).collect()
    } else {
        Vec::new()
    };
    let shown = &values[..values.len().min(MAX_VALUES)];
    let completion = json!({
        "values": shown,
        "total": values.len(),
        "hasMore": values.len() > shown.len(),
    });
    Ok(format!(r#""completion":{completion}"#).into_bytes())
}

/// Whether `argument` of the thing referred to is a state.
fn is_state(reference: Option<&Json<'_>>, argument: &str) -> Result<bool, String> {
    let hint =
        "pass ref as {\"type\":\"ref/prompt\",\"name\":...} or {\"type\":\"ref/resource\",\"uri\":...}";
    let text = |key: &str| reference.and_then(Json::as_object)?.get(key)?.as_str();
    let (known, expected) = match (text("type"), text("name"), text("uri")) {
        (Some("ref/prompt"), Some(name), _) => (prompts::arguments_of(name), prompts::STATE),
        (Some("ref/resource"), _, Some(uri)) => (
            (uri == resources::TEMPLATE).then_some(&[resources::VARIABLE][..]),
            resources::VARIABLE,
        ),
        _ => return Err(hint.to_owned()),
    };
    match known {
        Some(known) if !known.contains(&argument) => {
            Err(format!("there is no such argument: pass {}", known.join(" or ")))
        }
        Some(_) => Ok(argument == expected),
        None => Ok(false),
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
        let members = complete(&params)?;
        let result: Value =
            serde_json::from_str(&format!("{{{}}}", String::from_utf8(members).unwrap())).unwrap();
        Ok(result["completion"].clone())
    }

    const PROMPT: &str = r#"{"type":"ref/prompt","name":"weather_briefing"}"#;
    const TEMPLATE: &str = r#"{"type":"ref/resource","uri":"weather://alerts/{state}"}"#;

    fn state(reference: &str, typed: &str) -> Value {
        let argument = json!({"name": "state", "value": typed});
        ask(&format!(r#"{{"ref":{reference},"argument":{argument}}}"#)).unwrap()
    }

    #[test]
    fn states_are_completed_from_codes_and_names() {
        for reference in [PROMPT, TEMPLATE] {
            let completion = state(reference, "cal");
            assert_eq!(
                completion,
                json!({"values": ["California"], "total": 1, "hasMore": false})
            );
            assert_eq!(state(reference, "CA")["values"], json!(["CA", "California"]));
            assert_eq!(state(reference, "new y")["values"], json!(["New York"]));
            assert_eq!(state(reference, "x")["total"], 0);
        }
    }

    #[test]
    fn an_answer_has_at_most_a_hundred_values() {
        let completion = state(PROMPT, "");
        assert_eq!(completion["values"].as_array().unwrap().len(), 100);
        assert_eq!(
            (&completion["total"], &completion["hasMore"]),
            (&json!(110), &json!(true))
        );
    }

    #[test]
    fn what_cannot_be_completed_is_empty_and_what_is_no_reference_is_refused() {
        for reference in [
            r#"{"type":"ref/prompt","name":"nothing"}"#,
            r#"{"type":"ref/resource","uri":"weather://alerts/CA"}"#,
        ] {
            assert_eq!(
                state(reference, "c"),
                json!({"values": [], "total": 0, "hasMore": false})
            );
        }
        let latitude = r#"{"ref":{"type":"ref/prompt","name":"trip_forecast"},"argument":{"name":"latitude","value":"4"}}"#;
        assert_eq!(ask(latitude).unwrap()["total"], 0);
        for params in [
            "{}".to_owned(),
            format!(r#"{{"ref":{PROMPT}}}"#),
            format!(r#"{{"ref":{PROMPT},"argument":{{"name":"state","value":1}}}}"#),
            format!(r#"{{"ref":{PROMPT},"argument":{{"name":"county","value":"c"}}}}"#),
            r#"{"ref":{"type":"ref/tool","name":"get_alerts"},"argument":{"name":"state","value":"c"}}"#
                .to_owned(),
            r#"{"ref":{"type":"ref/prompt"},"argument":{"name":"state","value":"c"}}"#.to_owned(),
            r#"{"ref":"weather_briefing","argument":{"name":"state","value":"c"}}"#.to_owned(),
        ] {
            assert!(ask(&params).unwrap_err().contains("pass"), "{params}");
        }
    }
}
