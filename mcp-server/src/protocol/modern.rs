//! Which era a message on POST /mcp belongs to, and the header rules of 2026-07-28
//! (basic/transports/streamable-http, Request Metadata and Server Validation; basic/index, Per-request protocol fields).

use super::answer::Code;
use super::json::{Json, Object};
use super::revision::{Era, Handshake, MODERN, Transport};
use crate::tools::{Mirror, mirror_of};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use serde_json::json;
use std::borrow::Cow;

const VERSION_HEADER: &str = "mcp-protocol-version";
/// Repeats the method of a message.
pub const METHOD_HEADER: &str = "mcp-method";
const NAME_HEADER: &str = "mcp-name";
const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";

/// Every revision that POST /mcp speaks, newest first.
pub const SUPPORTED: [&str; 4] = [MODERN, "2025-11-25", "2025-06-18", "2025-03-26"];

/// Why headers and body do not make a request; always HTTP 400.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// JSON-RPC error code.
    pub code: Code,
    /// For a person.
    pub message: String,
    /// For a client.
    pub data: Option<serde_json::Value>,
}

impl Refusal {
    fn mismatch(message: impl Into<String>) -> Refusal {
        Refusal {
            code: Code::HeaderMismatch,
            message: message.into(),
            data: None,
        }
    }

    fn params(message: impl Into<String>) -> Refusal {
        Refusal {
            code: Code::InvalidParams,
            message: message.into(),
            data: None,
        }
    }

    fn unsupported(asked: &str) -> Refusal {
        Refusal {
            code: Code::UnsupportedVersion,
            message: "Unsupported protocol version".into(),
            data: Some(json!({"supported": SUPPORTED, "requested": asked})),
        }
    }
}

/// The era of a request, after every rule of that era.
pub fn judge_request(headers: &HeaderMap, method: &str, params: &Object<'_>) -> Result<Era, Refusal> {
    let meta = params.get("_meta").and_then(Json::as_object);
    let Some(version) = meta.and_then(|meta| meta.get(VERSION_KEY)) else {
        return judge_without_meta(headers);
    };
    let version = version
        .as_str()
        .ok_or_else(|| Refusal::params(format!("_meta {VERSION_KEY} must be a string")))?;
    if meta
        .and_then(|meta| meta.get(CAPABILITIES_KEY))
        .and_then(Json::as_object)
        .is_none()
    {
        return Err(Refusal::params(format!(
            "_meta {CAPABILITIES_KEY} is required and must be an object"
        )));
    }
    expect_header(headers, VERSION_HEADER, version)?;
    expect_header(headers, METHOD_HEADER, method)?;
    judge_name(headers, method, params)?;
    if version != MODERN {
        return Err(Refusal::unsupported(version));
    }
    if method == "tools/call"
        && let Some(mirror) = params.get("name").and_then(Json::as_str).and_then(mirror_of)
    {
        judge_mirror(headers, mirror, params.get("arguments"))?;
    }
    Ok(Era::Modern)
}

/// A response: a client sends none in the modern era, where nothing is asked of it outside an answer.
pub fn judge_response(headers: &HeaderMap) -> Result<Era, Refusal> {
    match judge_version(headers)? {
        Era::Modern => Err(Refusal {
            code: Code::InvalidRequest,
            message: "a client does not send responses in this revision".into(),
            data: None,
        }),
        era @ Era::Handshake(_) => Ok(era),
    }
}

/// A notification: no header but the version's is required of it, and none may say other than its body
/// (streamable-http, Server Validation).
pub fn judge_notification(headers: &HeaderMap, method: &str, params: &Object<'_>) -> Result<Era, Refusal> {
    let meta = params.get("_meta").and_then(Json::as_object);
    if let Some(version) = meta.and_then(|meta| meta.get(VERSION_KEY)).and_then(Json::as_str) {
        expect_header(headers, VERSION_HEADER, version)?;
    }
    let era = judge_version(headers)?;
    if era == Era::Modern && single(headers, METHOD_HEADER)?.is_some() {
        expect_header(headers, METHOD_HEADER, method)?;
    }
    Ok(era)
}

/// What has no body to look at: the version header alone tells its era.
pub fn judge_version(headers: &HeaderMap) -> Result<Era, Refusal> {
    match single(headers, VERSION_HEADER)? {
        Some(MODERN) => Ok(Era::Modern),
        _ => judge_without_meta(headers),
    }
}

fn judge_without_meta(headers: &HeaderMap) -> Result<Era, Refusal> {
    match single(headers, VERSION_HEADER)? {
        // 2025-03-26 knew no such header.
        None => Ok(Era::Handshake(Transport::StreamableHttp)),
        Some(MODERN) => Err(Refusal::params(format!(
            "params._meta must carry {VERSION_KEY} and {CAPABILITIES_KEY} in revision {MODERN}"
        ))),
        Some(version) => match Handshake::parse(version) {
            None | Some(Handshake::V2024_11_05) => Err(Refusal::unsupported(version)),
            Some(_) => Ok(Era::Handshake(Transport::StreamableHttp)),
        },
    }
}

fn judge_name(headers: &HeaderMap, method: &str, params: &Object<'_>) -> Result<(), Refusal> {
    let key = match method {
        "tools/call" | "prompts/get" => "name",
        "resources/read" => "uri",
        _ => return Ok(()),
    };
    let in_body = params.get(key).and_then(Json::as_str);
    let in_header = single_decoded(headers, NAME_HEADER)?;
    match (in_header.as_deref(), in_body) {
        (Some(header), Some(body)) if header == body => Ok(()),
        (None, None) => Ok(()),
        (None, Some(_)) => Err(Refusal::mismatch(format!(
            "Mcp-Name header is required for {method}"
        ))),
        (Some(_), _) => Err(Refusal::mismatch(format!(
            "Mcp-Name header does not match params.{key}"
        ))),
    }
}

/// A mirrored argument and its header are both there and equal, or both absent; `null` is absent
/// (streamable-http, Server Behavior for Custom Headers).
fn judge_mirror(headers: &HeaderMap, mirror: &Mirror, arguments: Option<&Json<'_>>) -> Result<(), Refusal> {
    let argument = arguments
        .and_then(Json::as_object)
        .and_then(|arguments| arguments.get(mirror.argument));
    let header = single_decoded(headers, mirror.header)?;
    match (header.as_deref(), argument) {
        (Some(header), Some(value)) if says(header, value) => Ok(()),
        // No header can carry an array or an object, so none is missing; the tool tells what to pass instead.
        (None, None | Some(Json::Null | Json::Array(_) | Json::Object(_))) => Ok(()),
        (None, Some(_)) => Err(Refusal::mismatch(format!(
            "Mcp-Param-{} header is required: it repeats the argument {}",
            mirror.name, mirror.argument
        ))),
        (Some(_), _) => Err(Refusal::mismatch(format!(
            "Mcp-Param-{} header does not match the argument {}",
            mirror.name, mirror.argument
        ))),
    }
}

/// Whether a decoded header is `value` (streamable-http, Value Encoding); numbers are compared as such.
fn says(header: &str, value: &Json<'_>) -> bool {
    match value {
        Json::String(text) => header == text,
        Json::Bool(flag) => header == if *flag { "true" } else { "false" },
        Json::Number(digits) => {
            header == *digits
                || matches!((header.parse::<f64>(), digits.parse::<f64>()), (Ok(a), Ok(b)) if a.total_cmp(&b).is_eq())
        }
        Json::Null | Json::Array(_) | Json::Object(_) => false,
    }
}

fn expect_header(headers: &HeaderMap, name: &str, body: &str) -> Result<(), Refusal> {
    match single(headers, name)? {
        Some(value) if value == body => Ok(()),
        Some(_) => Err(Refusal::mismatch(format!(
            "{name} header does not match the body"
        ))),
        None => Err(Refusal::mismatch(format!(
            "{name} header is required in revision {MODERN}"
        ))),
    }
}

/// The value of a header that must not be repeated: two readers could take different copies.
fn single<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Refusal::mismatch(format!("{name} header is repeated")));
    }
    value
        .to_str()
        .map(Some)
        .map_err(|_| Refusal::mismatch(format!("{name} header has invalid characters")))
}

fn single_decoded<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<Cow<'h, str>>, Refusal> {
    single(headers, name)?
        .map(|value| decode_sentinel(name, value))
        .transpose()
}

/// Undo `=?base64?...?=` (streamable-http, Value Encoding).
fn decode_sentinel<'h>(name: &str, value: &'h str) -> Result<Cow<'h, str>, Refusal> {
    let Some(encoded) = value
        .strip_prefix("=?base64?")
        .and_then(|rest| rest.strip_suffix("?="))
    else {
        return Ok(Cow::Borrowed(value));
    };
    let bytes = BASE64_STANDARD.decode(encoded).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    text.map(Cow::Owned)
        .ok_or_else(|| Refusal::mismatch(format!("{name} header is not valid base64 of UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::json::parse;

    const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;

    fn judge(headers: &[(&'static str, &'static str)], method: &str, params: &str) -> Result<Era, i32> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let Json::Object(params) = parse(params.as_bytes()).unwrap() else {
            panic!("params")
        };
        judge_request(&map, method, &params).map_err(|refusal| refusal.code.number())
    }

    #[test]
    fn modern_requests_need_headers_that_match_the_body() {
        let version = ("mcp-protocol-version", "2026-07-28");
        let method = ("mcp-method", "tools/call");
        let params = format!(r#"{{"name":"get_alerts",{META}}}"#);
        let call = |headers: &[(&'static str, &'static str)]| judge(headers, "tools/call", &params);
        assert_eq!(
            call(&[version, method, ("mcp-name", "get_alerts")]),
            Ok(Era::Modern)
        );
        assert_eq!(
            call(&[version, method, ("mcp-name", "=?base64?Z2V0X2FsZXJ0cw==?=")]),
            Ok(Era::Modern)
        );
        for headers in [
            &[method, ("mcp-name", "get_alerts")][..],
            &[version, ("mcp-name", "get_alerts")],
            &[version, method],
            &[version, method, ("mcp-name", "get_forecast")],
            &[version, method, ("mcp-name", "GET_ALERTS")],
            &[version, method, ("mcp-name", "=?base64?!?=")],
            &[version, ("mcp-method", "tools/list"), ("mcp-name", "get_alerts")],
            &[
                version,
                method,
                ("mcp-name", "get_alerts"),
                ("mcp-name", "get_alerts"),
            ],
            &[
                ("mcp-protocol-version", "2025-11-25"),
                method,
                ("mcp-name", "get_alerts"),
            ],
        ] {
            assert_eq!(call(headers), Err(-32020), "{headers:?}");
        }
    }

    #[test]
    fn a_mirrored_argument_is_repeated_in_its_header() {
        let call = |tool: &'static str, arguments: &str, states: &[&'static str]| {
            let mut headers = vec![
                ("mcp-protocol-version", "2026-07-28"),
                ("mcp-method", "tools/call"),
                ("mcp-name", tool),
            ];
            headers.extend(states.iter().map(|state| ("mcp-param-state", *state)));
            let params = format!(r#"{{"name":"{tool}"{arguments},{META}}}"#);
            judge(&headers, "tools/call", &params)
        };
        for (arguments, states) in [
            (r#","arguments":{"state":"CA"}"#, &["CA"][..]),
            (r#","arguments":{"state":"CA"}"#, &["=?base64?Q0E=?="]),
            (
                r#","arguments":{"state":" Kalifornien é"}"#,
                &["=?base64?IEthbGlmb3JuaWVuIMOp?="],
            ),
            (r#","arguments":{"state":""}"#, &["=?base64??="]),
            (r#","arguments":{"state":5}"#, &["5"]),
            (r#","arguments":{"state":5.0}"#, &["5"]),
            (r#","arguments":{"state":true}"#, &["true"]),
            (r#","arguments":{"state":null}"#, &[]),
            (r#","arguments":{"state":[]}"#, &[]),
            (r#","arguments":{}"#, &[]),
            (r#","arguments":null"#, &[]),
            ("", &[]),
        ] {
            assert_eq!(
                call("get_alerts", arguments, states),
                Ok(Era::Modern),
                "{arguments} {states:?}"
            );
        }
        for (arguments, states) in [
            (r#","arguments":{"state":"CA"}"#, &[][..]),
            (r#","arguments":{"state":"CA"}"#, &["NY"]),
            (r#","arguments":{"state":"CA"}"#, &["ca"]),
            (r#","arguments":{"state":"CA"}"#, &["=?BASE64?Q0E=?="]),
            (r#","arguments":{"state":"CA"}"#, &["=?base64?Q0?="]),
            (r#","arguments":{"state":"CA"}"#, &["CA", "CA"]),
            (r#","arguments":{"state":5}"#, &[]),
            (r#","arguments":{"state":5}"#, &["6"]),
            (r#","arguments":{"state":true}"#, &["1"]),
            (r#","arguments":{"state":null}"#, &["null"]),
            (r#","arguments":{"state":[]}"#, &["[]"]),
            (r#","arguments":{}"#, &["CA"]),
            ("", &["CA"]),
        ] {
            assert_eq!(
                call("get_alerts", arguments, states),
                Err(-32020),
                "{arguments} {states:?}"
            );
        }
        let other = r#","arguments":{"latitude":1,"longitude":1}"#;
        assert_eq!(
            call("get_forecast", other, &["CA"]),
            Ok(Era::Modern),
            "a header that is not this tool's is ignored"
        );
    }

    #[test]
    fn modern_requests_need_their_metadata() {
        let version = ("mcp-protocol-version", "2026-07-28");
        let list = ("mcp-method", "tools/list");
        assert_eq!(judge(&[version, list], "tools/list", "{}"), Err(-32602));
        assert_eq!(
            judge(&[version, list], "tools/list", r#"{"_meta":{}}"#),
            Err(-32602)
        );
        let no_capabilities = r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}"#;
        assert_eq!(
            judge(&[version, list], "tools/list", no_capabilities),
            Err(-32602)
        );
        let number = META.replace("\"2026-07-28\"", "1");
        assert_eq!(
            judge(&[version, list], "tools/list", &format!("{{{number}}}")),
            Err(-32602)
        );
    }

    #[test]
    fn a_notification_needs_no_header_but_none_may_contradict_it() {
        let judge = |headers: &[(&'static str, &'static str)], params: &str| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, value.parse().unwrap());
            }
            let Json::Object(params) = parse(params.as_bytes()).unwrap() else {
                panic!("params")
            };
            judge_notification(&map, "notifications/cancelled", &params)
                .map_err(|refusal| refusal.code.number())
        };
        let version = ("mcp-protocol-version", "2026-07-28");
        let handshake = Ok(Era::Handshake(Transport::StreamableHttp));
        let modern = format!("{{{META}}}");
        for (headers, params, era) in [
            (&[version][..], "{}", Ok(Era::Modern)),
            (&[version], &modern, Ok(Era::Modern)),
            (
                &[version, ("mcp-method", "notifications/cancelled")],
                &modern,
                Ok(Era::Modern),
            ),
            (&[version, ("mcp-method", "tools/call")], &modern, Err(-32020)),
            (&[], &modern, Err(-32020)),
            (&[("mcp-protocol-version", "2025-11-25")], &modern, Err(-32020)),
            (&[], "{}", handshake),
            // The header means nothing in a revision that does not have it.
            (&[("mcp-method", "tools/call")], "{}", handshake),
        ] {
            assert_eq!(judge(headers, params), era, "{headers:?} {params}");
        }
    }

    #[test]
    fn unknown_revisions_are_told_what_is_spoken() {
        let params = format!("{{{}}}", META.replace("2026-07-28", "2099-01-01"));
        let headers = [
            ("mcp-protocol-version", "2099-01-01"),
            ("mcp-method", "tools/list"),
        ];
        assert_eq!(judge(&headers, "tools/list", &params), Err(-32022));
        for version in ["2099-01-01", "2024-11-05", "x", ""] {
            assert_eq!(
                judge(&[("mcp-protocol-version", version)], "tools/list", "{}"),
                Err(-32022),
                "{version}"
            );
        }
    }

    #[test]
    fn handshake_requests_need_no_header_and_no_metadata() {
        let era = Ok(Era::Handshake(Transport::StreamableHttp));
        assert_eq!(judge(&[], "tools/list", "{}"), era);
        for version in ["2025-03-26", "2025-06-18", "2025-11-25"] {
            assert_eq!(
                judge(&[("mcp-protocol-version", version)], "tools/list", "{}"),
                era
            );
        }
        assert_eq!(judge(&[], "tools/call", r#"{"_meta":{"progressToken":1}}"#), era);
    }
}
