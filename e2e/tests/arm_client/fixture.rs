//! A stand-in, a client for it, and the registration of one server.

use std::{sync::Arc, time::Duration};

use mcp_fleet_e2e::apim::{Config, StandIn};
use mcp_fleet_operator::azure::apim::{
    ArmClient, BackendChecks, Cloud, Depth, KEY_HEADER, Limits, Observer, Outcome, Owner, PlainHttp, Purpose,
    RateLimit, Rates, Registered, RegistrationError, Removal, SecretString, ServerIds, ServerRegistration,
    Sse, StaticToken, Target, Throttle, TokenSource, Transports, Unobserved, ensure_server, http_client,
    remove_server, resource_name,
};
use serde_json::Value;

const TOKEN: &str = "a-token-for-tests";

/// The stand-in and how to reach it.
pub(crate) struct Fixture {
    pub(crate) stand_in: StandIn,
    pub(crate) client: ArmClient,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::with(Config::default()).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        let config = Config {
            static_tokens: vec![TOKEN.into()],
            ..config
        };
        let stand_in = StandIn::start(config).await.unwrap();
        stand_in
            .control
            .set(serde_json::json!({"asyncMillis": 100, "throttle": false}))
            .await
            .unwrap();
        let client = client(&stand_in, Arc::new(Unobserved));
        Self { stand_in, client }
    }

    /// The same client with another observer, such as a process that was started anew.
    pub(crate) fn client_with(&self, observer: Arc<dyn Observer>) -> ArmClient {
        client(&self.stand_in, observer)
    }

    /// A client with the product's own patience for what its lists say, as if in a new process.
    pub(crate) fn long_lived(&self) -> ArmClient {
        let client = client(&self.stand_in, Arc::new(Unobserved));
        let limits = Limits {
            inventory: Limits::default().inventory,
            ..client.limits()
        };
        client.with_limits(limits)
    }

    pub(crate) async fn ensure(&self, desired: &ServerRegistration) -> Result<Registered, RegistrationError> {
        match ensure_server(&self.client, desired, Depth::Full, None).await? {
            Outcome::Done(registered) => Ok(registered),
            Outcome::Pending(operation) => panic!("still pending: {operation:?}"),
        }
    }

    /// Registers and returns what was written.
    pub(crate) async fn written(&self, desired: &ServerRegistration) -> Vec<String> {
        self.ensure(desired).await.unwrap().changed
    }

    pub(crate) async fn remove(&self, desired: &ServerRegistration) {
        let removal = remove_until_gone(&self.client, desired).await;
        assert_eq!(removal, Removal::Gone { left: vec![] });
    }

    pub(crate) async fn paths(&self) -> Vec<String> {
        let mut paths = self.stand_in.control.paths().await.unwrap();
        paths.sort();
        paths
    }

    /// Everything stored, without what differs between two equal registrations.
    pub(crate) async fn world(&self) -> Vec<Value> {
        let mut documents = self.stand_in.control.documents().await.unwrap();
        for document in &mut documents {
            document["etag"] = Value::Null;
            if let Some(properties) = document["properties"].as_object_mut() {
                properties.retain(|name, _| !name.ends_with("Date") && name != "specificationLastUpdated");
            }
        }
        documents.sort_by_key(|document| document["path"].as_str().map(str::to_owned));
        documents
    }

    pub(crate) async fn writes(&self) -> u64 {
        self.stand_in.control.counters().await.unwrap().writes
    }

    pub(crate) async fn reads(&self) -> u64 {
        self.stand_in.control.counters().await.unwrap().reads
    }

    /// Sends a request as somebody else would, for example the portal.
    pub(crate) async fn by_hand(&self, method: &str, path: &str, body: Value) -> Value {
        let http = http_client(Some(self.stand_in.ca_pem.as_bytes()), PlainHttp::Refused).unwrap();
        let service = self.client.target().service_id();
        let url = format!("{}{service}/{path}?api-version=2024-05-01", self.stand_in.arm_url);
        let mut request = http.request(method.parse().unwrap(), url).bearer_auth(TOKEN);
        if method != "PUT" {
            request = request.header("if-match", "*");
        }
        if !body.is_null() {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{method} {path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }
}

pub(crate) async fn remove_until_gone(client: &ArmClient, desired: &ServerRegistration) -> Removal {
    for _ in 0..50 {
        match remove_server(client, &desired.owner, &desired.ids).await.unwrap() {
            Removal::Pending(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            gone @ Removal::Gone { .. } => return gone,
        }
    }
    panic!("the server does not go away")
}

fn client(stand_in: &StandIn, observer: Arc<dyn Observer>) -> ArmClient {
    client_with_tokens(
        stand_in,
        observer,
        Arc::new(StaticToken(SecretString::new(TOKEN))),
    )
}

pub(crate) fn target(stand_in: &StandIn) -> Target {
    let config = Config::default();
    let cloud = Cloud::Custom {
        endpoint: stand_in.arm_url.parse().unwrap(),
        authority: stand_in.login_url.parse().unwrap(),
        audience: "https://management.azure.com".into(),
    };
    Target::new(
        &config.subscription,
        &config.resource_group,
        &config.service,
        cloud,
        PlainHttp::Refused,
    )
    .unwrap()
}

pub(crate) fn client_with_tokens(
    stand_in: &StandIn,
    observer: Arc<dyn Observer>,
    tokens: Arc<dyn TokenSource>,
) -> ArmClient {
    let http = http_client(Some(stand_in.ca_pem.as_bytes()), PlainHttp::Refused).unwrap();
    let throttle = Arc::new(Throttle::new(Rates::default()));
    ArmClient::new(http, target(stand_in), tokens, throttle, observer).with_limits(Limits {
        read: Duration::from_secs(2),
        write: Duration::from_secs(2),
        pause: Duration::from_secs(3),
        turn: Duration::from_secs(30),
        operation: Duration::from_secs(5),
        // What a test does by hand is seen at once.
        inventory: Duration::ZERO,
        again: Duration::from_millis(20),
    })
}

pub(crate) fn owner(name: &str) -> Owner {
    Owner {
        cluster_id: "demo".into(),
        namespace: "tools".into(),
        name: name.into(),
        uid: format!("uid-of-{name}"),
    }
}

pub(crate) fn server(name: &str) -> ServerRegistration {
    let id = resource_name(Purpose::Server, "demo", "tools", name);
    ServerRegistration {
        owner: owner(name),
        ids: ServerIds {
            api_id: id.clone(),
            backend_id: id.clone(),
            subscription_id: id,
        },
        path: format!("tools/{name}"),
        display_name: name.into(),
        description: Some("Weather for the US".into()),
        backend_url: "http://127.0.0.1:9".parse().unwrap(),
        backend_checks: BackendChecks::ALL,
        backend_host: None,
        transports: Transports {
            streamable_http: Some("/mcp".into()),
            sse: Some(Sse {
                path: "/sse".into(),
                messages_path: "/messages/{session_id}".into(),
            }),
        },
        subscription_required: true,
        key_header: KEY_HEADER.into(),
        timeout_seconds: 240,
        rate_limit: Some(RateLimit {
            calls: 1000,
            renewal_seconds: 60,
        }),
        cors: None,
        secret: None,
        // The service refuses a key that another subscription has.
        probe_key: Some(SecretString::new(format!("{name:0>32}"))),
    }
}
