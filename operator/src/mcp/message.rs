//! MCP's JSON-RPC messages. In: method and parameters, or a text read from the wire; out: the body to send, or what
//! the server meant, as a view of that text. Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer as _, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::error::cut;
use super::json::{self, Member};

/// The revision of 2026-07-28 works without a handshake (MCP specification, basic/versioning).
pub(super) const MODERN: &str = "2026-07-28";
/// The newest revision with a handshake.
pub(super) const LEGACY: &str = "2025-11-25";

const META: &str = "io.modelcontextprotocol";

/// Revisions that are kept, newest first, and the length of one.
const VERSIONS: usize = 16;
const VERSION: usize = 64;
/// Characters of what a server calls itself.
const NAME: usize = 128;
/// Bytes of a text that is looked at, to be cut.
const TEXT: usize = 8 * 1024;

/// A JSON-RPC response.
#[derive(Debug)]
pub(super) enum Response {
    Result(Answer),
    /// Its message is cut.
    Error {
        code: i64,
        message: String,
    },
}

/// The result in the text that came: nothing is copied.
pub(super) struct Answer {
    text: String,
    result: Range<usize>,
}

impl Answer {
    pub(super) fn get(&self) -> &str {
        self.text.get(self.result.clone()).unwrap_or_default()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&cut(self.get()))
    }
}

pub(super) fn request(id: u64, method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

pub(super) fn notification(method: &str) -> Value {
    json!({"jsonrpc": "2.0", "method": method})
}

pub(super) fn client_info() -> Value {
    json!({"name": "mcp-fleet-operator", "version": env!("CARGO_PKG_VERSION")})
}

pub(super) fn initialize() -> Value {
    json!({"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": client_info()})
}

/// Parameters of a request in the modern era, where every request carries what the handshake used to.
pub(super) fn modern(params: Value) -> Value {
    let mut params = object(params);
    params.insert(
        "_meta".to_owned(),
        json!({
            format!("{META}/protocolVersion"): MODERN,
            format!("{META}/clientCapabilities"): {},
            format!("{META}/clientInfo"): client_info(),
        }),
    );
    Value::Object(params)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

#[derive(Default, Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    jsonrpc: Member<'a>,
    #[serde(borrow, default)]
    id: Member<'a>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    result: Member<'a>,
    #[serde(borrow, default)]
    error: Member<'a>,
}

#[derive(Default, Deserialize)]
struct Failure<'a> {
    #[serde(borrow, default)]
    code: Member<'a>,
    #[serde(borrow, default)]
    message: Member<'a>,
}

/// The response to request `id`, or the text back for anything else: requests and notifications of the server,
/// responses to others, and what is not JSON-RPC.
pub(super) fn response(text: String, id: u64) -> Result<Response, String> {
    match find(&text, id) {
        Some(Ok(result)) => Ok(Response::Result(Answer { text, result })),
        Some(Err((code, message))) => Ok(Response::Error { code, message }),
        None => Err(text),
    }
}

/// Where the result is, or what the error says.
fn find(text: &str, id: u64) -> Option<Result<Range<usize>, (i64, String)>> {
    let message: Envelope<'_> = json::object(text)?;
    if message.jsonrpc?.get() != "\"2.0\"" {
        return None;
    }
    let for_us = |found: &RawValue| found.get().parse() == Ok(id);
    if let Some(error) = message.error {
        // A server that could not read the id answers with null.
        return message.id.is_none_or(for_us).then(|| {
            let failure: Failure<'_> = json::object(error.get()).unwrap_or_default();
            let code = failure.code.and_then(|code| code.get().parse().ok());
            let message = json::string(failure.message, TEXT);
            let message = message.map_or_else(|| "no message, or a long one".to_owned(), |text| cut(&text));
            Err((code.unwrap_or_default(), message))
        });
    }
    let result = message.result?.get();
    let begin = result.as_ptr().addr() - text.as_ptr().addr();
    message
        .id
        .is_some_and(for_us)
        .then(|| Ok(begin..begin + result.len()))
}

/// What a server says about itself when it is greeted: the result of `server/discover` or `initialize`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Greeting {
    /// It declares to have tools.
    pub tools: bool,
    /// The revision of a handshake.
    pub version: Option<String>,
    /// Revisions of a `server/discover` result, newest first; `None` when it is not such a result.
    pub versions: Option<Vec<String>>,
    /// [`MODERN`] is one of them.
    pub modern: bool,
    pub server_name: Option<String>,
    pub server_version: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Welcome<'a> {
    #[serde(borrow, default)]
    capabilities: Member<'a>,
    #[serde(borrow, default)]
    protocol_version: Member<'a>,
    #[serde(borrow, default)]
    supported_versions: Member<'a>,
    #[serde(borrow, default)]
    server_info: Member<'a>,
    #[serde(borrow, default, rename = "_meta")]
    meta: Member<'a>,
}

#[derive(Default, Deserialize)]
struct Capabilities<'a> {
    #[serde(borrow, default)]
    tools: Member<'a>,
}

#[derive(Default, Deserialize)]
struct Meta<'a> {
    #[serde(borrow, default, rename = "io.modelcontextprotocol/serverInfo")]
    server_info: Member<'a>,
}

#[derive(Default, Deserialize)]
struct ServerInfo<'a> {
    #[serde(borrow, default)]
    name: Member<'a>,
    #[serde(borrow, default)]
    version: Member<'a>,
}

/// Reads a greeting, of either era.
pub(super) fn greeting(result: &str) -> Greeting {
    let welcome: Welcome<'_> = json::object(result).unwrap_or_default();
    let capabilities: Capabilities<'_> = members(welcome.capabilities);
    // In the result, or since 2026-07-28 in its `_meta`.
    let info = welcome
        .server_info
        .or_else(|| members::<Meta<'_>>(welcome.meta).server_info);
    let info: ServerInfo<'_> = members(info);
    let text = |member| json::string(member, TEXT).map(|text| json::shortened(&text, NAME));
    let (versions, modern) = versions(welcome.supported_versions);
    Greeting {
        tools: capabilities.tools.is_some(),
        version: json::string(welcome.protocol_version, VERSION).map(std::borrow::Cow::into_owned),
        versions,
        modern,
        server_name: text(info.name),
        server_version: text(info.version),
    }
}

fn members<'a, T: Deserialize<'a> + Default>(member: Member<'a>) -> T {
    member
        .and_then(|member| json::object(member.get()))
        .unwrap_or_default()
}

/// The newest revisions of a list, and whether [`MODERN`] is in it.
fn versions(listed: Member<'_>) -> (Option<Vec<String>>, bool) {
    let Some(listed) = json::list(listed) else {
        return (None, false);
    };
    let read = serde_json::Deserializer::from_str(listed).deserialize_seq(Newest::default());
    read.map_or((None, false), |Newest { versions, modern }| {
        (Some(versions.into_iter().rev().collect()), modern)
    })
}

/// Revisions are dates, so their order is the order of the texts.
#[derive(Default)]
struct Newest {
    versions: BTreeSet<String>,
    modern: bool,
}

impl<'de> Visitor<'de> for Newest {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of revisions")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Self, A::Error> {
        while let Some(item) = list.next_element::<&RawValue>()? {
            let Some(version) = json::string(Some(item), VERSION) else {
                continue;
            };
            self.modern |= version == MODERN;
            self.versions.insert(version.into_owned());
            if self.versions.len() > VERSIONS {
                self.versions.pop_first();
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_response_to_the_request_counts() {
        let error = |code, message: &str| Some(Err((code, message.to_owned())));
        let cases = [
            (
                r#"{"jsonrpc":"2.0","id":1,"result":{ "a": 1 }}"#,
                Some(Ok(r#"{ "a": 1 }"#)),
            ),
            (r#" {"result":null,"id":1,"jsonrpc":"2.0"}"#, Some(Ok("null"))),
            (
                r#"{"jsonrpc":"2.0","id":1,"result":7,"error":null}"#,
                Some(Ok("7")),
            ),
            (r#"{"jsonrpc":"2.0","id":2,"result":{}}"#, None),
            (r#"{"jsonrpc":"2.0","id":"1","result":{}}"#, None),
            (r#"{"jsonrpc":"2.0","result":{}}"#, None),
            (r#"{"jsonrpc":"2.0","method":"notifications/message"}"#, None),
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, None),
            (r#"{"id":1,"result":{}}"#, None),
            (r#"["2.0",1,{}]"#, None),
            ("<html>", None),
            (
                r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"n\no"}}"#,
                error(-32600, "n o"),
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"error":7}"#,
                error(0, "no message, or a long one"),
            ),
            (r#"{"jsonrpc":"2.0","id":2,"error":{}}"#, None),
        ];
        for (text, expected) in cases {
            let found = match response(text.to_owned(), 1) {
                Ok(Response::Result(answer)) => Some(Ok(answer.get().to_owned())),
                Ok(Response::Error { code, message }) => Some(Err((code, message))),
                Err(back) => {
                    assert_eq!(back, text);
                    None
                }
            };
            let expected = expected.map(|expected| expected.map(str::to_owned));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn versions_are_sorted_newest_first_and_few() {
        let read = |list: &Value| greeting(&json!({"supportedVersions": list}).to_string());
        let found = read(&json!(["2025-11-25", "2026-07-28", 7, "2025-11-25"]));
        assert_eq!(
            found.versions,
            Some(vec!["2026-07-28".into(), "2025-11-25".into()])
        );
        assert!(found.modern);
        assert_eq!(greeting("{}"), Greeting::default());
        assert_eq!(greeting("[]"), Greeting::default());
        assert_eq!(read(&json!({})).versions, None);
        let mut many: Vec<_> = (0..60_000).map(|index| format!("9{index:05}")).collect();
        many.push(MODERN.to_owned());
        many.push("x".repeat(65));
        let found = read(&json!(many));
        assert!(found.modern);
        let versions = found.versions.unwrap();
        assert_eq!((versions.len(), versions[0].as_str()), (16, "959999"));
    }

    #[test]
    fn server_info_is_found_in_both_eras_and_cut() {
        let info = json!({"name": "weather", "version": "1.2"});
        let name = |result: &Value| {
            let greeting = greeting(&result.to_string());
            (greeting.server_name, greeting.server_version)
        };
        let expected = (Some("weather".to_owned()), Some("1.2".to_owned()));
        assert_eq!(name(&json!({"serverInfo": info})), expected);
        assert_eq!(
            name(&json!({"_meta": {"io.modelcontextprotocol/serverInfo": info}})),
            expected
        );
        assert_eq!(name(&json!({})), (None, None));
        let long = name(&json!({"serverInfo": {"name": "é".repeat(500), "version": "x".repeat(9_000)}}));
        assert_eq!(long.0.unwrap().chars().count(), 128);
        assert_eq!(long.1, None);
        let tools = |result: &Value| greeting(&result.to_string()).tools;
        assert!(tools(&json!({"capabilities": {"tools": {}}})));
        assert!(!tools(&json!({"capabilities": {"tools": null}})));
        assert!(!tools(&json!({"capabilities": []})));
    }
}
