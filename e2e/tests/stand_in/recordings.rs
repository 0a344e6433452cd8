//! Replays what was recorded against the live service: the stand-in must answer the same.
//! Where the recordings are not at hand the tests say so; in CI they must be.

use std::collections::HashMap;
use std::path::PathBuf;

use mcp_fleet_e2e::apim::{Config, Switches};
use serde_json::{Value, json};

use crate::support::{Bench, Reply, TOKEN, config};

/// The folder of reference data, or none (said, and only outside of CI).
pub fn reference(folder: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/apim")
        .join(folder);
    if path.exists() {
        return Some(path);
    }
    assert!(
        std::env::var("CI").is_err(),
        "{} must be there in CI",
        path.display()
    );
    println!("skipped: {} is not there", path.display());
    None
}

struct Differences<'a> {
    seq: &'a Value,
    found: Vec<String>,
}

impl Differences<'_> {
    /// Every member that was recorded must be there with the same value, and no other.
    fn compare(&mut self, place: &str, recorded: &Value, live: &Value) {
        let name = place.rsplit('.').next().unwrap_or_default();
        let changing = [
            "createdDate",
            "specificationLastUpdated",
            "primaryKey",
            "secondaryKey",
        ];
        match (recorded, live) {
            (Value::String(a), Value::String(b)) if changing.contains(&name) => {
                assert!(!a.is_empty() && !b.is_empty(), "{place}");
            }
            (Value::String(a), Value::String(b)) if name == "id" && a.eq_ignore_ascii_case(b) => {}
            (Value::Object(a), Value::Object(b)) => {
                for key in a.keys().chain(b.keys()) {
                    // Recorded both with and without it, for the same request.
                    if key == "provisioningState"
                        && place == ".properties"
                        && a.contains_key("subscriptionKeyParameterNames")
                    {
                        continue;
                    }
                    match (a.get(key), b.get(key)) {
                        (Some(a), Some(b)) => self.compare(&format!("{place}.{key}"), a, b),
                        (a, b) => self.found.push(format!(
                            "seq {}: {place}.{key}: {a:?} is recorded, {b:?} came",
                            self.seq
                        )),
                    }
                }
            }
            (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
                for (at, (a, b)) in a.iter().zip(b).enumerate() {
                    self.compare(&format!("{place}[{at}]"), a, b);
                }
            }
            (a, b) if a == b => {}
            (a, b) => self
                .found
                .push(format!("seq {}: {place}: {a} is recorded, {b} came", self.seq)),
        }
    }
}

struct Replay {
    bench: Bench,
    /// Recorded operation id to ours.
    operations: HashMap<String, String>,
    /// Recorded ETag to ours, by the entity they belong to.
    etags: HashMap<(String, String), String>,
    found: Vec<String>,
    replayed: usize,
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

fn operation_id(url: &str) -> String {
    url.split('?')
        .next()
        .unwrap_or_default()
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned()
}

impl Replay {
    async fn start(first_path: &str) -> Self {
        let parts: Vec<&str> = first_path.split('/').collect();
        let switches = Switches {
            async_millis: 0,
            ..config().switches
        };
        let config = Config {
            subscription: parts[2].into(),
            resource_group: parts[4].into(),
            service: parts[8].into(),
            switches,
            ..config()
        };
        let bench = Bench::with(config).await;
        Self {
            bench,
            operations: HashMap::new(),
            etags: HashMap::new(),
            found: Vec::new(),
            replayed: 0,
        }
    }

    async fn send(&self, exchange: &Value) -> Reply {
        let mut path = text(exchange, "path").to_owned();
        if path.contains("/tenant/operationResults/") {
            let recorded = operation_id(&path);
            path = path.replace(&recorded, &self.operations[&recorded]);
        }
        let url = format!(
            "{}{path}?{}",
            self.bench.stand_in.arm_url,
            text(exchange, "query")
        );
        let mut request = self
            .bench
            .client
            .request(text(exchange, "method").parse().unwrap(), url)
            .bearer_auth(TOKEN);
        if let Some(condition) = exchange["request"]["headers"]["If-Match"].as_str() {
            request = request.header("If-Match", condition);
        }
        if !exchange["request"]["body"].is_null() {
            request = request.json(&exchange["request"]["body"]);
        }
        self.bench.send(request).await
    }

    async fn replay(&mut self, exchange: &Value) {
        let live = self.send(exchange).await;
        self.replayed += 1;
        let recorded = &exchange["response"];
        let seq = &exchange["seq"];
        let what = format!(
            "seq {seq} {} {}",
            text(exchange, "method"),
            text(exchange, "path")
        );
        if recorded["status"] != live.status {
            self.found.push(format!(
                "{what}: {} is recorded, {} came: {}",
                recorded["status"], live.status, live.text
            ));
            return;
        }
        let mut differences = Differences {
            seq,
            found: Vec::new(),
        };
        let body = if live.text.is_empty() {
            Value::Null
        } else {
            live.json()
        };
        differences.compare("", &recorded["body"], &body);
        self.found.append(&mut differences.found);
        let headers = &recorded["headers"];
        for name in ["Location", "Azure-AsyncOperation"] {
            let came = live.header(&name.to_lowercase()).map(str::to_owned);
            match (headers[name].as_str(), came) {
                (None, None) => {}
                (Some(a), Some(b)) => {
                    let code = |url: &str| url.split("asyncCode=").nth(1).map(str::to_owned);
                    assert_eq!(code(a), code(&b), "{what}");
                    if name != "Location" {
                        self.operations.insert(operation_id(a), operation_id(&b));
                    }
                }
                (a, b) => self
                    .found
                    .push(format!("{what}: {name}: {a:?} is recorded, {b:?} came")),
            }
        }
        self.compare_etags(
            &what,
            text(exchange, "path"),
            headers["ETag"].as_str(),
            live.header("etag"),
        );
    }

    /// ETags are the same where the recorded ones are the same, and there where they were there.
    fn compare_etags(&mut self, what: &str, path: &str, recorded: Option<&str>, live: Option<&str>) {
        match (recorded, live) {
            (None, None) => {}
            (Some(a), Some(b)) => {
                let key = (path.to_lowercase(), a.to_owned());
                let before = self.etags.entry(key).or_insert_with(|| b.to_owned());
                if before != b {
                    self.found
                        .push(format!("{what}: the ETag changed where the recorded one did not"));
                }
            }
            (a, b) => self
                .found
                .push(format!("{what}: ETag: {a:?} is recorded, {b:?} came")),
        }
    }
}

/// Exchanges on resource types that the stand-in serves. Of the service itself it plays the reading only, with
/// settings of its own.
fn served(exchange: &Value) -> bool {
    let path = text(exchange, "path");
    let Some((_, below)) = path.split_once("/service/") else {
        return false;
    };
    below.contains('/') && !below.contains("/authorizationProviders")
}

async fn replay(file: &str, until: u64, existed: &[&str], expected: usize) {
    let Some(folder) = reference("recordings") else {
        return;
    };
    let lines = std::fs::read_to_string(folder.join(file)).unwrap();
    let exchanges: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let exchanges: Vec<&Value> = exchanges
        .iter()
        .filter(|exchange| served(exchange) && exchange["seq"].as_u64() < Some(until))
        .collect();
    let mut replay = Replay::start(text(exchanges[0], "path")).await;
    for name in existed {
        let first = exchanges
            .iter()
            .find(|exchange| text(exchange, "path").ends_with(name))
            .unwrap();
        assert!(
            replay.send(first).await.status < 300,
            "{name} existed before the recording began"
        );
    }
    for exchange in exchanges {
        replay.replay(exchange).await;
    }
    assert!(replay.found.is_empty(), "{:#?}", replay.found);
    assert_eq!(replay.replayed, expected);
}

#[tokio::test]
async fn the_recorded_service_and_the_stand_in_answer_the_same() {
    // From seq 118 on the whole service is gone.
    let existed = ["apiVersionSets/asotest-vs2-ikpqqp", "apis/asotest-api2-cymnfh"];
    replay("aso-2024-05-01.jsonl", 118, &existed, 72).await;
}

#[tokio::test]
async fn the_recorded_backend_and_the_stand_in_answer_the_same() {
    replay("aso-backend-2025-03-01-preview.jsonl", 20, &[], 3).await;
}

#[tokio::test]
async fn a_service_that_is_gone_is_named_as_recorded() {
    let Some(folder) = reference("recordings") else {
        return;
    };
    let lines = std::fs::read_to_string(folder.join("aso-2024-05-01.jsonl")).unwrap();
    let exchanges: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let gone: Vec<&Value> = exchanges
        .iter()
        .filter(|exchange| exchange["seq"].as_u64() >= Some(118))
        .collect();
    let path = text(gone[0], "path");
    let mut replay = Replay::start(path).await;
    replay.bench = {
        let parts: Vec<&str> = path.split('/').collect();
        let config = Config {
            subscription: parts[2].into(),
            resource_group: parts[4].into(),
            service: "another".into(),
            ..config()
        };
        Bench::with(config).await
    };
    for exchange in gone {
        replay.replay(exchange).await;
    }
    assert!(replay.found.is_empty(), "{:#?}", replay.found);
}

/// The stand-in's own table of limits says what Microsoft's schemas say: bodies are judged alike.
#[tokio::test]
async fn limits_and_schemas_agree() {
    let Some(schemas) = reference("arm-json-schemas") else {
        return;
    };
    let with = Bench::with(Config {
        schemas: Some(schemas),
        ..config()
    })
    .await;
    let without = Bench::start().await;
    for bench in [&with, &without] {
        assert_eq!(bench.put("/apis/a", json!({"path": "a"})).await.status, 201);
    }
    for (path, body, good) in [
        (
            "/backends/b",
            json!({"url": "http://x", "protocol": "http", "title": "t", "tls": {"validateCertificateName": false}}),
            true,
        ),
        (
            "/backends/b",
            json!({"url": "http://x", "protocol": "http", "title": "t".repeat(301)}),
            false,
        ),
        (
            "/backends/b",
            json!({"url": "http://x", "protocol": "http", "credentials": {"header": {"a": "b"}}}),
            false,
        ),
        (
            "/backends/b",
            json!({"url": "http://x", "protocol": "http", "credentials": {"authorization": {"scheme": "s"}}}),
            false,
        ),
        (
            "/apis/b",
            json!({"path": "b", "displayName": "d".repeat(301)}),
            false,
        ),
        (
            "/apis/b",
            json!({"path": "b", "subscriptionRequired": "yes"}),
            false,
        ),
        (
            "/apis/b",
            json!({"path": "b", "contact": {"name": "n"}, "license": {"url": "u"}}),
            true,
        ),
        (
            "/apis/a/operations/o",
            json!({"displayName": "O", "method": "GET", "urlTemplate": "/o", "responses": [{"statusCode": 200}]}),
            true,
        ),
        (
            "/apis/a/operations/o",
            json!({"displayName": "O", "method": "GET", "urlTemplate": "/o", "responses": [{"description": "x"}]}),
            false,
        ),
        (
            "/apis/a/operations/p",
            json!({"displayName": "O", "method": "GET", "urlTemplate": "/p/{x}", "templateParameters": [{"name": "x"}]}),
            false,
        ),
        (
            "/apis/a/policies/policy",
            json!({"value": "<policies/>", "format": "yaml"}),
            false,
        ),
        (
            "/products/p",
            json!({"displayName": "P", "subscriptionsLimit": 3}),
            true,
        ),
        (
            "/products/q",
            json!({"displayName": "Q", "subscriptionsLimit": "3"}),
            false,
        ),
        (
            "/subscriptions/s",
            json!({"displayName": "S", "scope": "/apis", "state": "active"}),
            true,
        ),
        (
            "/subscriptions/t",
            json!({"displayName": "S", "scope": "/apis", "state": "on"}),
            false,
        ),
        ("/tags/t", json!({"displayName": "T"}), true),
        ("/tags/u", json!({"displayName": "T".repeat(161)}), false),
        ("/products/p/apiLinks/l", json!({"apiId": "/apis/a"}), true),
        ("/products/p/apiLinks/m", json!({}), false),
    ] {
        for (name, bench) in [("schemas", &with), ("own table", &without)] {
            let answer = bench.put(path, body.clone()).await;
            assert_eq!(answer.status < 300, good, "{name}: {path} {body} {answer:?}");
        }
    }
}
