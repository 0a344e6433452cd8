//! Runs the policies of a section, one after the other.
//! In: the policies and the call. Out: the call, changed; or an answer that ends it.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::cors::{self, Simple};
use super::effective::Step;
use super::exchange::{Destination, Exchange};
use super::failure::Failure;
use crate::apim::answer::{self, Answer};
use crate::apim::policy::expression::{Value, evaluate, evaluate_flag, evaluate_text};
use crate::apim::policy::xml::Element;
use crate::apim::state::Shared;

/// Which message `set-header` and its like change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Answer,
}

pub(super) enum Flow {
    Continue,
    Return(Answer),
}

pub(super) fn run(
    shared: &Shared,
    steps: &[Step<'_>],
    exchange: &mut Exchange,
    side: Side,
) -> Result<Flow, Failure> {
    for step in steps {
        match run_one(shared, *step, exchange, side)? {
            Flow::Continue => {}
            done @ Flow::Return(_) => return Ok(done),
        }
    }
    Ok(Flow::Continue)
}

fn run_one(shared: &Shared, step: Step<'_>, exchange: &mut Exchange, side: Side) -> Result<Flow, Failure> {
    let policy = step.policy;
    match policy.name.as_str() {
        "rate-limit" => rate_limit(shared, step, exchange)?,
        "rate-limit-by-key" => rate_limit_by_key(shared, policy, exchange)?,
        "cors" => match cors::simple(policy, &exchange.method, &exchange.headers) {
            Simple::Headers(headers) => exchange.added.extend(headers),
            Simple::Terminate => return Ok(Flow::Return(answer::empty(StatusCode::OK))),
        },
        "set-header" => set_header(policy, exchange, side)?,
        "set-query-parameter" => set_query_parameter(policy, exchange)?,
        "set-backend-service" => set_backend(policy, exchange)?,
        "set-variable" => {
            let value = evaluate(policy.attribute("value").unwrap_or_default(), exchange)?;
            exchange
                .variables
                .insert(policy.attribute("name").unwrap_or_default().into(), value);
        }
        "set-method" => {
            let method = evaluate_text(&policy.text(), exchange)?;
            exchange.method =
                Method::from_bytes(method.as_bytes()).map_err(|_| Failure::not_run("this method"))?;
        }
        "set-status" if side == Side::Answer => {
            let code = evaluate_text(policy.attribute("code").unwrap_or_default(), exchange)?;
            exchange.status = code.parse().ok();
        }
        "rewrite-uri" => rewrite(policy, exchange)?,
        "check-header" => check_header(policy, exchange)?,
        "ip-filter" => ip_filter(policy, exchange)?,
        "return-response" => return return_response(policy, exchange).map(Flow::Return),
        "choose" => {
            let chosen = choose(policy, exchange)?;
            let steps: Vec<Step<'_>> = chosen
                .into_iter()
                .flat_map(Element::children)
                .map(|policy| Step { policy, ..step })
                .collect();
            return run(shared, &steps, exchange, side);
        }
        "include-fragment" => {
            let id = policy.attribute("fragment-id").unwrap_or_default();
            let fragment = exchange.world.get(&format!("policyFragments/{id}")).cloned();
            let root = fragment.and_then(|fragment| fragment.policies.clone());
            let root = root.ok_or_else(|| Failure::not_run("a fragment that is gone"))?;
            let steps: Vec<Step<'_>> = root.children().map(|policy| Step { policy, ..step }).collect();
            return run(shared, &steps, exchange, side);
        }
        other => return Err(Failure::not_run(&format!("the policy '{other}'"))),
    }
    Ok(Flow::Continue)
}

/// The branch of a `choose` whose condition holds.
pub(super) fn choose<'a>(policy: &'a Element, exchange: &Exchange) -> Result<Option<&'a Element>, Failure> {
    for when in policy.children().filter(|child| child.name == "when") {
        if evaluate_flag(when.attribute("condition").unwrap_or_default(), exchange)? {
            return Ok(Some(when));
        }
    }
    Ok(policy.child("otherwise"))
}

fn number(policy: &Element, name: &str, exchange: &Exchange) -> Result<u32, Failure> {
    let text = evaluate_text(policy.attribute(name).unwrap_or_default(), exchange)?;
    text.parse()
        .map_err(|_| Failure::not_run(&format!("the value '{text}' of '{name}'")))
}

/// Once a call and document, per subscription, and only for calls with a key.
fn rate_limit(shared: &Shared, step: Step<'_>, exchange: &mut Exchange) -> Result<(), Failure> {
    if step.policy.children().next().is_some() {
        return Err(Failure::not_run(
            "rate limits of single APIs or operations inside 'rate-limit'",
        ));
    }
    let Some(subscription) = exchange.subscription.clone() else {
        return Ok(());
    };
    let name = format!("{} {}", step.document, subscription.id);
    count(shared, step.policy, &name, exchange)
}

fn rate_limit_by_key(shared: &Shared, policy: &Element, exchange: &mut Exchange) -> Result<(), Failure> {
    if policy.attribute("increment-condition").is_some() {
        return Err(Failure::not_run("the attribute 'increment-condition'"));
    }
    let key = evaluate_text(policy.attribute("counter-key").unwrap_or_default(), exchange)?;
    count(shared, policy, &format!("key {key}"), exchange)
}

fn count(shared: &Shared, policy: &Element, name: &str, exchange: &mut Exchange) -> Result<(), Failure> {
    let calls = number(policy, "calls", exchange)?;
    let period = Duration::from_secs(number(policy, "renewal-period", exchange)?.into());
    let verdict = {
        let mut state = shared.lock();
        let how = state.switches.rate_limiter;
        state.counts.take(name, calls, period, Instant::now(), how)
    };
    match verdict {
        Ok(left) => {
            if let Some(header) = policy.attribute("remaining-calls-header-name") {
                exchange.added.push((header.into(), left.to_string()));
            }
            if let Some(header) = policy.attribute("total-calls-header-name") {
                exchange.added.push((header.into(), calls.to_string()));
            }
            Ok(())
        }
        Err(wait) => {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            let header = policy
                .attribute("retry-after-header-name")
                .unwrap_or("Retry-After");
            let message = format!("Rate limit is exceeded. Try again in {seconds} seconds.");
            Err(Failure::new(429, message).with(header, seconds.to_string()))
        }
    }
}

/// Headers that policies cannot touch (set-header-policy.md, Limitations).
const FIXED: [&str; 4] = ["connection", "content-length", "keep-alive", "transfer-encoding"];

fn set_header(policy: &Element, exchange: &mut Exchange, side: Side) -> Result<(), Failure> {
    let name = evaluate_text(policy.attribute("name").unwrap_or_default(), exchange)?;
    let values = policy
        .children()
        .map(|value| evaluate_text(&value.text(), exchange))
        .collect::<Result<Vec<_>, _>>()?;
    let action = evaluate_text(policy.attribute("exists-action").unwrap_or("override"), exchange)?;
    if FIXED.contains(&name.to_lowercase().as_str()) {
        return Ok(());
    }
    let headers = if side == Side::Request {
        &mut exchange.headers
    } else {
        &mut exchange.answer_headers
    };
    apply_header(headers, &name, &values, &action)
}

fn apply_header(headers: &mut HeaderMap, name: &str, values: &[String], action: &str) -> Result<(), Failure> {
    let header = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| Failure::not_run(&format!("a header by the name '{name}'")))?;
    match action {
        "delete" => {
            headers.remove(&header);
            return Ok(());
        }
        "skip" if headers.contains_key(&header) => return Ok(()),
        "append" => {}
        _ => {
            headers.remove(&header);
        }
    }
    for value in values {
        let value = HeaderValue::from_str(value)
            .map_err(|_| Failure::not_run(&format!("a value of the header '{name}'")))?;
        headers.append(header.clone(), value);
    }
    Ok(())
}

fn set_query_parameter(policy: &Element, exchange: &mut Exchange) -> Result<(), Failure> {
    let name = evaluate_text(policy.attribute("name").unwrap_or_default(), exchange)?;
    let action = evaluate_text(policy.attribute("exists-action").unwrap_or("override"), exchange)?;
    let values = policy
        .children()
        .map(|value| evaluate_text(&value.text(), exchange))
        .collect::<Result<Vec<_>, _>>()?;
    let exists = exchange.query.get(&name).is_some();
    if (action == "skip" && exists) || (action == "delete" && !exists) {
        return Ok(());
    }
    if action != "append" {
        exchange.query.remove(&name);
    }
    if action != "delete" {
        for value in &values {
            exchange.query.push(&name, value);
        }
    }
    exchange.raw_query = exchange.query.text();
    Ok(())
}

fn set_backend(policy: &Element, exchange: &mut Exchange) -> Result<(), Failure> {
    if let Some(url) = policy.attribute("base-url") {
        let base = evaluate_text(url, exchange)?;
        exchange.destination = Some(Destination { base, backend: None });
        return Ok(());
    }
    let id = evaluate_text(policy.attribute("backend-id").unwrap_or_default(), exchange)?;
    let backend = exchange.world.get(&format!("backends/{id}")).cloned();
    let Some(backend) = backend else {
        tracing::error!(id, "a policy names a backend that is not there");
        return Err(Failure::new(500, "Internal server error"));
    };
    let Some(base) = backend.text("url").map(str::to_owned) else {
        return Err(Failure::not_run("backend pools"));
    };
    exchange.destination = Some(Destination {
        base,
        backend: Some(backend),
    });
    Ok(())
}

fn rewrite(policy: &Element, exchange: &mut Exchange) -> Result<(), Failure> {
    let mut target = evaluate_text(policy.attribute("template").unwrap_or_default(), exchange)?;
    for (name, value) in &exchange.parameters {
        target = target.replace(&format!("{{{name}}}"), value);
    }
    let (path, query) = target
        .split_once('?')
        .map_or((target.as_str(), None), |(path, query)| (path, Some(query)));
    exchange.rest = format!("/{}", path.trim_start_matches('/'));
    let copied = policy.attribute("copy-unmatched-params") != Some("false");
    let old = exchange.raw_query.take().filter(|_| copied);
    let parts: Vec<String> = query.map(str::to_owned).into_iter().chain(old).collect();
    exchange.raw_query = (!parts.is_empty()).then(|| parts.join("&"));
    exchange.query = crate::apim::query::Query::parse(exchange.raw_query.as_deref());
    Ok(())
}

fn check_header(policy: &Element, exchange: &Exchange) -> Result<(), Failure> {
    let name = evaluate_text(policy.attribute("name").unwrap_or_default(), exchange)?;
    let ignore_case = evaluate_flag(policy.attribute("ignore-case").unwrap_or_default(), exchange)?;
    let allowed = policy
        .children()
        .map(|value| evaluate_text(&value.text(), exchange))
        .collect::<Result<Vec<_>, _>>()?;
    let passes = exchange.header(&name).is_some_and(|value| {
        allowed.is_empty()
            || allowed
                .iter()
                .any(|known| *known == value || (ignore_case && known.eq_ignore_ascii_case(&value)))
    });
    if passes {
        return Ok(());
    }
    let status = number(policy, "failed-check-httpcode", exchange)?;
    let message = evaluate_text(
        policy.attribute("failed-check-error-message").unwrap_or_default(),
        exchange,
    )?;
    Err(Failure::new(u16::try_from(status).unwrap_or(400), message))
}

fn ip_filter(policy: &Element, exchange: &Exchange) -> Result<(), Failure> {
    let mut listed = false;
    for entry in policy.children() {
        let parse = |text: &str| text.trim().parse::<std::net::IpAddr>().ok();
        listed |= if let (Some(from), Some(to)) = (entry.attribute("from"), entry.attribute("to")) {
            matches!((parse(from), parse(to)), (Some(from), Some(to)) if (from..=to).contains(&exchange.peer))
        } else {
            let text = evaluate_text(&entry.text(), exchange)?;
            parse(&text) == Some(exchange.peer)
                || text
                    .parse::<ipnet::IpNet>()
                    .is_ok_and(|net| net.contains(&exchange.peer))
        };
    }
    let action = evaluate_text(policy.attribute("action").unwrap_or_default(), exchange)?;
    if listed == (action == "allow") {
        Ok(())
    } else {
        Err(Failure::new(403, "Forbidden"))
    }
}

fn return_response(policy: &Element, exchange: &Exchange) -> Result<Answer, Failure> {
    if policy.attribute("response-variable-name").is_some() {
        return Err(Failure::not_run("responses in variables"));
    }
    let mut answer = answer::empty(StatusCode::OK);
    for child in policy.children() {
        match child.name.as_str() {
            "set-status" => {
                let code = number(child, "code", exchange)?;
                let code = u16::try_from(code)
                    .ok()
                    .and_then(|code| StatusCode::from_u16(code).ok());
                *answer.status_mut() = code.ok_or_else(|| Failure::not_run("this status code"))?;
            }
            "set-header" => {
                let name = evaluate_text(child.attribute("name").unwrap_or_default(), exchange)?;
                let values = child
                    .children()
                    .map(|value| evaluate_text(&value.text(), exchange))
                    .collect::<Result<Vec<_>, _>>()?;
                apply_header(
                    answer.headers_mut(),
                    &name,
                    &values,
                    child.attribute("exists-action").unwrap_or("override"),
                )?;
            }
            "set-body" => {
                let text = match evaluate(&child.text(), exchange)? {
                    Value::Text(text) => text,
                    other => other.text(),
                };
                *answer.body_mut() = answer::bytes(StatusCode::OK, "text/plain", text).into_body();
            }
            other => return Err(Failure::not_run(&format!("'{other}' in 'return-response'"))),
        }
    }
    Ok(answer)
}
