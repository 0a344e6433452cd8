//! What tools/list says: the weather server's tools as it lists them, then the suite's.

use rmcp::model::{JsonObject, Tool};
use serde_json::{Value, json};

/// Tools without arguments, and what they are for.
const PLAIN: [(&str, &str); 24] = [
    ("test_simple_text", "Answers with a text."),
    ("test_image_content", "Answers with an image."),
    ("test_audio_content", "Answers with a sound."),
    ("test_embedded_resource", "Answers with a resource."),
    (
        "test_multiple_content_types",
        "Answers with a text, an image and a resource.",
    ),
    ("test_error_handling", "Always fails."),
    ("test_tool_with_logging", "Logs three steps."),
    (
        "test_logging_tool",
        "Logs three steps, if the request asks for a log.",
    ),
    ("test_tool_with_progress", "Reports its progress."),
    (
        "test_reconnection",
        "Answers after its stream was closed: the answer has to be fetched.",
    ),
    (
        "test_elicitation_sep1034_defaults",
        "Asks the user with defaults for every kind of value.",
    ),
    (
        "test_elicitation_sep1330_enums",
        "Asks the user with every kind of choice.",
    ),
    (
        "test_missing_capability",
        "Needs a client that declares sampling.",
    ),
    (
        "test_streaming_elicitation",
        "Asks for a confirmation in its result.",
    ),
    (
        "test_trigger_tool_change",
        "Announces that the list of tools changed.",
    ),
    (
        "test_trigger_prompt_change",
        "Announces that the list of prompts changed.",
    ),
    ("test_input_required_result_elicitation", "Asks for a name."),
    (
        "test_input_required_result_sampling",
        "Asks the model of the client.",
    ),
    (
        "test_input_required_result_list_roots",
        "Asks for the roots of the client.",
    ),
    (
        "test_input_required_result_request_state",
        "Asks for a confirmation and keeps its state with the client.",
    ),
    (
        "test_input_required_result_tampered_state",
        "The same; a state that was changed is refused.",
    ),
    (
        "test_input_required_result_multiple_inputs",
        "Asks three questions at once.",
    ),
    (
        "test_input_required_result_multi_round",
        "Asks one question after the other.",
    ),
    (
        "test_input_required_result_capabilities",
        "Asks only what the client can answer.",
    ),
];

/// Tools with one string, what they are for, and the string.
const WITH_TEXT: [(&str, &str, (&str, &str)); 2] = [
    (
        "test_sampling",
        "Asks the model of the client in the middle of the call.",
        ("prompt", "The prompt to send to the model"),
    ),
    (
        "test_elicitation",
        "Asks the user in the middle of the call.",
        ("message", "The message to show the user"),
    ),
];

/// The list, built once.
#[derive(Debug)]
pub(in crate::conformance) struct Catalog(Vec<Tool>);

impl Catalog {
    /// `weather` are the weather server's own.
    pub(in crate::conformance) fn build(weather: &[Tool]) -> Catalog {
        let mut tools = weather.to_vec();
        tools.extend(PLAIN.map(|(name, description)| {
            let schema = json!({"type": "object", "properties": {}});
            Tool::new(name, description, object(schema))
        }));
        tools.extend(WITH_TEXT.map(|(name, description, (argument, meaning))| {
            let schema = json!({
                "type": "object",
                "properties": {argument: {"type": "string", "description": meaning}},
                "required": [argument],
            });
            Tool::new(name, description, object(schema))
        }));
        tools.push(Tool::new(
            "test_x_mcp_header",
            "Its region also travels in the header Mcp-Param-Region.",
            object(json!({
                "type": "object",
                "properties": {"region": {"type": "string", "x-mcp-header": "Region"}},
                "required": ["region"],
            })),
        ));
        tools.push(Tool::new(
            "json_schema_2020_12_tool",
            "Tool with JSON Schema 2020-12 features",
            object(schema_2020_12()),
        ));
        Catalog(tools)
    }

    pub(in crate::conformance) fn all(&self) -> Vec<Tool> {
        self.0.clone()
    }

    pub(in crate::conformance) fn find(&self, name: &str) -> Option<Tool> {
        self.0.iter().find(|tool| tool.name == name).cloned()
    }
}

/// Word for word what the suite looks for: none of it may get lost on the way.
fn schema_2020_12() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {"address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }},
        "properties": {
            "name": {"type": "string"},
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": {"type": "string"},
            "email": {"type": "string"},
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": false,
    })
}

fn object(value: Value) -> JsonObject {
    match value {
        Value::Object(object) => object,
        _ => JsonObject::new(),
    }
}
