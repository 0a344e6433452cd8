//! Scenarios of the driver with a server behind a static token (F13).

use super::driver::Scenario;
use super::*;

const SECRET: &str = "/api/v1/namespaces/tools/secrets/weather-token";

impl Scenario {
    /// `s3cret` or `n3w`, as base64.
    fn put_token(&self, encoded: &str) {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "weather-token", "namespace": "tools"},
            "data": {"token": encoded},
        });
        self.world.cluster.put(SECRET, secret);
    }

    async fn passes(&mut self, count: usize) {
        for _ in 0..count {
            self.pass().await;
        }
    }

    fn demands(&self, token: &'static str) {
        *self.demanded.lock().unwrap() = Some(token);
    }
}

async fn demanding(spec: &str) -> Scenario {
    let mut scenario = Scenario::new(spec).await;
    scenario.demands("s3cret");
    scenario.pass().await;
    scenario.workload_becomes_ready();
    scenario.passes(5).await;
    scenario
}

#[tokio::test]
async fn a_server_that_demands_a_token_is_ready_without_one() {
    let mut scenario = demanding("").await;
    let (status, reason, message) = scenario.told("Verified");
    assert_eq!((status.as_str(), reason.as_str()), ("True", "ChallengeSeen"));
    assert!(message.contains("probe.tokenSecretRef"), "{message}");
    assert_eq!(scenario.told("Ready").0, "True");
    assert_eq!(scenario.pass().await, Vec::<String>::new());
}

#[tokio::test]
async fn with_its_token_its_tools_are_seen() {
    let mut scenario = demanding("probe: {tokenSecretRef: {name: weather-token}}").await;
    let (_, reason, message) = scenario.told("Verified");
    assert_eq!(reason, "TokenUnavailable");
    assert!(message.contains("Secret tools/weather-token"), "{message}");

    scenario.put_token("czNjcmV0Cg==");
    scenario.passes(1).await;
    let (status, reason, message) = scenario.told("Verified");
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("True", "Verified"),
        "{message}"
    );
    assert!(
        message.contains("1 tool seen directly and through the gateway"),
        "{message}"
    );
    assert_eq!(scenario.status()["tools"][0]["name"], "get_alerts");
    assert_eq!(scenario.told("Ready").0, "True");
    assert_eq!(scenario.pass().await, Vec::<String>::new());
    assert!(!scenario.status().to_string().contains("s3cret"));
}

#[tokio::test]
async fn a_token_that_is_refused_is_told_and_a_changed_secret_heals_it() {
    let mut scenario = Scenario::new("probe: {tokenSecretRef: {name: weather-token}}").await;
    scenario.put_token("czNjcmV0");
    scenario.demands("n3w");
    scenario.pass().await;
    scenario.workload_becomes_ready();
    scenario.passes(5).await;
    let (_, reason, message) = scenario.told("Verified");
    assert_eq!(reason, "TokenRefused");
    assert!(
        message.contains("put the token that the server takes into the Secret"),
        "{message}"
    );
    scenario.put_token("bjN3");
    scenario.pass().await;
    assert_eq!(scenario.told("Ready").0, "True");
}
