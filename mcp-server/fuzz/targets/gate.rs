//! The gate and the stateless dispatch behind it: a body goes in, and whatever it is, these must hold.
//!
//! - What the gate accepts is the JSON that `serde_json` reads, with the same values and no key twice; what it calls no JSON,
//!   `serde_json` does not accept either.
//! - A request that is accepted is answered in every era with one JSON-RPC message that has its id.
//! - A request of 2026-07-28 whose headers say something else than its body is refused.
#![no_main]

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use mcp_weather::protocol::dispatch::{Dispatch, Step};
use mcp_weather::protocol::envelope::{self, Id, Message};
use mcp_weather::protocol::json::{self, Json, JsonError, Object};
use mcp_weather::protocol::modern::judge_request;
use mcp_weather::protocol::revision::{Era, MODERN, Transport};
use serde_json::Value;
use std::sync::LazyLock;

static DISPATCH: LazyLock<Dispatch> = LazyLock::new(Dispatch::build);

fuzz_target!(|body: &[u8]| {
    let serde: Result<Value, _> = serde_json::from_slice(body);
    let parsed = match json::parse(body) {
        Ok(parsed) => parsed,
        Err(JsonError::Syntax { .. } | JsonError::NotUtf8) => {
            assert!(serde.is_err(), "refused, but JSON");
            return;
        }
        Err(_) => return,
    };
    match &serde {
        Ok(serde) => assert!(is_same(&parsed, serde), "another value: {parsed:?}"),
        Err(error) => assert!(has_huge_number(&parsed), "accepted, but not JSON: {error}"),
    }
    let Ok(Message::Request { id, method, params }) = envelope::open(parsed) else {
        return;
    };
    for era in [
        Era::Modern,
        Era::Handshake(Transport::StreamableHttp),
        Era::Handshake(Transport::Sse),
    ] {
        check_answer(era, &id, &method, &params);
    }
    check_headers(&method, &params);
});

fn is_same(ours: &Json<'_>, serde: &Value) -> bool {
    match (ours, serde) {
        (Json::Null, Value::Null) => true,
        (Json::Bool(ours), Value::Bool(serde)) => ours == serde,
        (Json::String(ours), Value::String(serde)) => ours == serde,
        (Json::Number(ours), Value::Number(serde)) => is_same_number(ours, serde),
        (Json::Array(ours), Value::Array(serde)) => {
            ours.len() == serde.len() && ours.iter().zip(serde).all(|(ours, serde)| is_same(ours, serde))
        }
        // Its keys are distinct, so as many of ours are so too.
        (Json::Object(ours), Value::Object(serde)) => {
            ours.0.len() == serde.len()
                && serde
                    .iter()
                    .all(|(key, serde)| ours.get(key).is_some_and(|ours| is_same(ours, serde)))
        }
        _ => false,
    }
}

/// Both are the float nearest to the digits: `serde_json` is built with `float_roundtrip`.
fn is_same_number(ours: &str, serde: &serde_json::Number) -> bool {
    ours.parse().ok() == serde.as_f64()
}

/// A number that no float holds is a bad argument to us, and no JSON to `serde_json`.
fn has_huge_number(value: &Json<'_>) -> bool {
    match value {
        Json::Number(digits) => digits.parse().is_ok_and(f64::is_infinite),
        Json::Array(items) => items.iter().any(has_huge_number),
        Json::Object(object) => object.0.iter().any(|(_, value)| has_huge_number(value)),
        Json::Null | Json::Bool(_) | Json::String(_) => false,
    }
}

fn check_answer(era: Era, id: &Id<'_>, method: &str, params: &Object<'_>) {
    let Step::Answer(reply) = DISPATCH.request(era, id, method, params) else {
        return;
    };
    let answer: Value = serde_json::from_slice(&reply.body).expect("an answer is JSON");
    let code = answer["error"]["code"].as_i64();
    assert_eq!(reply.error.map(|code| i64::from(code.number())), code);
    assert_ne!(answer.get("result").is_some(), code.is_some(), "{answer}");
    match id {
        Id::String(text) => assert_eq!(answer["id"], text.as_ref()),
        Id::Number(digits) => {
            let text = format!(r#"{{"jsonrpc":"2.0","id":{digits},"#);
            assert!(reply.body.starts_with(text.as_bytes()), "{answer}");
        }
    }
}

fn check_headers(method: &str, params: &Object<'_>) {
    let mut headers = HeaderMap::new();
    let mut insert = |name: &'static str, value: Option<&str>| {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(name, value);
        }
    };
    let text = |key: &str| params.get(key).and_then(Json::as_str);
    insert("mcp-protocol-version", Some(MODERN));
    insert("mcp-method", Some(method));
    insert("mcp-name", text("name").or(text("uri")));
    let arguments = params.get("arguments").and_then(Json::as_object);
    insert(
        "mcp-param-state",
        arguments.and_then(|arguments| arguments.get("state")?.as_str()),
    );
    if judge_request(&headers, method, params) != Ok(Era::Modern) {
        return;
    }
    for name in [
        "mcp-protocol-version",
        "mcp-method",
        "mcp-name",
        "mcp-param-state",
    ] {
        let matters = match name {
            "mcp-name" => matches!(method, "tools/call" | "prompts/get" | "resources/read"),
            "mcp-param-state" => method == "tools/call" && text("name") == Some("get_alerts"),
            _ => true,
        };
        let mut other = headers.clone();
        other.append(name, HeaderValue::from_static("another value"));
        let had_none = !headers.contains_key(name);
        let verdict = judge_request(&other, method, params);
        assert!(verdict.is_err() || !matters, "{name}, absent before: {had_none}");
    }
}
