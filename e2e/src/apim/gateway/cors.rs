//! The `cors` policy: answers preflights, and adds its headers to answers of simple requests.
//! In: the policy and the request's headers. Out: an answer, or headers for one.
//! Source: cors-policy.md of Microsoft's documentation, and the Fetch standard for the header names.

use http::header::{ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use http::{HeaderMap, Method, StatusCode};

use crate::apim::answer::{self, Answer};
use crate::apim::policy::xml::Element;

fn listed<'a>(policy: &'a Element, list: &str) -> impl Iterator<Item = String> + use<'a> {
    policy
        .child(list)
        .into_iter()
        .flat_map(Element::children)
        .map(Element::text)
}

fn allows(policy: &Element, list: &str, value: &str) -> bool {
    listed(policy, list).any(|known| known == "*" || known.trim_end_matches('/').eq_ignore_ascii_case(value))
}

fn flag(policy: &Element, name: &str, default: bool) -> bool {
    policy.attribute(name).map_or(default, |value| value == "true")
}

fn text<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The origin to answer with: `*` where every origin is allowed and credentials are not.
fn origin_header(policy: &Element, origin: &str) -> String {
    let any = listed(policy, "allowed-origins").any(|known| known == "*");
    if any && !flag(policy, "allow-credentials", false) {
        "*".to_owned()
    } else {
        origin.to_owned()
    }
}

/// The first of the policies that takes the preflight answers it; where none does, the answer is an empty 200.
pub(super) fn preflight(policies: &[&Element], headers: &HeaderMap) -> Answer {
    let mut answer = answer::empty(StatusCode::OK);
    let origin = text(headers, &ORIGIN).unwrap_or_default();
    let method = text(headers, &ACCESS_CONTROL_REQUEST_METHOD).unwrap_or_default();
    let asked: Vec<&str> = text(headers, &ACCESS_CONTROL_REQUEST_HEADERS)
        .into_iter()
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    let takes = |policy: &Element| {
        let methods: Vec<String> = listed(policy, "allowed-methods").collect();
        // Without the list, GET and POST are allowed.
        let method_allowed = if methods.is_empty() {
            ["GET", "POST"].contains(&method)
        } else {
            methods
                .iter()
                .any(|known| known == "*" || known.eq_ignore_ascii_case(method))
        };
        allows(policy, "allowed-origins", origin)
            && method_allowed
            && asked
                .iter()
                .all(|header| allows(policy, "allowed-headers", header))
    };
    for policy in policies {
        if !takes(policy) {
            if flag(policy, "terminate-unmatched-request", true) {
                return answer;
            }
            continue;
        }
        answer::set(
            &mut answer,
            "access-control-allow-origin",
            &origin_header(policy, origin),
        );
        answer::set(&mut answer, "access-control-allow-methods", method);
        if !asked.is_empty() {
            answer::set(&mut answer, "access-control-allow-headers", &asked.join(","));
        }
        if flag(policy, "allow-credentials", false) {
            answer::set(&mut answer, "access-control-allow-credentials", "true");
        }
        let age = policy
            .child("allowed-methods")
            .and_then(|list| list.attribute("preflight-result-max-age"));
        if let Some(age) = age {
            answer::set(&mut answer, "access-control-max-age", age);
        }
        answer::set(&mut answer, "vary", "Origin");
        return answer;
    }
    answer
}

/// What the policy makes of a request that is no preflight.
pub(super) enum Simple {
    /// Headers for the answer; none where the origin does not match.
    Headers(Vec<(String, String)>),
    /// An empty 200: a GET or HEAD from an origin that does not match.
    Terminate,
}

pub(super) fn simple(policy: &Element, method: &Method, headers: &HeaderMap) -> Simple {
    let Some(origin) = text(headers, &ORIGIN) else {
        return Simple::Headers(Vec::new());
    };
    if !allows(policy, "allowed-origins", origin) {
        let simple = matches!(*method, Method::GET | Method::HEAD);
        if simple && flag(policy, "terminate-unmatched-request", true) {
            return Simple::Terminate;
        }
        return Simple::Headers(Vec::new());
    }
    let mut out = vec![(
        "Access-Control-Allow-Origin".to_owned(),
        origin_header(policy, origin),
    )];
    if flag(policy, "allow-credentials", false) {
        out.push(("Access-Control-Allow-Credentials".into(), "true".into()));
    }
    let exposed: Vec<String> = listed(policy, "expose-headers").collect();
    if !exposed.is_empty() {
        out.push(("Access-Control-Expose-Headers".into(), exposed.join(",")));
    }
    out.push(("Vary".into(), "Origin".into()));
    Simple::Headers(out)
}
