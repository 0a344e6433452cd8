//! Scenarios of the secret that only a server and its gateway know.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::driver::{DEPLOYMENT, GATEWAY, SERVER, Scenario};
use super::*;
use crate::azure::gateway_secret::{GatewaySecret, named_value};
use crate::azure::probe_key::ProbeKeys;
use crate::server::door;

const SECRET: &str = "/api/v1/namespaces/tools/secrets/weather-gateway";
const POLICY: &str = "/apis/demo-tools-weather-04131aa6/policies/policy";
const API: &str = "demo-tools-weather-04131aa6";
const OWN: &str = "image: registry.example.com/notes:1\n";

impl Scenario {
    fn entry(&self, name: &str) -> Option<String> {
        let secret = self.world.cluster.get(SECRET)?;
        let bytes = STANDARD.decode(secret["data"][name].as_str()?).unwrap();
        Some(String::from_utf8(bytes).unwrap())
    }

    fn number(&self, number: i64) -> String {
        let gateway = serde_json::from_value(self.world.cluster.get(GATEWAY).unwrap()).unwrap();
        let keys = &self.world.context.probe_keys;
        let secret = GatewaySecret::derive(keys, &gateway, number).of_server(API);
        secret.expose().to_owned()
    }

    fn gateway_tells(&self, secret: &Value) {
        self.world.cluster.change(GATEWAY, |gateway| {
            gateway["status"]["secret"] = secret.clone();
        });
    }

    fn environment(&self) -> String {
        let deployment = self.world.cluster.get(DEPLOYMENT).unwrap();
        deployment["spec"]["template"]["spec"]["containers"][0]["env"].to_string()
    }

    fn policy(&self) -> String {
        let policy = self.world.arm.get(POLICY).unwrap_or_default();
        policy["value"].as_str().unwrap_or_default().to_owned()
    }
}

#[tokio::test]
async fn the_bundled_server_demands_what_its_gateway_sends() {
    let mut scenario = Scenario::ready("").await;
    assert_eq!(scenario.entry("current"), Some(scenario.number(1)));
    assert_eq!(scenario.entry("previous"), None);
    let environment = scenario.environment();
    assert!(
        environment.contains("/var/run/mcp-fleet/gateway-secret/current"),
        "{environment}"
    );
    let gateway = serde_json::from_value(scenario.world.cluster.get(GATEWAY).unwrap()).unwrap();
    let policy = scenario.policy();
    assert!(
        policy.contains(&format!("{{{{{}}}}}", named_value(&gateway))),
        "{policy}"
    );
    assert!(policy.contains("X-Gateway-Secret") && policy.contains("x-mcp-caller-signature"));
    assert!(!policy.contains(&scenario.number(1)));
    for told in [scenario.object(), scenario.world.cluster.get(DEPLOYMENT).unwrap()] {
        assert!(!told.to_string().contains(&scenario.number(1)), "{told}");
    }
    assert_eq!(scenario.pass().await, [""; 0], "silent");
}

#[tokio::test]
async fn both_are_accepted_while_it_is_rotated_and_nothing_else_changes() {
    let mut scenario = Scenario::ready("").await;
    let stages = [
        (json!({"number": 1, "other": 2}), true, Some(2), Some(1)),
        (json!({"number": 2, "other": 1}), false, Some(2), Some(1)),
        (json!({"number": 2}), true, Some(2), None),
    ];
    for (told, written, current, previous) in stages {
        scenario.gateway_tells(&told);
        let writes = scenario.pass().await;
        let expected: &[String] = if written {
            &[format!("PATCH {SECRET}")]
        } else {
            &[]
        };
        assert_eq!(writes, expected, "{told}");
        let held = [scenario.entry("current"), scenario.entry("previous")];
        let wanted = [current, previous].map(|number| number.map(|number| scenario.number(number)));
        assert_eq!(held, wanted, "{told}");
        assert_eq!(scenario.world.arm.take_writes(), [""; 0], "{told}");
        assert_eq!(scenario.pass().await, [""; 0], "{told}");
    }
}

#[tokio::test]
async fn a_gateway_without_a_secret_holds_the_registration_up_and_not_the_pods() {
    let mut scenario = Scenario::new("").await;
    scenario.gateway_tells(&Value::Null);
    scenario.pass().await;
    scenario.workload_becomes_ready();
    scenario.pass().await;
    assert!(scenario.world.cluster.get(DEPLOYMENT).is_some());
    assert_eq!(scenario.entry("current"), Some(scenario.number(1)));
    assert_eq!(scenario.world.arm.take_writes(), [""; 0]);
    scenario.patience_ends();
    scenario.pass().await;
    let (status, _, message) = scenario.told("Registered");
    assert_ne!(status, "True");
    assert!(message.contains("no secret to send yet"), "{message}");
    scenario.gateway_tells(&json!({"number": 1}));
    scenario.pass().await;
    assert_eq!(scenario.told("Registered").0, "True");
    // A status that is lost changes nothing that works.
    scenario.gateway_tells(&json!({"number": 7}));
    scenario.pass().await;
    scenario.gateway_tells(&Value::Null);
    scenario.pass().await;
    assert_eq!(scenario.entry("current"), Some(scenario.number(7)));
}

#[tokio::test]
async fn without_a_gateway_the_door_is_closed() {
    let mut scenario = Scenario::new("gateway: {name: fabrikam}").await;
    scenario.pass().await;
    assert!(scenario.environment().contains("GATEWAY_SECRET_FILE"));
    let held = scenario.entry("current").unwrap();
    assert!(held.len() >= 16 && held != scenario.number(1));
    assert_eq!(scenario.pass().await, [""; 0]);
}

#[tokio::test]
async fn another_image_gets_the_secret_when_it_names_a_header() {
    let mut scenario = Scenario::ready(OWN).await;
    assert_eq!(scenario.entry("current"), None);
    assert!(!scenario.policy().contains("mcp-secret"));
    scenario.world.cluster.change(SERVER, |server| {
        server["spec"]["gateway"] = json!({"secretHeader": "X-Notes"});
    });
    scenario.pass().await;
    assert_eq!(scenario.entry("current"), Some(scenario.number(1)));
    let policy = scenario.policy();
    assert!(
        policy.contains("X-Notes") && policy.contains("x-mcp-caller-signature"),
        "{policy}"
    );
    assert!(
        !scenario.environment().contains("GATEWAY_SECRET"),
        "what it does with it is its own"
    );
    scenario.world.cluster.change(SERVER, |server| {
        server["spec"]["gateway"] = json!({"enabled": false});
    });
    scenario.pass().await;
    assert_eq!(scenario.world.cluster.get(SECRET), None);
}

#[test]
fn who_demands_it_is_decided_by_the_spec_alone() {
    let header = |spec: &str| door::header(&server(spec), &settings());
    let usual = Some("X-Gateway-Secret".to_owned());
    for (spec, expected) in [
        ("", usual.clone()),
        ("image: registry.example.com/mcp-weather:2", usual),
        ("gateway: {secretHeader: X-Mine}", Some("X-Mine".to_owned())),
        ("gateway: {enabled: false}", None),
        ("gateway: {enabled: false, secretHeader: X-Mine}", None),
        ("env: [{name: GATEWAY_SECRET_FILE, value: /mine}]", None),
        (OWN, None),
        (
            "image: notes\ngateway: {secretHeader: X-Mine}",
            Some("X-Mine".to_owned()),
        ),
    ] {
        assert_eq!(header(spec), expected, "{spec}");
    }
    assert!(valid("").workload.unwrap().image.demands_secret());
    for spec in [
        "gateway: {enabled: false}",
        "env: [{name: GATEWAY_SECRET_FILE, value: /mine}]",
        // Only its user knows what it does with it.
        "image: notes\ngateway: {secretHeader: X-Mine}",
    ] {
        assert!(!valid(spec).workload.unwrap().image.demands_secret(), "{spec}");
    }
}

#[test]
fn the_probe_sends_what_the_server_demands_and_debug_does_not_tell_it() {
    let keys = ProbeKeys::new(&[7; 32]);
    let (header, value) = door::key(&valid(""), &keys).unwrap();
    assert_eq!(header, "x-gateway-secret");
    let sent = value.to_str().unwrap();
    let contents = door::contents(&valid(""), &keys, None).unwrap();
    let secret = contents.secret(&valid(""));
    assert_eq!(secret.data.unwrap()["current"].0, sent.as_bytes());
    for shown in [format!("{value:?}"), format!("{contents:?}")] {
        assert!(!shown.contains(sent), "{shown}");
    }
    assert!(door::key(&valid(OWN), &keys).is_none());
    let annotations = secret.metadata.annotations.unwrap();
    assert_eq!(
        door::contents(&valid(""), &keys, Some(&annotations)),
        None,
        "the gateway's is not known: what is there stays"
    );
}

/// A server that was there before its gateway: its Secret asks the gateway for one, or both wait for each other for ever.
#[test]
fn a_secret_from_before_the_gateway_was_known_is_written_again() {
    let keys = ProbeKeys::new(&[7; 32]);
    let alone = world(vec![gateway("contoso", |gateway| {
        gateway["status"] = Value::Null;
    })]);
    let unknown = crate::server::validate::validate(&server(""), &alone, &settings()).unwrap();
    let closed = door::contents(&unknown, &keys, None).unwrap().secret(&unknown);
    let annotations = closed.metadata.annotations.unwrap();
    assert_eq!(door::contents(&unknown, &keys, Some(&annotations)), None);
    let known = door::contents(&valid(""), &keys, Some(&annotations)).unwrap();
    let told = known.secret(&valid("")).metadata.annotations.unwrap();
    assert_eq!(door::Label::of(&told).unwrap().gateway, "contoso");
}
