//! The stateless dispatch: one request goes in, its answer comes out, or the tool call or resource read to run for it.
//!
//! Nothing is remembered between requests, in any era: whatever replica gets a message can answer it.

use super::answer::{self, Code, RenderedId};
use super::envelope::Id;
use super::json::{Json, Object};
use super::listing::{LIST_TTL_MS, Listing};
use super::modern::SUPPORTED;
use super::revision::{Era, Handshake, Transport, negotiate};
use crate::tools::{Call, Work, catalog};
use crate::{completion, prompts, resources};
use bytes::Bytes;
use serde_json::json;

/// What a client and its model are told about this server.
const INSTRUCTIONS: &str = "Weather in the United States and its territories, from the National Weather Service. \
    Call get_alerts with a state to learn about warnings, get_forecast with coordinates for the next days.";

/// Characters of a method's name or a URI that an error repeats.
const MAX_ECHO: usize = 200;

/// An answer and, when it is an error, which.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Bytes of one JSON-RPC message.
    pub body: Bytes,
    /// Set in error answers.
    pub error: Option<Code>,
}

/// What to do with a request.
#[derive(Debug)]
pub enum Step {
    /// It is answered already.
    Answer(Reply),
    /// A tool has to be run, or a resource read.
    Call(Call),
}

/// Everything that can be answered without asking anybody, prebuilt.
#[derive(Debug)]
pub struct Dispatch {
    tools: Listing,
    resources: Listing,
    templates: Listing,
    prompts: Listing,
    discover: Vec<u8>,
}

impl Default for Dispatch {
    fn default() -> Dispatch {
        Dispatch::build()
    }
}

impl Dispatch {
    /// Build the answers.
    pub fn build() -> Dispatch {
        let capabilities = json!({"tools": {}, "resources": {}, "prompts": {}, "completions": {}});
        let instructions = json!(INSTRUCTIONS);
        Dispatch {
            tools: catalog::listing(),
            resources: resources::listing(),
            templates: resources::templates(),
            prompts: prompts::listing(),
            discover: format!(
                r#""supportedVersions":{},"capabilities":{capabilities},"instructions":{instructions},"ttlMs":{LIST_TTL_MS},"cacheScope":"public""#,
                json!(SUPPORTED)
            )
            .into_bytes(),
        }
    }

    /// Answer one request of `era`.
    pub fn request(&self, era: Era, id: &Id<'_>, method: &str, params: &Object<'_>) -> Step {
        let id = RenderedId::from_id(id);
        match (method, era) {
            ("tools/call", _) => call_tool(id, era, params),
            ("tools/list", _) => list(&self.tools, &id, era, params),
            ("resources/read", _) => read_resource(id, era, params),
            ("resources/list", _) => list(&self.resources, &id, era, params),
            ("resources/templates/list", _) => list(&self.templates, &id, era, params),
            ("prompts/get", _) => settle(&id, era, prompts::get(params)),
            ("prompts/list", _) => list(&self.prompts, &id, era, params),
            ("completion/complete", _) => settle(&id, era, completion::complete(params)),
            ("server/discover", Era::Modern) => succeed(&id, era, &self.discover),
            ("ping", Era::Handshake(_)) => succeed(&id, era, b""),
            ("initialize", Era::Handshake(transport)) => initialize(&id, transport, params),
            _ => {
                let method: String = method.chars().take(MAX_ECHO).collect();
                refuse(
                    &id,
                    Code::MethodNotFound,
                    &format!("Method not found: {method}"),
                    None,
                )
            }
        }
    }
}

/// Only what the revision that is agreed on has words for.
fn initialize(id: &RenderedId, transport: Transport, params: &Object<'_>) -> Step {
    let Some(asked) = params.get("protocolVersion").and_then(Json::as_str) else {
        let text = "initialize needs a protocolVersion";
        return refuse(id, Code::InvalidParams, text, None);
    };
    let revision = negotiate(asked, transport);
    let mut capabilities = json!({"tools": {}, "resources": {}, "prompts": {}});
    if revision >= Handshake::V2025_03_26 {
        capabilities["completions"] = json!({});
    }
    let mut info = json!({"name": "mcp-weather", "version": env!("CARGO_PKG_VERSION")});
    if revision >= Handshake::V2025_06_18 {
        info["title"] = json!("US weather");
    }
    let members = format!(
        r#""protocolVersion":"{}","capabilities":{capabilities},"serverInfo":{info},"instructions":{}"#,
        revision.as_str(),
        json!(INSTRUCTIONS)
    );
    succeed(id, Era::Handshake(transport), members.as_bytes())
}

fn list(listing: &Listing, id: &RenderedId, era: Era, params: &Object<'_>) -> Step {
    if params.get("cursor").is_some_and(|cursor| *cursor != Json::Null) {
        return refuse(
            id,
            Code::InvalidParams,
            "unknown cursor: this list has one page",
            None,
        );
    }
    let members = match era {
        Era::Modern => &listing.modern,
        Era::Handshake(_) => &listing.handshake,
    };
    succeed(id, era, members)
}

fn call_tool(id: RenderedId, era: Era, params: &Object<'_>) -> Step {
    let Some(name) = params.get("name").and_then(Json::as_str) else {
        return refuse(
            &id,
            Code::InvalidParams,
            "tools/call needs the name of a tool",
            None,
        );
    };
    let no_arguments = Object::default();
    let arguments = match params.get("arguments") {
        None | Some(Json::Null) => &no_arguments,
        Some(Json::Object(arguments)) => arguments,
        Some(_) => return refuse(&id, Code::InvalidParams, "arguments must be an object", None),
    };
    Step::Call(Call {
        id,
        era,
        work: Work::read(name, arguments),
    })
}

fn read_resource(id: RenderedId, era: Era, params: &Object<'_>) -> Step {
    let Some(uri) = params.get("uri").and_then(Json::as_str) else {
        let text = format!("resources/read needs a uri: {}", resources::HINT);
        return refuse(&id, Code::InvalidParams, &text, None);
    };
    if let Some(state) = resources::find(uri) {
        let work = Work::ReadAlerts(state, uri.to_owned());
        return Step::Call(Call { id, era, work });
    }
    // 2026-07-28 did away with the code of its own (server/resources, Error Handling).
    let code = match era {
        Era::Modern => Code::InvalidParams,
        Era::Handshake(_) => Code::ResourceNotFound,
    };
    let text = format!("Resource not found: {}", resources::HINT);
    let uri: String = uri.chars().take(MAX_ECHO).collect();
    refuse(&id, code, &text, Some(&json!({"uri": uri})))
}

fn settle(id: &RenderedId, era: Era, members: Result<Vec<u8>, String>) -> Step {
    match members {
        Ok(members) => succeed(id, era, &members),
        Err(text) => refuse(id, Code::InvalidParams, &text, None),
    }
}

fn succeed(id: &RenderedId, era: Era, members: &[u8]) -> Step {
    Step::Answer(Reply {
        body: answer::result(id, era, members),
        error: None,
    })
}

fn refuse(id: &RenderedId, code: Code, message: &str, data: Option<&serde_json::Value>) -> Step {
    Step::Answer(Reply {
        body: answer::error(Some(id), code, message, data),
        error: Some(code),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const MODERN: Era = Era::Modern;
    const HTTP: Era = Era::Handshake(Transport::StreamableHttp);
    const SSE: Era = Era::Handshake(Transport::Sse);

    fn ask(era: Era, method: &str, params: &str) -> Value {
        let Json::Object(params) = crate::protocol::json::parse(params.as_bytes()).unwrap() else {
            panic!("params")
        };
        match Dispatch::build().request(era, &Id::Number("1"), method, &params) {
            Step::Answer(reply) => {
                let value: Value = serde_json::from_slice(&reply.body).unwrap();
                assert_eq!(
                    reply.error.map(|code| i64::from(code.number())),
                    value["error"]["code"].as_i64()
                );
                value
            }
            Step::Call(call) => json!({"call": format!("{:?}", call.work)}),
        }
    }

    #[test]
    fn each_era_has_its_own_methods() {
        for (era, method, found) in [
            (MODERN, "server/discover", true),
            (MODERN, "tools/list", true),
            (MODERN, "ping", false),
            (MODERN, "initialize", false),
            (MODERN, "logging/setLevel", false),
            (MODERN, "resources/subscribe", false),
            (MODERN, "subscriptions/listen", false),
            (MODERN, "resources/list", true),
            (MODERN, "resources/templates/list", true),
            (MODERN, "prompts/list", true),
            (HTTP, "server/discover", false),
            (HTTP, "subscriptions/listen", false),
            (HTTP, "logging/setLevel", false),
            (HTTP, "resources/subscribe", false),
            (SSE, "server/discover", false),
            (HTTP, "ping", true),
            (SSE, "ping", true),
            (SSE, "tools/list", true),
            (HTTP, "resources/list", true),
            (SSE, "resources/templates/list", true),
            (SSE, "prompts/list", true),
            (HTTP, "TOOLS/LIST", false),
        ] {
            let answer = ask(era, method, "{}");
            assert_eq!(
                answer.get("result").is_some(),
                found,
                "{era:?} {method}: {answer}"
            );
            if !found {
                assert_eq!(answer["error"]["code"], -32601);
            }
        }
    }

    #[test]
    fn initialize_negotiates() {
        let answer = ask(
            SSE,
            "initialize",
            r#"{"protocolVersion":"2024-11-05","capabilities":{}}"#,
        );
        assert_eq!(answer["result"]["protocolVersion"], "2024-11-05");
        assert_eq!(answer["result"]["serverInfo"]["name"], "mcp-weather");
        assert!(answer["result"].get("resultType").is_none());
        assert_eq!(ask(HTTP, "initialize", "{}")["error"]["code"], -32602);
    }

    #[test]
    fn capabilities_are_in_the_words_of_the_revision() {
        for (version, completions, title) in [
            ("2024-11-05", false, false),
            ("2025-03-26", true, false),
            ("2025-06-18", true, true),
            ("2025-11-25", true, true),
        ] {
            let result = &ask(
                SSE,
                "initialize",
                &format!(r#"{{"protocolVersion":"{version}"}}"#),
            )["result"];
            assert_eq!(result["protocolVersion"], version);
            let capabilities = result["capabilities"].as_object().unwrap();
            assert!(
                ["tools", "resources", "prompts"]
                    .iter()
                    .all(|name| capabilities.contains_key(*name))
            );
            assert_eq!(capabilities.contains_key("completions"), completions, "{version}");
            assert_eq!(result["serverInfo"].get("title").is_some(), title, "{version}");
        }
        let discovered = ask(MODERN, "server/discover", "{}");
        assert_eq!(
            discovered["result"]["capabilities"],
            json!({"tools": {}, "resources": {}, "prompts": {}, "completions": {}})
        );
    }

    #[test]
    fn resources_are_read_or_not_found_as_each_era_says() {
        let read = ask(MODERN, "resources/read", r#"{"uri":"weather://alerts/ca"}"#);
        assert!(read["call"].as_str().unwrap().starts_with("ReadAlerts"), "{read}");
        for (era, code) in [(MODERN, -32602), (HTTP, -32002), (SSE, -32002)] {
            let error = &ask(era, "resources/read", r#"{"uri":"test://nothing"}"#)["error"];
            assert_eq!(
                (&error["code"], &error["data"]["uri"]),
                (&json!(code), &json!("test://nothing"))
            );
            assert_eq!(
                ask(era, "resources/read", r#"{"uri":1}"#)["error"]["code"],
                -32602
            );
        }
    }

    #[test]
    fn prompts_and_completion_answer_in_every_era() {
        let prompt = r#"{"name":"weather_briefing","arguments":{"state":"CA"}}"#;
        let typed = r#"{"ref":{"type":"ref/prompt","name":"weather_briefing"},"argument":{"name":"state","value":"CA"}}"#;
        for era in [MODERN, HTTP, SSE] {
            let result = &ask(era, "prompts/get", prompt)["result"];
            assert!(result["messages"][0]["content"]["text"].is_string(), "{result}");
            assert_eq!(result.get("resultType").is_some(), era == MODERN);
            assert_eq!(ask(era, "prompts/get", "{}")["error"]["code"], -32602);
            let result = &ask(era, "completion/complete", typed)["result"];
            assert_eq!(result["completion"]["values"], json!(["CA", "California"]));
            assert_eq!(ask(era, "completion/complete", "{}")["error"]["code"], -32602);
        }
    }

    #[test]
    fn modern_lists_carry_caching_hints() {
        for method in [
            "server/discover",
            "tools/list",
            "resources/list",
            "resources/templates/list",
            "prompts/list",
        ] {
            let result = &ask(MODERN, method, "{}")["result"];
            assert!(result["ttlMs"].as_u64().is_some(), "{result}");
            assert_eq!(result["cacheScope"], "public");
            assert_eq!(result["resultType"], "complete");
        }
        let list = &ask(HTTP, "tools/list", "{}")["result"];
        assert_eq!(
            list.as_object().unwrap().len(),
            1,
            "no modern word in a handshake answer: {list}"
        );
        for method in [
            "tools/list",
            "resources/list",
            "resources/templates/list",
            "prompts/list",
        ] {
            assert_eq!(ask(HTTP, method, r#"{"cursor":"x"}"#)["error"]["code"], -32602);
        }
    }

    #[test]
    fn calls_need_a_name_and_object_arguments() {
        assert_eq!(ask(HTTP, "tools/call", "{}")["error"]["code"], -32602);
        assert_eq!(
            ask(HTTP, "tools/call", r#"{"name":"get_alerts","arguments":[]}"#)["error"]["code"],
            -32602
        );
        let call = ask(
            HTTP,
            "tools/call",
            r#"{"name":"get_alerts","arguments":{"state":"ca"}}"#,
        );
        assert!(call["call"].as_str().unwrap().starts_with("Alerts"), "{call}");
    }
}
