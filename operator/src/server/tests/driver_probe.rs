//! Scenarios of the driver with one key of the gateway for all servers (`probe: AllApis`).

use std::net::SocketAddr;
use std::sync::Mutex;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse as _;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::driver::{SERVER, Scenario};
use super::*;
use crate::fake::GROUP;
use crate::gateway::probe_key;

/// A gateway that lets through who has the key.
struct Gateway {
    key: Arc<Mutex<String>>,
    address: SocketAddr,
    _stop: DropGuard,
}

impl Gateway {
    /// In front of `server`, and knows no key yet.
    async fn start(server: String) -> Self {
        let key = Arc::new(Mutex::new("none".to_owned()));
        let known = Arc::clone(&key);
        let router = Router::new().fallback(move |headers: HeaderMap, body: Bytes| {
            let given = headers
                .get("ocp-apim-subscription-key")
                .map(|key| key.to_str().unwrap().to_owned());
            let known = known.lock().unwrap().clone();
            let server = server.clone();
            async move {
                if given.as_ref() != Some(&known) {
                    let refusal = "Access denied due to invalid subscription key.";
                    return (StatusCode::UNAUTHORIZED, refusal).into_response();
                }
                let answer = reqwest::Client::new()
                    .post(server)
                    .body(body)
                    .send()
                    .await
                    .unwrap();
                let status = answer.status();
                let kind = [(header::CONTENT_TYPE, "application/json")];
                (status, kind, answer.bytes().await.unwrap()).into_response()
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                ended = axum::serve(listener, router) => ended.unwrap(),
                () = stopped.cancelled() => {}
            }
        });
        Self {
            key,
            address,
            _stop: stop.drop_guard(),
        }
    }

    fn accepts(&self, key: &str) {
        key.clone_into(&mut self.key.lock().unwrap());
    }
}

impl Scenario {
    fn change_gateway(&self, change: impl FnOnce(&mut Value)) {
        let path = format!("{GROUP}/mcpgateways/contoso");
        self.world.cluster.change(&path, change);
    }

    /// What the gateway's controller would tell.
    fn gateway_is_registered(&self) {
        self.change_gateway(|gateway| {
            gateway["status"]["conditions"] = json!([{"type": "Registered", "status": "True",
                "reason": "Registered", "message": "", "lastTransitionTime": "2026-11-21T10:00:00Z"}]);
        });
    }

    fn shared_key(&self) -> String {
        let path = format!("{GROUP}/mcpgateways/contoso");
        let gateway: McpGateway = serde_json::from_value(self.world.cluster.get(&path).unwrap()).unwrap();
        let client = self.world.arm.client();
        let key = probe_key(&gateway, client.target(), &self.world.context.probe_keys);
        key.expose().to_owned()
    }
}

/// A registered server whose gateway has one key for all, and knows none so far.
async fn all_apis() -> (Scenario, Gateway) {
    let mut scenario = Scenario::new("").await;
    let port = scenario.object()["spec"]["service"]["port"].clone();
    let gateway = Gateway::start(format!("http://127.0.0.1:{port}/mcp")).await;
    scenario.change_gateway(|object| {
        object["spec"]["probe"] = json!("AllApis");
        object["status"]["gatewayUrl"] = json!(format!("http://{}", gateway.address));
    });
    scenario.pass().await;
    scenario.workload_becomes_ready();
    scenario.pass().await;
    (scenario, gateway)
}

#[tokio::test]
async fn a_server_makes_three_writes_and_is_verified_with_the_shared_key() {
    let (mut scenario, gateway) = all_apis().await;
    let writes = scenario.world.arm.take_writes();
    assert_eq!(writes.len(), 3, "{writes:?}");
    assert!(!writes.iter().any(|write| write.contains("/subscriptions/")));
    scenario.patience_ends();
    scenario.pass().await;
    let (status, reason, message) = scenario.told("Verified");
    assert_eq!((status.as_str(), reason.as_str()), ("Unknown", "Pending"));
    assert!(message.contains("McpGateway"), "{message}");

    gateway.accepts(&scenario.shared_key());
    scenario.gateway_is_registered();
    scenario.pass().await;
    let (status, _, message) = scenario.told("Verified");
    assert_eq!(status, "True", "{message}");
    assert!(message.contains("through the gateway"), "{message}");
    assert_eq!(scenario.told("Ready").0, "True");
    assert_eq!(scenario.pass().await, Vec::<String>::new());
    assert!(scenario.world.arm.take_writes().is_empty());
}

#[tokio::test]
async fn a_refused_shared_key_is_told_and_left_to_the_gateway() {
    let (mut scenario, gateway) = all_apis().await;
    scenario.gateway_is_registered();
    scenario.world.arm.take_writes();
    for _ in 0..6 {
        scenario.pass().await;
    }
    let (_, reason, message) = scenario.told("Verified");
    assert_eq!(reason, "ProbeKeyRefused");
    assert!(message.contains("key of McpGateway contoso"), "{message}");
    assert!(scenario.world.arm.take_writes().is_empty());

    gateway.accepts(&scenario.shared_key());
    scenario.pass().await;
    assert_eq!(scenario.told("Ready").0, "True");
}

#[tokio::test]
async fn one_failed_look_at_a_verified_server_is_no_news_and_three_are() {
    let (mut scenario, gateway) = all_apis().await;
    gateway.accepts(&scenario.shared_key());
    scenario.gateway_is_registered();
    scenario.pass().await;
    assert_eq!(scenario.told("Ready").0, "True");
    // What was written within the last minute gets the benefit of the doubt anyway.
    scenario.world.cluster.change(SERVER, |server| {
        server["status"]["gateway"]["lastWrite"]["time"] = json!("2026-11-21T10:00:00Z");
        for condition in server["status"]["conditions"].as_array_mut().unwrap() {
            condition["lastTransitionTime"] = json!("2026-11-21T10:00:00Z");
        }
    });
    let key = scenario.shared_key();
    // Another URL of the same gateway calls for another look.
    let look_anew = |scenario: &mut Scenario, slashes: &str| {
        scenario.change_gateway(|object| {
            object["status"]["gatewayUrl"] = json!(format!("http://{}{slashes}", gateway.address));
        });
    };

    look_anew(&mut scenario, "/");
    gateway.accepts("another key");
    assert_eq!(scenario.pass().await, Vec::<String>::new());
    gateway.accepts(&key);
    assert_eq!(scenario.pass().await, Vec::<String>::new());

    look_anew(&mut scenario, "//");
    gateway.accepts("another key");
    for _ in 0..2 {
        assert_eq!(scenario.pass().await, Vec::<String>::new());
    }
    assert_eq!(scenario.told("Ready").0, "True");
    scenario.pass().await;
    assert_eq!(scenario.told("Verified").1, "ProbeKeyRefused");
    assert_eq!(scenario.told("Ready").0, "False");
}

#[tokio::test]
async fn a_server_of_its_own_accord_needs_no_key() {
    let mut scenario = Scenario::new("gateway: {subscriptionRequired: false}").await;
    scenario.change_gateway(|gateway| {
        gateway["spec"]["probe"] = json!("AllApis");
        gateway["spec"]["allow"] = json!({"anonymous": true});
    });
    scenario.pass().await;
    scenario.workload_becomes_ready();
    scenario.pass().await;
    assert_eq!(scenario.told("Verified").0, "True", "{:?}", scenario.status());
}

#[tokio::test]
async fn servers_give_up_their_own_subscription_for_the_shared_one_and_make_it_again() {
    let mut scenario = Scenario::ready("").await;
    let subscriptions = |scenario: &Scenario| {
        let paths = scenario.world.arm.paths();
        paths.into_iter().find(|path| path.starts_with("/subscriptions/"))
    };
    // The API in memory has no operations, so every full look imports them.
    let written = |scenario: &Scenario| {
        let writes = scenario.world.arm.take_writes().into_iter();
        writes
            .filter(|write| !write.starts_with("PUT /apis/"))
            .collect::<Vec<_>>()
    };
    let own = subscriptions(&scenario).unwrap();
    scenario.change_gateway(|gateway| gateway["spec"]["probe"] = json!("AllApis"));
    scenario.gateway_is_registered();
    scenario.pass().await;
    assert_eq!(written(&scenario), [format!("DELETE {own}")]);
    assert_eq!(scenario.told("Ready").0, "True", "{:?}", scenario.status());
    scenario.pass().await;
    assert!(written(&scenario).is_empty());

    scenario.change_gateway(|gateway| gateway["spec"]["probe"] = json!("PerServer"));
    scenario.pass().await;
    assert_eq!(written(&scenario), [format!("PUT {own}")]);

    // One that has become somebody else's is not ours to remove.
    let label = json!("mcp-fleet/other 0123456789abcdef uid-1");
    let mut theirs = scenario.world.arm.get(&own).unwrap();
    theirs["displayName"] = label.clone();
    scenario.world.arm.put(&own, theirs);
    scenario.change_gateway(|gateway| gateway["spec"]["probe"] = json!("AllApis"));
    scenario.pass().await;
    assert_eq!(scenario.told("Registered").1, "Conflict");
    assert!(written(&scenario).is_empty());
    assert_eq!(scenario.world.arm.get(&own).unwrap()["displayName"], label);
}
