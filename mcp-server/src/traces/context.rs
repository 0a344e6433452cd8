//! Whose trace a request belongs to: headers and `params._meta` go in, the parent of its span and a link come out.
//!
//! The MCP message has a context of its own, which wins; that of the HTTP request is then only linked, since one is not a
//! part of the other (semantic-conventions-genai, MCP, Context propagation). A header alone is the parent.

use crate::protocol::json::{Json, Object};
use http::HeaderMap;
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{Link, SpanContext, TraceContextExt as _};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;

/// A longer `tracestate` is left out, as W3C Trace Context allows (section 3.3.1.5 asks for 512 characters).
const LONGEST_STATE: usize = 512;

/// Parent and link for the span of a request.
pub(super) fn parent_and_link(headers: Option<&HeaderMap>, params: &Object<'_>) -> (Context, Option<Link>) {
    let of_message = params
        .get("_meta")
        .and_then(Json::as_object)
        .and_then(|meta| read(&Meta(meta)));
    let of_request = headers.and_then(|headers| read(&Bounded(HeaderExtractor(headers))));
    let (parent, link) = match (of_message, of_request) {
        (Some(message), request) => (Some(message), request),
        (None, request) => (request, None),
    };
    // Never the context of whatever else runs on this thread.
    let nobody = Context::new();
    let parent = parent.map_or_else(
        || nobody.clone(),
        |parent| nobody.with_remote_span_context(parent),
    );
    (parent, link.map(Link::with_context))
}

fn read(carrier: &dyn Extractor) -> Option<SpanContext> {
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), carrier);
    let found = context.span().span_context().clone();
    found.is_valid().then_some(found)
}

struct Meta<'a>(&'a Object<'a>);

impl Extractor for Meta<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0
            .get(key)
            .and_then(Json::as_str)
            .filter(|value| value.len() <= LONGEST_STATE)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.0.iter().map(|(key, _)| key.as_ref()).collect()
    }
}

struct Bounded<'a>(HeaderExtractor<'a>);

impl Extractor for Bounded<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).filter(|value| value.len() <= LONGEST_STATE)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::json::parse;

    const MESSAGE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const REQUEST: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

    fn judge(headers: &[(&'static str, &str)], meta: &str) -> (Option<SpanContext>, Option<String>) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let body = format!(r#"{{"_meta":{meta}}}"#);
        let Json::Object(params) = parse(body.as_bytes()).unwrap() else {
            panic!("params")
        };
        let (parent, link) = parent_and_link(Some(&map), &params);
        let parent = parent.span().span_context().clone();
        let link = link.map(|link| link.span_context.trace_id().to_string());
        (parent.is_valid().then_some(parent), link)
    }

    #[test]
    fn the_message_wins_and_the_request_is_linked() {
        let meta = format!(r#"{{"traceparent":"{MESSAGE}","tracestate":"rojo=1,congo=t61"}}"#);
        let (parent, link) = judge(&[("traceparent", REQUEST), ("tracestate", "x=y")], &meta);
        let parent = parent.unwrap();
        assert_eq!(parent.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(parent.span_id().to_string(), "00f067aa0ba902b7");
        assert_eq!(parent.trace_state().header(), "rojo=1,congo=t61");
        assert!(parent.is_sampled() && parent.is_remote());
        assert_eq!(link.unwrap(), "0af7651916cd43dd8448eb211c80319c");
    }

    #[test]
    fn the_request_alone_is_the_parent() {
        for meta in ["{}", "null", r#"{"traceparent":5}"#, r#"{"traceparent":"00-x"}"#] {
            let (parent, link) = judge(&[("traceparent", REQUEST)], meta);
            let parent = parent.unwrap();
            assert_eq!(parent.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
            assert!(!parent.is_sampled() && link.is_none());
        }
        assert_eq!(judge(&[], "{}"), (None, None));
    }

    #[test]
    fn nonsense_is_nobody_s_trace() {
        let zero = format!("00-{}-{}-01", "0".repeat(32), "0".repeat(16));
        for text in [
            "",
            "00",
            &zero,
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            let meta = format!(r#"{{"traceparent":"{text}"}}"#);
            assert_eq!(judge(&[("traceparent", text)], &meta), (None, None), "{text}");
        }
        let long = format!(
            r#"{{"traceparent":"{MESSAGE}","tracestate":"a={}"}}"#,
            "b".repeat(600)
        );
        let (parent, _) = judge(&[], &long);
        assert_eq!(parent.unwrap().trace_state().header(), "");
    }
}
