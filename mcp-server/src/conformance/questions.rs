//! Questions of a tool or prompt to the user or model behind the client: a question goes in, the request for it comes out (in
//! an `InputRequiredResult`, 2026-07-28 patterns/mrtr); and an answer goes in, its text comes out if it is one.

use super::weather::internal;
use rmcp::ErrorData;
use rmcp::model::{ClientCapabilities, InputRequests, InputResponses};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A question, by the key under which its answer comes back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    pub(super) key: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// To the user: a form with one field.
    Form {
        message: &'static str,
        field: &'static str,
        of: &'static str,
    },
    /// To the client's model.
    Model { prompt: &'static str, tokens: u32 },
    /// Which directories the client works in.
    Roots,
}

const fn form(key: &'static str, message: &'static str, field: &'static str, of: &'static str) -> Question {
    Question {
        key,
        kind: Kind::Form { message, field, of },
    }
}

const fn model(key: &'static str, prompt: &'static str, tokens: u32) -> Question {
    Question {
        key,
        kind: Kind::Model { prompt, tokens },
    }
}

pub(super) const USER_NAME: Question = form("user_name", "What is your name?", "name", "string");
pub(super) const CONFIRM: Question = form("confirm", "Please confirm", "ok", "boolean");
pub(super) const STEP_1: Question = form("step1", "Step 1: What is your name?", "name", "string");
pub(super) const STEP_2: Question = form("step2", "Step 2: What is your favorite color?", "color", "string");
pub(super) const CONTEXT: Question = form(
    "user_context",
    "What context should the prompt use?",
    "context",
    "string",
);
pub(super) const CAPITAL: Question = model("capital_question", "What is the capital of France?", 100);
pub(super) const GREETING: Question = model("greeting", "Generate a greeting", 50);
pub(super) const ROOTS: Question = Question {
    key: "client_roots",
    kind: Kind::Roots,
};

impl Question {
    fn request(self) -> Value {
        match self.kind {
            Kind::Form { message, field, of } => json!({"method": "elicitation/create", "params": {
                "mode": "form",
                "message": message,
                "requestedSchema": {"type": "object", "properties": {field: {"type": of}}, "required": [field]},
            }}),
            Kind::Model { prompt, tokens } => json!({"method": "sampling/createMessage", "params": {
                "messages": [{"role": "user", "content": {"type": "text", "text": prompt}}],
                "maxTokens": tokens,
            }}),
            Kind::Roots => json!({"method": "roots/list", "params": {}}),
        }
    }

    /// Whether a client with these capabilities can be asked.
    pub(super) fn suits(self, capabilities: &ClientCapabilities) -> bool {
        match self.kind {
            Kind::Form { .. } => capabilities.elicitation.is_some(),
            Kind::Model { .. } => capabilities.sampling.is_some(),
            Kind::Roots => capabilities.roots.is_some(),
        }
    }

    fn needs(self) -> Value {
        match self.kind {
            Kind::Form { .. } => json!({"elicitation": {}}),
            Kind::Model { .. } => json!({"sampling": {}}),
            Kind::Roots => json!({"roots": {}}),
        }
    }

    /// The answer as text, if there is one of the right shape.
    pub(super) fn answer(self, responses: &InputResponses) -> Option<String> {
        let response = responses.get(self.key)?;
        match self.kind {
            Kind::Form { field, of, .. } => match response.get("action")?.as_str()? {
                "accept" => match response.get("content")?.get(field)? {
                    Value::String(text) if of == "string" => Some(text.clone()),
                    Value::Bool(flag) if of == "boolean" => Some(flag.to_string()),
                    _ => None,
                },
                action @ ("decline" | "cancel") => Some(format!("({action})")),
                _ => None,
            },
            Kind::Model { .. } => {
                let text = response.get("content")?.get("text")?;
                text.as_str().map(str::to_owned)
            }
            Kind::Roots => {
                let roots = response.get("roots")?.as_array()?.iter();
                let uris: Option<Vec<&str>> = roots.map(|root| root.get("uri")?.as_str()).collect();
                Some(uris?.join(", "))
            }
        }
    }
}

/// The answers to all of `questions`, or the requests for those that have none yet.
pub(super) fn answers(
    questions: &[Question],
    responses: Option<&InputResponses>,
    capabilities: &ClientCapabilities,
) -> Result<Result<Vec<String>, InputRequests>, ErrorData> {
    let none = BTreeMap::new();
    let responses = responses.unwrap_or(&none);
    let mut found = Vec::new();
    let mut open = serde_json::Map::new();
    for question in questions {
        match question.answer(responses) {
            Some(answer) => found.push(answer),
            None if question.suits(capabilities) => {
                open.insert(question.key.to_owned(), question.request());
            }
            None => return Err(missing_capability(question.needs())),
        }
    }
    if open.is_empty() {
        return Ok(Ok(found));
    }
    read(Value::Object(open)).map(Err)
}

/// -32021 of 2026-07-28: `needed` is what the client would have to declare.
pub(super) fn missing_capability(needed: Value) -> ErrorData {
    match serde_json::from_value(needed) {
        Ok(needed) => ErrorData::missing_required_client_capability(needed),
        Err(error) => internal(&error),
    }
}

/// A value of rmcp's from how it looks on the wire.
pub(super) fn read<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, ErrorData> {
    serde_json::from_value(value).map_err(|error| internal(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capabilities(text: &str) -> ClientCapabilities {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn asks_until_everything_is_answered() {
        let able = capabilities(r#"{"elicitation":{},"sampling":{},"roots":{}}"#);
        let all = [USER_NAME, GREETING, ROOTS];
        let asked = answers(&all, None, &able).unwrap().unwrap_err();
        assert_eq!(
            asked.keys().collect::<Vec<_>>(),
            ["client_roots", "greeting", "user_name"]
        );
        let mut responses: InputResponses = serde_json::from_value(json!({
            "user_name": {"action": "accept", "content": {"name": "Ada"}},
            "client_roots": {"roots": [{"uri": "file:///a"}, {"uri": "file:///b"}]},
            "unknown": 1,
        }))
        .unwrap();
        let asked = answers(&all, Some(&responses), &able).unwrap().unwrap_err();
        assert_eq!(asked.keys().collect::<Vec<_>>(), ["greeting"]);
        responses.insert(
            "greeting".into(),
            json!({"role": "assistant", "content": {"type": "text", "text": "Hi"}}),
        );
        assert_eq!(
            answers(&all, Some(&responses), &able).unwrap().unwrap(),
            ["Ada", "Hi", "file:///a, file:///b"]
        );
    }

    #[test]
    fn an_answer_of_another_shape_is_none() {
        for response in [
            json!(12345),
            json!({"action": "accept"}),
            json!({"action": "accept", "content": {"name": 1}}),
            json!({"action": "maybe", "content": {"name": "x"}}),
            json!({"content": {"name": "x"}}),
        ] {
            let responses = BTreeMap::from([("user_name".to_owned(), response.clone())]);
            assert_eq!(USER_NAME.answer(&responses), None, "{response}");
        }
        let declined = BTreeMap::from([("user_name".to_owned(), json!({"action": "decline"}))]);
        assert_eq!(USER_NAME.answer(&declined).as_deref(), Some("(decline)"));
    }

    #[test]
    fn a_client_that_cannot_answer_is_not_asked() {
        let error = answers(&[CAPITAL], None, &capabilities(r#"{"elicitation":{}}"#)).unwrap_err();
        assert_eq!(error.code.0, -32021);
        assert_eq!(
            error.data,
            Some(json!({"requiredCapabilities": {"sampling": {}}}))
        );
    }
}
