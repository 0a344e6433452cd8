//! What attribute values and references a policy may have, beyond their names.
//! In: one policy element and what it may refer to. Out: flaws.

use super::check::{Flaw, References};
use super::xml::Element;

pub(crate) fn check(policy: &Element, references: &dyn References) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    match policy.name.as_str() {
        "rate-limit" | "rate-limit-by-key" => limits(policy, &mut flaws),
        "cors" => cors(policy, &mut flaws),
        "set-backend-service" => backend(policy, references, &mut flaws),
        "set-header" | "set-query-parameter" => one_of(
            policy,
            "exists-action",
            &["override", "skip", "append", "delete"],
            &mut flaws,
        ),
        "forward-request" => forward(policy, &mut flaws),
        "check-header" => {
            number(policy, "failed-check-httpcode", 100, 999, &mut flaws);
            one_of(policy, "ignore-case", &["true", "false"], &mut flaws);
        }
        "ip-filter" => {
            one_of(policy, "action", &["allow", "forbid"], &mut flaws);
            if policy.children().next().is_none() {
                flaws.push(Flaw::at(
                    policy,
                    "The element 'ip-filter' has incomplete content. List of possible elements expected: 'address, address-range'.",
                ));
            }
        }
        "include-fragment" => {
            let id = policy.attribute("fragment-id").unwrap_or_default();
            if !references.has_fragment(id) {
                flaws.push(Flaw::at(
                    policy,
                    format!("Policy fragment with id '{id}' could not be found."),
                ));
            }
        }
        "validate-jwt" => {
            let sources = ["header-name", "query-parameter-name", "token-value"];
            if sources
                .iter()
                .filter(|name| policy.attribute(name).is_some())
                .count()
                != 1
            {
                flaws.push(Flaw::at(
                    policy,
                    "One of 'header-name', 'query-parameter-name' or 'token-value' must be specified.",
                ));
            }
        }
        _ => {}
    }
    flaws
}

fn is_expression(value: &str) -> bool {
    value.starts_with("@(") || value.starts_with("@{") || value.contains("{{")
}

fn invalid(policy: &Element, name: &str, value: &str, kind: &str) -> Flaw {
    Flaw::at(
        policy,
        format!(
            "The '{name}' attribute is invalid - The value '{value}' is invalid according to its datatype '{kind}'."
        ),
    )
}

fn number(policy: &Element, name: &str, least: u64, most: u64, flaws: &mut Vec<Flaw>) {
    if let Some(value) = policy.attribute(name).filter(|value| !is_expression(value))
        && !value
            .parse::<u64>()
            .is_ok_and(|value| (least..=most).contains(&value))
    {
        flaws.push(invalid(policy, name, value, "Integer"));
    }
}

fn one_of(policy: &Element, name: &str, values: &[&str], flaws: &mut Vec<Flaw>) {
    if let Some(value) = policy.attribute(name).filter(|value| !is_expression(value))
        && !values.contains(&value)
    {
        flaws.push(invalid(policy, name, value, "String"));
    }
}

fn limits(policy: &Element, flaws: &mut Vec<Flaw>) {
    number(policy, "calls", 1, u64::from(u32::MAX), flaws);
    number(policy, "renewal-period", 1, 300, flaws);
}

fn forward(policy: &Element, flaws: &mut Vec<Flaw>) {
    number(policy, "timeout", 0, u64::from(u32::MAX), flaws);
    number(policy, "timeout-ms", 0, u64::from(u32::MAX), flaws);
    for name in [
        "buffer-response",
        "buffer-request-body",
        "follow-redirects",
        "fail-on-error-status-code",
    ] {
        one_of(policy, name, &["true", "false"], flaws);
    }
    one_of(policy, "http-version", &["1", "2or1", "2"], flaws);
    if policy.attribute("timeout").is_some() && policy.attribute("timeout-ms").is_some() {
        flaws.push(Flaw::at(
            policy,
            "Only one of 'timeout' and 'timeout-ms' can be specified.",
        ));
    }
}

fn backend(policy: &Element, references: &dyn References, flaws: &mut Vec<Flaw>) {
    match (policy.attribute("base-url"), policy.attribute("backend-id")) {
        (Some(_), Some(_)) | (None, None) => {
            flaws.push(Flaw::at(
                policy,
                "One of 'base-url' or 'backend-id' must be present.",
            ));
        }
        (None, Some(id)) if !is_expression(id) && !references.has_backend(id) => {
            flaws.push(Flaw::at(
                policy,
                format!("Backend with id '{id}' could not be found."),
            ));
        }
        (Some(url), None) if !is_expression(url) && url::Url::parse(url).is_err() => {
            flaws.push(invalid(policy, "base-url", url, "Uri"));
        }
        _ => {}
    }
}

fn cors(policy: &Element, flaws: &mut Vec<Flaw>) {
    for name in ["allow-credentials", "terminate-unmatched-request"] {
        one_of(policy, name, &["true", "false"], flaws);
    }
    for (list, member) in [
        ("allowed-origins", "origin"),
        ("allowed-methods", "method"),
        ("allowed-headers", "header"),
        ("expose-headers", "header"),
    ] {
        if let Some(list) = policy.child(list)
            && list.child(member).is_none()
        {
            flaws.push(Flaw::at(list, format!("The element '{}' has incomplete content. List of possible elements expected: '{member}'.", list.name)));
        }
    }
    let origins = policy
        .child("allowed-origins")
        .into_iter()
        .flat_map(Element::children);
    for origin in origins {
        let text = origin.text();
        if text == "*" || is_expression(&text) {
            continue;
        }
        let plain = url::Url::parse(&text).is_ok_and(|url| {
            url.has_host()
                && url.path() == "/"
                && url.query().is_none()
                && !text.contains('*')
                && url.username().is_empty()
        });
        if !plain {
            flaws.push(Flaw::at(
                origin,
                "Origin must be a valid URL consisting of scheme, host, and port only",
            ));
        }
    }
}
