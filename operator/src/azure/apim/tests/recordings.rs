//! Exchanges that were recorded against the real service: our types read them, what was put and what came back is no
//! difference to us, and long operations and errors are understood.
//! In: `../shared/apim/recordings`, where it exists.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::server::Fixture;
use crate::azure::apim::{
    error::{ErrorClass, classify},
    operation::{PendingOperation, Signal},
    policy::same_policy,
    request::{Response, Verb},
    wire::{Api, Backend, Envelope, Policy, Product, Subscription},
};

struct Exchange {
    title: String,
    method: String,
    /// Types in the path, for example `apis` or `products/policies`.
    kind: String,
    request: Value,
    status: u16,
    headers: Value,
    body: Value,
}

/// All exchanges with resources of the service itself.
fn exchanges() -> Option<Vec<Exchange>> {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/apim/recordings/aso-2024-05-01.jsonl");
    let Ok(text) = std::fs::read_to_string(&file) else {
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "{} is missing",
            file.display()
        );
        println!("skipped: {} is not there", file.display());
        return None;
    };
    let exchanges = text.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        let path = line["path"].as_str().unwrap();
        let below = path.split("/service/").nth(1).unwrap_or_default();
        let kinds: Vec<&str> = below.split('/').skip(1).step_by(2).collect();
        Exchange {
            title: format!("{} {} {path}", line["seq"], line["method"]),
            method: line["method"].as_str().unwrap().to_owned(),
            kind: kinds.join("/"),
            request: line["request"]["body"].clone(),
            status: u16::try_from(line["response"]["status"].as_u64().unwrap()).unwrap(),
            headers: line["response"]["headers"].clone(),
            body: line["response"]["body"].clone(),
        }
    });
    Some(exchanges.collect())
}

fn properties<T: DeserializeOwned>(title: &str, body: &Value) -> T {
    let envelope: Envelope<T> =
        serde_json::from_value(body.clone()).unwrap_or_else(|error| panic!("{title}: {error}"));
    envelope.properties
}

fn put_and_answer<T: DeserializeOwned>(exchange: &Exchange) -> (T, T) {
    (
        properties(&exchange.title, &exchange.request),
        properties(&exchange.title, &exchange.body),
    )
}

#[test]
fn what_was_put_and_what_came_back_is_no_difference() {
    let Some(exchanges) = exchanges() else { return };
    let mut seen = std::collections::BTreeMap::<String, u32>::new();
    for exchange in exchanges
        .iter()
        .filter(|exchange| exchange.method == "PUT" && exchange.status < 300)
    {
        let title = exchange.title.as_str();
        let same = match exchange.kind.as_str() {
            "backends" => {
                let (wanted, found) = put_and_answer::<Backend>(exchange);
                wanted.difference(&found).is_none()
            }
            "apis" => {
                let (wanted, found) = put_and_answer::<Api>(exchange);
                wanted.difference(&found).is_none()
            }
            "products" => {
                let (wanted, found) = put_and_answer::<Product>(exchange);
                wanted.difference(&found).is_none()
            }
            "subscriptions" => {
                let (wanted, found) = put_and_answer::<Subscription>(exchange);
                assert!(
                    found.primary_key.is_some() && found.secondary_key.is_some(),
                    "{title}: the PUT gives the keys"
                );
                wanted.difference(&found).is_none()
            }
            "policies" | "products/policies" => {
                let (wanted, found) = put_and_answer::<Policy>(exchange);
                same_policy(&wanted.value, &found.value)
            }
            _ => continue,
        };
        assert!(same, "{title}: {} -> {}", exchange.request, exchange.body);
        *seen.entry(exchange.kind.clone()).or_default() += 1;
    }
    assert_eq!(
        seen.keys().collect::<Vec<_>>(),
        [
            "apis",
            "backends",
            "policies",
            "products",
            "products/policies",
            "subscriptions"
        ]
    );
}

#[tokio::test]
async fn long_operations_are_followed_by_their_status() {
    let Some(exchanges) = exchanges() else { return };
    let fixture = Fixture::new([]).await;
    let mut count = 0;
    for exchange in exchanges
        .iter()
        .filter(|exchange| exchange.headers["Azure-AsyncOperation"].is_string())
    {
        let mut headers = http::HeaderMap::new();
        for (name, value) in exchange.headers.as_object().unwrap() {
            let name: http::HeaderName = name.parse().unwrap();
            headers.insert(name, value.as_str().unwrap().parse().unwrap());
        }
        let answer = Response {
            status: exchange.status,
            headers,
            body: exchange.body.to_string().into(),
        };
        let url = fixture.base.parse().unwrap();
        let verb = if exchange.method == "DELETE" {
            Verb::Delete
        } else {
            Verb::Put
        };
        let operation = PendingOperation::from_answer(&fixture.client, verb, "r", &url, &answer)
            .unwrap()
            .unwrap();
        assert_eq!(operation.signal, Signal::Status, "{}", exchange.title);
        assert!(operation.url.starts_with(&fixture.base), "{}", operation.url);
        count += 1;
    }
    assert!(count >= 3, "{count}");
}

#[test]
fn errors_have_their_class() {
    let Some(exchanges) = exchanges() else { return };
    let (mut missing, mut service_missing, mut other) = (0, 0, 0);
    for exchange in exchanges.iter().filter(|exchange| exchange.status >= 400) {
        match classify(exchange.status, None, exchange.body.to_string().as_bytes()) {
            ErrorClass::NotFound => missing += 1,
            ErrorClass::ServiceMissing { .. } => service_missing += 1,
            ErrorClass::Unexpected { message } if exchange.status == 405 => {
                assert!(
                    message.contains("does not support http method 'GET'"),
                    "{message}"
                );
                other += 1;
            }
            class => panic!("{}: {class:?}", exchange.title),
        }
    }
    assert!(
        missing > 3 && service_missing >= 2 && other == 1,
        "{missing} {service_missing} {other}"
    );
}
