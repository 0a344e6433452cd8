//! Scenarios in which a lane is in trouble, and the others are not.

use std::net::SocketAddr;

use tokio_util::sync::{CancellationToken, DropGuard};

use super::driver::{DEPLOYMENT, GATEWAY, SERVER, SERVICE, Scenario, mcp_server};
use super::*;
use crate::azure::clients::GatewayClients;
use crate::fake::{Arm, GROUP, World};
use crate::mcp;
use crate::runtime::context::Context;
use crate::server::lanes::Lanes;
use crate::server::{Controller, run, work};

/// A fleet whose lanes run as in the process.
struct Fleet {
    world: World,
    /// Every server is this one, but for those that are slow.
    mcp: SocketAddr,
    silent: SocketAddr,
    _stop: Vec<DropGuard>,
}

impl Fleet {
    /// `slow`: names of Services behind which nobody ever answers.
    async fn new(names: &[(&str, &str)], slow: &[(&str, &str)]) -> Self {
        let world = World::new().await;
        let (mcp, guard) = mcp_server(Arc::default()).await;
        let mut http = reqwest::Client::builder();
        for (namespace, name) in names {
            http = http.resolve(&format!("{name}.{namespace}.svc"), mcp);
        }
        // Takes connections, and says nothing.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let silent = listener.local_addr().unwrap();
        for (namespace, name) in slow {
            http = http.resolve(&format!("{name}.{namespace}.svc"), silent);
        }
        let context = Context {
            server_http: http.build().unwrap(),
            ..(*world.context).clone()
        };
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone().drop_guard();
        tokio::spawn(async move {
            // Whoever listens there lives as long as the lanes.
            let _listener = listener;
            let events = crate::runtime::events::Events::new(context.writer.client.clone(), None);
            run(Arc::new(context), events, shutdown).await;
        });
        let fleet = Self {
            world,
            mcp,
            silent,
            _stop: vec![guard, stop],
        };
        fleet.add_gateway("contoso");
        fleet
    }

    fn add_gateway(&self, name: &str) {
        let address = self.mcp;
        self.world.add_gateway(name, |gateway| {
            gateway["status"] =
                json!({"gatewayUrl": format!("http://{address}"), "sourceAddresses": ["203.0.113.9"],
                "secret": {"number": 1}});
        });
    }

    /// A gateway of its own service.
    fn add_gateway_of(&self, name: &str, arm: &Arm) {
        self.add_gateway(name);
        let object = self.world.cluster.get(&format!("{GROUP}/mcpgateways/{name}"));
        let clients = GatewayClients {
            arm: arm.client(),
            probe: mcp::http_client(vec![], mcp::Role::Server).unwrap(),
        };
        let gateway = serde_json::from_value(object.unwrap()).unwrap();
        self.world.context.arm.preset(&gateway, clients);
    }

    fn apply(&self, namespace: &str, name: &str, gateway: &str) {
        let port = if namespace == "slow" {
            self.silent.port()
        } else {
            self.mcp.port()
        };
        let spec = format!(
            "service: {{port: {port}}}\ntransports: {{streamableHttp: {{}}}}\ngateway: {{name: {gateway}}}"
        );
        let mut object = serde_json::to_value(named(name, &spec)).unwrap();
        object["metadata"]["namespace"] = json!(namespace);
        object["metadata"]["uid"] = json!(format!("uid-{namespace}-{name}"));
        self.world.cluster.put(&path(namespace, name), object);
    }

    fn ready(&self, namespace: &str, name: &str) -> bool {
        let object = self.world.cluster.get(&path(namespace, name)).unwrap();
        let conditions = object["status"]["conditions"].as_array().cloned();
        conditions
            .unwrap_or_default()
            .iter()
            .any(|one| one["type"] == "Ready" && one["status"] == "True")
    }

    /// The watches, Kubernetes' own controllers and a cloud, until `done`.
    async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !done(self) {
                for mut deployment in self.world.cluster.list("deployments") {
                    let wanted = json!({"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2,
                        "availableReplicas": 2});
                    let meta = deployment["metadata"].take();
                    let (namespace, name) = (text(&meta["namespace"]), text(&meta["name"]));
                    if deployment["status"] != wanted {
                        let at = format!("/apis/apps/v1/namespaces/{namespace}/deployments/{name}");
                        self.world.cluster.change(&at, |object| object["status"] = wanted);
                        let at = format!("/api/v1/namespaces/{namespace}/services/{name}");
                        self.world.cluster.change(&at, |service| {
                            service["status"] = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}});
                        });
                    }
                }
                self.world.sync();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let ended = tokio::time::timeout(Duration::from_mins(1), waiting).await;
        assert!(ended.is_ok(), "{what}");
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn path(namespace: &str, name: &str) -> String {
    format!("{GROUP}/namespaces/{namespace}/mcpservers/{name}")
}

fn deployment(namespace: &str, name: &str) -> String {
    format!("/apis/apps/v1/namespaces/{namespace}/deployments/{name}")
}

/// More servers than there are slots wait for a service that does not answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_hangs_holds_neither_another_one_nor_its_own_servers_pods() {
    let hung: Vec<String> = (0..25).map(|number| format!("hung-{number}")).collect();
    let mut fleet = Fleet::new(&[("tools", "well"), ("tools", "later")], &[]).await;
    let arm = Arm::start().await;
    fleet.add_gateway_of("well", &arm);
    fleet.world.arm.hang();
    for name in &hung {
        fleet.apply("tools", name, "contoso");
    }
    let hangs = hung.clone();
    fleet
        .until(
            "the servers of the hanging gateway get their pods",
            move |fleet| {
                hangs
                    .iter()
                    .all(|name| fleet.world.cluster.get(&deployment("tools", name)).is_some())
            },
        )
        .await;
    let lanes = Arc::clone(&fleet.world.context.lanes);
    let slots = Arc::clone(&lanes);
    fleet
        .until("all slots of that gateway are in use", move |_| {
            slots.registration.running() >= 10
        })
        .await;

    fleet.apply("tools", "well", "well");
    fleet
        .until("a server of another gateway is ready", |fleet| {
            fleet.ready("tools", "well")
        })
        .await;
    assert_eq!(arm.take_writes().len(), 4);
    // Its repairs and its end wait for nobody either; nor do the repairs of those that hang.
    let repaired = [deployment("tools", "well"), deployment("tools", "hung-3")];
    for child in &repaired {
        fleet.world.cluster.remove(child);
    }
    fleet
        .until("what is deleted by hand comes back", move |fleet| {
            repaired
                .iter()
                .all(|child| fleet.world.cluster.get(child).is_some())
        })
        .await;
    fleet.world.cluster.change(&path("tools", "well"), |server| {
        server["metadata"]["deletionTimestamp"] = json!("2026-11-21T11:00:00Z");
    });
    fleet
        .until("its deletion is done", |fleet| {
            fleet.world.cluster.get(&path("tools", "well")).is_none()
        })
        .await;
    assert!(arm.paths().is_empty(), "{:?}", arm.paths());
    assert!(lanes.registration.running() >= 10, "the other one still hangs");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_do_not_answer_hold_no_probe_of_others() {
    let slow: Vec<String> = (0..8).map(|number| format!("slow-{number}")).collect();
    let silent: Vec<(&str, &str)> = slow.iter().map(|name| ("slow", name.as_str())).collect();
    let mut fleet = Fleet::new(&[("tools", "well")], &silent).await;
    for name in &slow {
        fleet.apply("slow", name, "contoso");
    }
    let lanes = Arc::clone(&fleet.world.context.lanes);
    fleet
        .until("their namespace has all the probes that it may have", move |_| {
            lanes.proof.running() == 2 && lanes.proof.waiting() >= 2
        })
        .await;
    fleet.apply("tools", "well", "contoso");
    fleet
        .until("a server that answers is ready", |fleet| {
            fleet.ready("tools", "well")
        })
        .await;
    assert!(!slow.iter().any(|name| fleet.ready("slow", name)));
}

/// As after a restart of the process: nothing is remembered.
fn restarted(scenario: &mut Scenario) {
    let context = Context {
        lanes: Arc::new(Lanes::new(&scenario.world.context.writer.metrics, 10)),
        server_http: scenario.http(),
        ..(*scenario.world.context).clone()
    };
    scenario.world.context = Arc::new(context.clone());
    scenario.controller = Arc::new(Controller::new(Arc::new(context), scenario.world.events()));
}

#[tokio::test]
async fn after_a_restart_status_is_believed_until_the_lanes_have_looked() {
    let mut scenario = Scenario::ready("").await;
    restarted(&mut scenario);
    scenario.world.sync();
    scenario.world.arm.take_reads();
    work::pass(Scenario::key(), Arc::clone(&scenario.controller)).await;
    assert_eq!(scenario.world.cluster.take_writes(), [""; 0]);
    assert_eq!(scenario.world.arm.take_reads(), 0, "a pass asks nobody");
    let lanes = Arc::clone(&scenario.world.context.lanes);
    assert_eq!((lanes.registration.waiting(), lanes.proof.waiting()), (1, 1));

    scenario.world.cluster.remove(DEPLOYMENT);
    scenario.world.arm.fail(Some((503, "ServiceUnavailable")));
    let writes = scenario.pass().await;
    assert!(writes.contains(&format!("PATCH {DEPLOYMENT}")), "{writes:?}");
    assert_eq!(scenario.told("Registered").0, "True");
}

#[tokio::test]
async fn a_lost_credential_is_the_gateways_to_tell_and_servers_are_verified_on() {
    let mut scenario = Scenario::ready("").await;
    restarted(&mut scenario);
    scenario.world.arm.fail(Some((401, "InvalidAuthenticationToken")));
    assert_eq!(scenario.pass().await, [""; 0], "no news of what is registered");
    assert!(scenario.is_tried_again());
    let lanes = Arc::clone(&scenario.world.context.lanes);
    assert!(
        !lanes.proof.comes_back(&Scenario::key()),
        "it was verified all the same"
    );
    assert_eq!(scenario.told("Ready").0, "True");

    // The gateway finds out first, and its servers need not wait for their turn.
    scenario.world.arm.fail(None);
    scenario.world.cluster.change(GATEWAY, |gateway| {
        gateway["status"]["conditions"] = json!([{"type": "Ready", "status": "True", "reason": "Ready",
            "message": "", "lastTransitionTime": "2026-11-21T10:00:00Z"}]);
    });
    lanes.look_at(&Scenario::key(), crate::runtime::queue::Priority::Repair);
    scenario.settle().await;
    assert!(!scenario.is_tried_again());
    assert!(scenario.world.arm.take_reads() > 0);
    assert_eq!(scenario.told("Ready").0, "True");
}

#[tokio::test]
async fn what_the_service_refuses_comes_back_by_itself() {
    let mut scenario = Scenario::new("").await;
    scenario.pass().await;
    scenario.workload_becomes_ready();
    scenario.world.arm.fail(Some((400, "ValidationError")));
    scenario.pass().await;
    assert_eq!(scenario.told("Registered").1, "Refused");
    assert!(scenario.is_tried_again());
    scenario.world.arm.fail(None);
    scenario.pass().await;
    assert_eq!(scenario.told("Ready").0, "True");
}

/// The cluster has room for one of two.
#[tokio::test]
async fn a_server_is_registered_with_its_first_pod() {
    let mut scenario = Scenario::new("").await;
    scenario.pass().await;
    scenario.workload_becomes_ready();
    scenario.world.cluster.change(DEPLOYMENT, |deployment| {
        deployment["status"] = json!({"replicas": 2, "updatedReplicas": 2, "readyReplicas": 1,
            "availableReplicas": 1});
    });
    scenario.pass().await;
    assert_eq!(scenario.world.arm.take_writes().len(), 4);
    scenario.patience_ends();
    scenario.pass().await;
    assert_eq!(scenario.told("Registered").0, "True");
}

/// A namespace at a time, and within the budget: children, the claim and two of status.
#[tokio::test]
async fn what_the_lanes_find_one_after_the_other_is_told_at_once() {
    let mut scenario = Scenario::new("").await;
    let mut writes = scenario.pass().await;
    scenario.workload_becomes_ready();
    writes.extend(scenario.pass().await);
    let of = |path: &str| writes.iter().filter(|write| write.ends_with(path)).count();
    let own = writes.iter().filter(|write| write.contains(SERVER)).count();
    assert_eq!(own, 3, "{writes:?}");
    assert_eq!((of(DEPLOYMENT), of(SERVICE)), (1, 1));
}

/// The Service is changed between the pass that asks for a probe and the probe.
#[tokio::test]
async fn a_probe_does_not_follow_a_service_that_leads_elsewhere() {
    let mut scenario = Scenario::ready("").await;
    restarted(&mut scenario);
    scenario.world.sync();
    work::pass(Scenario::key(), Arc::clone(&scenario.controller)).await;
    scenario.world.cluster.change(SERVICE, |service| {
        service["spec"]["type"] = json!("ExternalName");
        service["spec"]["externalName"] = json!("kubernetes.default.svc.cluster.local");
    });
    scenario.world.sync();
    let next = work::proof(Scenario::key(), Arc::clone(&scenario.controller)).await;
    assert_ne!(
        next,
        crate::runtime::queue::Again::WhenAsked,
        "it was not verified"
    );
}
