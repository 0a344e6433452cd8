//! The stateless dispatch: one request goes in, its answer comes out, or the tool call to run for it.
//!
//! Nothing is remembered between requests, in any era: whatever replica gets a message can answer it.

use super::answer::{self, Code, RenderedId};
use super::envelope::Id;
use super::json::{Json, Object};
use super::modern::SUPPORTED;
use super::revision::{Era, Transport, negotiate};
use crate::tools::catalog::Catalog;
use crate::tools::{Call, Work};
use bytes::Bytes;
use serde_json::json;

/// What a client and its model are told about this server.
const INSTRUCTIONS: &str = "Weather in the United States and its territories, from the National Weather Service. \
    Call get_alerts with a state to learn about warnings, get_forecast with coordinates for the next days.";

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
    /// A tool has to be run.
    Call(Call),
}

/// Everything that can be answered without asking anybody, prebuilt.
#[derive(Debug)]
pub struct Dispatch {
    catalog: Catalog,
    discover: Vec<u8>,
    after_version: String,
}

impl Default for Dispatch {
    fn default() -> Dispatch {
        Dispatch::build()
    }
}

impl Dispatch {
    /// Build the answers.
    pub fn build() -> Dispatch {
        let capabilities = json!({"tools": {}});
        let info =
            json!({"name": "mcp-weather", "title": "US weather", "version": env!("CARGO_PKG_VERSION")});
        let instructions = json!(INSTRUCTIONS);
        Dispatch {
            catalog: Catalog::build(),
            discover: format!(
                r#""supportedVersions":{},"capabilities":{capabilities},"instructions":{instructions},"ttlMs":300000,"cacheScope":"public""#,
                json!(SUPPORTED)
            )
            .into_bytes(),
            after_version: format!(
                r#","capabilities":{capabilities},"serverInfo":{info},"instructions":{instructions}"#
            ),
        }
    }

    /// Answer one request of `era`.
    pub fn request(&self, era: Era, id: &Id<'_>, method: &str, params: &Object<'_>) -> Step {
        let id = RenderedId::from_id(id);
        let members = match (method, era) {
            ("tools/call", _) => return call_tool(id, era, params),
            ("tools/list", _) if params.get("cursor").is_some_and(|cursor| *cursor != Json::Null) => {
                return refuse(&id, Code::InvalidParams, "unknown cursor: this list has one page");
            }
            ("tools/list", Era::Modern) => &self.catalog.modern,
            ("tools/list", Era::Handshake(_)) => &self.catalog.handshake,
            ("server/discover", Era::Modern) => &self.discover,
            ("ping", Era::Handshake(_)) => return succeed(&id, era, b""),
            ("initialize", Era::Handshake(transport)) => return self.initialize(&id, transport, params),
            _ => {
                let method: String = method.chars().take(80).collect();
                return refuse(&id, Code::MethodNotFound, &format!("Method not found: {method}"));
            }
        };
        succeed(&id, era, members)
    }

    fn initialize(&self, id: &RenderedId, transport: Transport, params: &Object<'_>) -> Step {
        let Some(asked) = params.get("protocolVersion").and_then(Json::as_str) else {
            return refuse(id, Code::InvalidParams, "initialize needs a protocolVersion");
        };
        let version = negotiate(asked, transport).as_str();
        let members = format!(r#""protocolVersion":"{version}"{}"#, self.after_version);
        succeed(id, Era::Handshake(transport), members.as_bytes())
    }
}

fn call_tool(id: RenderedId, era: Era, params: &Object<'_>) -> Step {
    let Some(name) = params.get("name").and_then(Json::as_str) else {
        return refuse(&id, Code::InvalidParams, "tools/call needs the name of a tool");
    };
    let no_arguments = Object::default();
    let arguments = match params.get("arguments") {
        None | Some(Json::Null) => &no_arguments,
        Some(Json::Object(arguments)) => arguments,
        Some(_) => return refuse(&id, Code::InvalidParams, "arguments must be an object"),
    };
    Step::Call(Call {
        id,
        era,
        work: Work::read(name, arguments),
    })
}

fn succeed(id: &RenderedId, era: Era, members: &[u8]) -> Step {
    Step::Answer(Reply {
        body: answer::result(id, era, members),
        error: None,
    })
}

fn refuse(id: &RenderedId, code: Code, message: &str) -> Step {
    Step::Answer(Reply {
        body: answer::error(Some(id), code, message, None),
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
            (HTTP, "server/discover", false),
            (SSE, "server/discover", false),
            (HTTP, "ping", true),
            (SSE, "ping", true),
            (SSE, "tools/list", true),
            (HTTP, "resources/list", false),
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
    fn modern_lists_carry_caching_hints() {
        for method in ["server/discover", "tools/list"] {
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
        assert_eq!(
            ask(HTTP, "tools/list", r#"{"cursor":"x"}"#)["error"]["code"],
            -32602
        );
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
