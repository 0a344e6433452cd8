//! Scenarios of the driver, against an API server, a service and an MCP server in memory.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::fake::World;
use crate::runtime::context::Context;
use crate::runtime::context::Key;
use crate::runtime::queue::Priority;
use crate::server::{Controller, work};

pub(super) const SERVER: &str = "/apis/mcpfleet.dev/v1alpha1/namespaces/tools/mcpservers/weather";
pub(super) const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/tools/deployments/weather";
pub(super) const SERVICE: &str = "/api/v1/namespaces/tools/services/weather";
const SECRETS: &str = "/api/v1/namespaces/tools/secrets";
const KEY_SECRET: &str = "/api/v1/namespaces/tools/secrets/weather-replica-key";
const PODS: &str = "/api/v1/namespaces/tools/pods/weather-1";

type Demanded = Arc<std::sync::Mutex<Option<&'static str>>>;

pub(super) struct Scenario {
    pub(super) world: World,
    pub(super) controller: Arc<Controller>,
    /// The token without which the MCP server answers nobody.
    pub(super) demanded: Demanded,
    _mcp: DropGuard,
}

pub(super) const GATEWAY: &str = "/apis/mcpfleet.dev/v1alpha1/mcpgateways/contoso";

impl Scenario {
    pub(super) async fn new(spec: &str) -> Self {
        let world = World::new().await;
        let demanded = Demanded::default();
        let (address, guard) = mcp_server(Arc::clone(&demanded)).await;
        // The name of every Service leads to the one MCP server that there is.
        let server_http = reqwest::Client::builder()
            .resolve("weather.tools.svc", address)
            .build()
            .unwrap();
        let context = Context {
            server_http,
            ..(*world.context).clone()
        };
        world.add_gateway("contoso", |gateway| {
            gateway["metadata"]["annotations"] = json!({"mcpfleet.dev/is-default-gateway": "true"});
            gateway["status"] =
                json!({"gatewayUrl": format!("http://{address}"), "sourceAddresses": ["203.0.113.9"], "secret": {"number": 1}});
        });
        let server = serde_json::to_value(server(&format!(
            "service: {{port: {}}}\ntransports: {{streamableHttp: {{}}}}\n{spec}",
            address.port()
        )));
        world.cluster.put(SERVER, server.unwrap());
        let controller = Arc::new(Controller::new(Arc::new(context), world.events()));
        Self {
            world,
            controller,
            demanded,
            _mcp: guard,
        }
    }

    /// Finds the one MCP server under the name of every Service.
    pub(super) fn http(&self) -> reqwest::Client {
        let port = self.object()["spec"]["service"]["port"].as_u64().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).unwrap()));
        reqwest::Client::builder()
            .resolve("weather.tools.svc", address)
            .build()
            .unwrap()
    }

    pub(super) fn key() -> Key {
        (Some("tools".to_owned()), "weather".to_owned())
    }

    /// A pass, and what the other lanes do about it, until nobody has anything to do before time passes. What was to come
    /// back later has come. What all that wrote to Kubernetes.
    pub(super) async fn pass(&mut self) -> Vec<String> {
        self.let_time_pass();
        self.world.context.lanes.look_at(&Self::key(), Priority::News);
        self.settle().await;
        self.world.cluster.take_writes()
    }

    /// The other lanes come back to what they could not do.
    pub(super) fn let_time_pass(&self) {
        let lanes = &self.world.context.lanes;
        lanes.registration.pass_time();
        lanes.proof.pass_time();
    }

    /// Works off the queues of all lanes.
    pub(super) async fn settle(&mut self) {
        let lanes = Arc::clone(&self.world.context.lanes);
        for _ in 0..50 {
            self.world.sync();
            let controller = Arc::clone(&self.controller);
            if let Some(key) = lanes.workload.try_take() {
                let next = work::pass(key.clone(), controller).await;
                lanes.workload.done(&key, next);
            } else if let Some(key) = lanes.registration.try_take() {
                let next = work::registration(key.clone(), controller).await;
                lanes.registration.done(&key, next);
            } else if let Some(key) = lanes.proof.try_take() {
                let next = work::proof(key.clone(), controller).await;
                lanes.proof.done(&key, next);
            } else {
                return;
            }
        }
        panic!("the lanes keep each other busy");
    }

    /// The registration lane tries again by itself.
    pub(super) fn is_tried_again(&self) -> bool {
        self.world.context.lanes.registration.comes_back(&Self::key())
    }

    /// What the controllers of Kubernetes and of a cloud would do.
    pub(super) fn workload_becomes_ready(&self) {
        self.world.cluster.change(DEPLOYMENT, |deployment| {
            deployment["status"] =
                json!({"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2});
        });
        self.address_is("203.0.113.7");
    }

    /// What was only going on, and not told yet, has gone on for so long that it is.
    pub(super) fn patience_ends(&self) {
        let lanes = &self.world.context.lanes;
        assert!(lanes.end_patience(&Self::key()), "there is nothing to tell");
    }

    fn address_is(&self, ip: &str) {
        self.world.cluster.change(SERVICE, |service| {
            service["status"] = json!({"loadBalancer": {"ingress": [{"ip": ip}]}});
        });
    }

    pub(super) async fn ready(spec: &str) -> Self {
        let mut scenario = Self::new(spec).await;
        scenario.pass().await;
        scenario.workload_becomes_ready();
        scenario.pass().await;
        assert_eq!(scenario.told("Ready").0, "True", "{:?}", scenario.status());
        scenario.world.arm.take_writes();
        scenario
    }

    pub(super) fn object(&self) -> Value {
        self.world.cluster.get(SERVER).unwrap()
    }

    pub(super) fn status(&self) -> Value {
        self.object()["status"].clone()
    }

    pub(super) fn told(&self, type_: &str) -> (String, String, String) {
        let status = self.status();
        let conditions = status["conditions"].as_array().unwrap();
        let found = conditions.iter().find(|one| one["type"] == type_).unwrap();
        let text = |member: &str| found[member].as_str().unwrap().to_owned();
        (text("status"), text("reason"), text("message"))
    }

    pub(super) fn change_spec(&self, change: impl FnOnce(&mut Value)) {
        self.world.cluster.change(SERVER, |server| {
            change(&mut server["spec"]);
            server["metadata"]["generation"] = json!(4);
        });
    }

    pub(super) fn delete(&self) {
        self.world.cluster.change(SERVER, |server| {
            server["metadata"]["deletionTimestamp"] = json!("2026-11-21T11:00:00Z");
        });
    }
}

/// Speaks just enough MCP (2026-07-28) for a probe.
pub(super) async fn mcp_server(demanded: Demanded) -> (SocketAddr, DropGuard) {
    let router = Router::new().fallback(move |headers: HeaderMap, body: Bytes| async move {
        let demanded = *demanded.lock().unwrap();
        let given = headers.get("authorization").and_then(|given| given.to_str().ok());
        if demanded.is_some_and(|token| given != Some(&format!("Bearer {token}"))) {
            return (StatusCode::UNAUTHORIZED, [("www-authenticate", "Bearer")]).into_response();
        }
        let Ok(message) = serde_json::from_slice::<Value>(&body) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let result = match message["method"].as_str() {
            Some("server/discover") => {
                json!({"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
                "serverInfo": {"name": "weather", "version": "1"}})
            }
            Some("tools/list") => {
                json!({"tools": [{"name": "get_alerts", "inputSchema": {"type": "object"}}]})
            }
            _ => return StatusCode::ACCEPTED.into_response(),
        };
        axum::Json(json!({"jsonrpc": "2.0", "id": message["id"], "result": result})).into_response()
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            served = axum::serve(listener, router) => served.unwrap(),
            () = stopped.cancelled() => {}
        }
    });
    (address, stop.drop_guard())
}

#[tokio::test]
async fn a_new_server_gets_its_children_and_then_its_registration() {
    let mut scenario = Scenario::new("").await;
    let writes = scenario.pass().await;
    assert_eq!(
        writes,
        [
            format!("PATCH {SECRETS}/weather-gateway"),
            format!("POST {SECRETS}"),
            format!("PATCH {SERVICE}"),
            format!("PATCH {DEPLOYMENT}"),
            format!("PATCH {SERVER}/status"),
        ]
    );
    assert_eq!(scenario.told("Accepted").0, "True");
    assert_eq!(scenario.told("Ready").1, "Progressing");
    assert!(
        scenario.world.arm.paths().is_empty(),
        "registration waits for the first readiness"
    );
    assert!(scenario.object()["metadata"]["finalizers"].is_null());

    scenario.workload_becomes_ready();
    let writes = scenario.pass().await;
    assert_eq!(
        writes,
        [format!("PATCH {SERVER}"), format!("PATCH {SERVER}/status")]
    );
    assert_eq!(scenario.told("Ready").0, "True", "{:?}", scenario.status());
    let claim: Value = serde_json::from_str(
        scenario.object()["metadata"]["annotations"]["mcpfleet.dev/claim"]
            .as_str()
            .unwrap(),
    )
    .unwrap();
    assert_eq!(
        (claim["uid"].as_str(), claim["gateway"].as_str()),
        (Some("uid-weather"), Some("contoso"))
    );
    assert_eq!(
        scenario.world.arm.take_writes().len(),
        4,
        "backend, API, policy, subscription"
    );
    let status = scenario.status();
    assert_eq!(status["toolCount"], 1);
    assert_eq!(status["gateway"]["path"], "demo/tools/weather");
    assert!(
        status["endpoints"]["gateway"]
            .as_str()
            .unwrap()
            .ends_with("/demo/tools/weather/mcp")
    );
}

/// Each state of a start would be a write that the next one overtakes.
#[tokio::test]
async fn progress_is_told_when_it_ends_or_lasts() {
    let mut scenario = Scenario::new("").await;
    scenario.pass().await;
    scenario.world.cluster.change(DEPLOYMENT, |deployment| {
        deployment["status"] =
            json!({"replicas": 2, "updatedReplicas": 2, "readyReplicas": 1, "availableReplicas": 1});
    });
    scenario.address_is("203.0.113.7");
    let writes = scenario.pass().await;
    assert_eq!(
        writes,
        [format!("PATCH {SERVER}")],
        "the claim alone: the first pod is enough to register"
    );
    assert_eq!(scenario.world.arm.take_writes().len(), 4);
    assert_eq!(scenario.pass().await, Vec::<String>::new());
    scenario.patience_ends();
    assert_eq!(scenario.pass().await, [format!("PATCH {SERVER}/status")]);
    assert_eq!(scenario.told("Available").0, "True");
    assert_eq!(scenario.told("Registered").0, "True");
    assert_eq!(scenario.told("Ready").1, "Progressing");
    assert_eq!(scenario.pass().await, Vec::<String>::new());
    scenario.workload_becomes_ready();
    assert_eq!(scenario.pass().await, [format!("PATCH {SERVER}/status")]);
    assert_eq!(scenario.told("Ready").0, "True");
}

#[tokio::test]
async fn nothing_new_writes_nothing_and_asks_nobody() {
    let mut scenario = Scenario::ready("").await;
    scenario.world.arm.take_reads();
    for _ in 0..3 {
        assert_eq!(scenario.pass().await, Vec::<String>::new());
    }
    assert_eq!(
        (
            scenario.world.arm.take_writes().len(),
            scenario.world.arm.take_reads()
        ),
        (0, 0)
    );
}

#[tokio::test]
async fn what_others_add_to_children_stays_and_what_they_break_is_mended() {
    let mut scenario = Scenario::ready("").await;
    scenario.world.cluster.change(DEPLOYMENT, |deployment| {
        let template = &mut deployment["spec"]["template"];
        template["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"] = json!("now");
        template["spec"]["containers"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "sidecar"}));
    });
    assert_eq!(scenario.pass().await, Vec::<String>::new());
    scenario
        .world
        .cluster
        .change(SERVICE, |service| service["spec"]["type"] = json!("NodePort"));
    assert_eq!(scenario.pass().await, [format!("PATCH {SERVICE}")]);
    scenario.world.cluster.remove(KEY_SECRET);
    assert_eq!(scenario.pass().await, [format!("POST {SECRETS}")]);
}

#[tokio::test]
async fn a_new_address_changes_the_backend_and_nothing_else() {
    let mut scenario = Scenario::ready("").await;
    scenario.address_is("203.0.113.8");
    let writes = scenario.pass().await;
    assert_eq!(writes, [format!("PATCH {SERVER}/status")]);
    let writes = scenario.world.arm.take_writes();
    assert!(
        writes.iter().any(|write| write.starts_with("PATCH /backends/")),
        "{writes:?}"
    );
}

#[tokio::test]
async fn a_crash_later_keeps_the_registration() {
    let mut scenario = Scenario::ready("").await;
    scenario.world.cluster.change(DEPLOYMENT, |deployment| {
        deployment["status"] = json!({"replicas": 2, "updatedReplicas": 2});
    });
    let crash = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "weather-1"}, "status": {"containerStatuses": [
        {"name": "mcp", "image": "i", "imageID": "", "ready": false, "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 3, "reason": "Error"}}}]}});
    scenario.world.cluster.put(PODS, crash);
    scenario.pass().await;
    assert_eq!(scenario.told("Available").1, "CrashLoop");
    assert_eq!(scenario.told("Registered").0, "True");
    assert_eq!(scenario.told("Ready").1, "CrashLoop");
    assert!(scenario.world.arm.take_writes().is_empty());
}

#[tokio::test]
async fn a_refused_registration_stops_no_workload() {
    let mut scenario = Scenario::new("gateway: {path: payments}").await;
    let writes = scenario.pass().await;
    assert!(writes.contains(&format!("PATCH {DEPLOYMENT}")), "{writes:?}");
    scenario.workload_becomes_ready();
    scenario.pass().await;
    let told = |type_: &str| {
        let (status, reason, _) = scenario.told(type_);
        (status, reason)
    };
    for type_ in ["Accepted", "Registered", "Ready"] {
        assert_eq!(told(type_), ("False".into(), "PathNotAllowed".into()));
    }
    assert_eq!(told("Available").0, "True");
    assert!(scenario.world.arm.paths().is_empty());
    assert_eq!(scenario.pass().await, Vec::<String>::new(), "said once");
    scenario.world.cluster.remove(DEPLOYMENT);
    let writes = scenario.pass().await;
    assert!(writes.contains(&format!("PATCH {DEPLOYMENT}")), "{writes:?}");
}

#[tokio::test]
async fn a_child_that_is_not_ours_is_named_and_left_alone() {
    let mut scenario = Scenario::new("").await;
    scenario.world.cluster.put(
        SERVICE,
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "weather", "namespace": "tools"}}),
    );
    let writes = scenario.pass().await;
    assert!(
        !writes
            .iter()
            .any(|write| write.ends_with(SERVICE) || write.ends_with(DEPLOYMENT)),
        "{writes:?}"
    );
    let (status, reason, message) = scenario.told("Available");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "ChildNotOwned"));
    assert!(message.contains("Service tools/weather"), "{message}");
}

#[tokio::test]
async fn a_refused_child_is_told() {
    let mut scenario = Scenario::new("").await;
    scenario.world.cluster.break_path("deployments", 403);
    scenario.pass().await;
    assert_eq!(scenario.told("Available").0, "False");
    assert_eq!(scenario.told("Accepted").0, "True");
}

#[tokio::test]
async fn a_service_that_refuses_is_told_and_the_claim_stands() {
    let mut scenario = Scenario::new("").await;
    scenario.pass().await;
    scenario.workload_becomes_ready();
    scenario.world.arm.fail(Some((403, "AuthorizationFailed")));
    scenario.pass().await;
    assert_eq!(scenario.told("Registered").1, "Forbidden");
    assert_eq!(
        scenario.object()["metadata"]["finalizers"],
        json!(["mcpfleet.dev/finalizer"])
    );
    assert_eq!(scenario.pass().await, Vec::<String>::new(), "said once");
    scenario.world.arm.fail(None);
    scenario.pass().await;
    assert_eq!(scenario.told("Ready").0, "True");
}

#[tokio::test]
async fn another_image_needs_no_replica_key() {
    let mut scenario = Scenario::ready("").await;
    scenario.change_spec(|spec| spec["image"] = json!("registry.example.com/other:1"));
    let writes = scenario.pass().await;
    assert!(
        writes.contains(&format!("PATCH {DEPLOYMENT}")) && writes.contains(&format!("DELETE {KEY_SECRET}")),
        "{writes:?}"
    );
    assert!(!writes.contains(&format!("PATCH {SERVICE}")), "{writes:?}");
}

#[tokio::test]
async fn what_the_spec_says_no_more_leaves_the_children() {
    let mut scenario = Scenario::ready(
        "args: [--serve]\nimage: registry.example.com/own:1\nenv: [{name: LEVEL, value: debug}]",
    )
    .await;
    scenario.world.cluster.change(DEPLOYMENT, |deployment| {
        deployment["spec"]["template"]["metadata"]["annotations"]["example.com/restarted"] = json!("now");
    });
    let container = |scenario: &Scenario| {
        let deployment = scenario.world.cluster.get(DEPLOYMENT).unwrap();
        deployment["spec"]["template"]["spec"]["containers"][0].clone()
    };
    assert_eq!(container(&scenario)["args"], json!(["--serve"]));
    scenario.change_spec(|spec| {
        spec["args"] = json!([]);
        spec["env"] = json!([]);
    });
    scenario.pass().await;
    let container = container(&scenario);
    assert_eq!(
        (&container["args"], &container["env"]),
        (&Value::Null, &Value::Null)
    );
    let deployment = scenario.world.cluster.get(DEPLOYMENT).unwrap();
    let annotations = &deployment["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(annotations["example.com/restarted"], "now");
}
