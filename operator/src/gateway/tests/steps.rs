//! The pure steps of the line, rule by rule.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use mcp_fleet_crds::McpGateway;
use serde_json::{Value, json};
use url::Url;

use crate::azure::apim::ServiceFacts;
use crate::azure::clients::ArmClients;
use crate::azure::environment::AzureEnvironment;
use crate::condition::{Outlook, find, types};
use crate::gateway::check::{Check, Trouble};
use crate::gateway::claim::Claim;
use crate::gateway::load::{Loaded, load, refuses_probe_key};
use crate::gateway::probe::Probe;
use crate::gateway::requeue;
use crate::gateway::secret::Wanted;
use crate::gateway::status::{deleting, same, status, trouble};
use crate::gateway::validate::{TWO_DEFAULTS, validate};
use crate::runtime::metrics::Metrics;

fn gateway(change: impl FnOnce(&mut Value)) -> McpGateway {
    let mut object = json!({
        "apiVersion": "mcpfleet.dev/v1alpha1",
        "kind": "McpGateway",
        "metadata": {"name": "contoso", "uid": "u-1", "generation": 3, "resourceVersion": "7"},
        "spec": {"clusterId": "demo", "apim": {
            "subscriptionId": "00000000-0000-0000-0000-000000000001", "resourceGroup": "demo", "serviceName": "contoso",
        }},
    });
    change(&mut object);
    serde_json::from_value(object).unwrap()
}

fn default_gateway() -> McpGateway {
    gateway(|object| object["metadata"]["annotations"] = json!({"mcpfleet.dev/is-default-gateway": "true"}))
}

fn arm() -> ArmClients {
    let environment = AzureEnvironment {
        client_id: Some("client".into()),
        tenant_id: Some("tenant".into()),
        token_file: Some("/token".into()),
        ..AzureEnvironment::default()
    };
    ArmClients::new(environment, Metrics::default())
}

fn facts() -> ServiceFacts {
    ServiceFacts {
        gateway_url: Url::parse("https://contoso.azure-api.net").unwrap(),
        sku: "Developer".into(),
        in_network: false,
        addresses: vec![IpAddr::from([20, 1, 2, 3]), IpAddr::from([20, 1, 2, 4])],
        state: "Succeeded".into(),
    }
}

fn check(result: Result<ServiceFacts, Trouble>) -> Check {
    Check {
        generation: Some(3),
        result,
        probe: Ok(Probe::Unwanted),
        secret: Ok(None),
        wanted: Wanted::None,
        body_logging: vec![],
        renewed: false,
        valid_until: Instant::now() + Duration::from_mins(5),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    let cases = [
        (
            gateway(|object| {
                object["spec"]["apim"]["caBundle"] = json!("-----BEGIN nothing");
            }),
            "Invalid",
            "CA bundle",
        ),
        (
            gateway(|object| {
                object["spec"]["apim"]["endpoints"] =
                    json!({"endpoint": "https://", "authority": "https://x"});
            }),
            "Invalid",
            "spec.apim.endpoints.endpoint",
        ),
        (
            gateway(|object| {
                object["spec"].as_object_mut().unwrap().remove("apim");
            }),
            "Invalid",
            "spec.apim",
        ),
    ];
    for (gateway, reason, word) in cases {
        let accepted = validate(&gateway, &Loaded::default(), &arm());
        assert!(accepted.clients.is_none());
        assert_eq!(accepted.judgement.reason, reason);
        assert!(
            accepted.judgement.message.contains(word),
            "{}",
            accepted.judgement.message
        );
        let status = status(&gateway, &Loaded::default(), &accepted, None, at(1));
        let shown: Vec<_> = status
            .conditions
            .iter()
            .map(|one| (one.type_.as_str(), one.status.as_str()))
            .collect();
        assert_eq!(
            shown,
            [
                ("Accepted", "False"),
                ("Available", "Unknown"),
                ("Ready", "False"),
                ("Stalled", "True")
            ]
        );
    }
    let nobody = ArmClients::new(AzureEnvironment::default(), Metrics::default());
    let accepted = validate(&default_gateway(), &Loaded::default(), &nobody);
    assert!(
        accepted.judgement.message.contains("AZURE_CLIENT_ID"),
        "{}",
        accepted.judgement.message
    );
}

#[test]
fn two_defaults_accept_neither_and_keep_the_clients() {
    let others = |names: &[&str]| Loaded {
        other_defaults: names.iter().map(ToString::to_string).collect(),
        ..Loaded::default()
    };
    let cases = [
        (default_gateway(), others(&[]), None),
        (
            default_gateway(),
            others(&["fabrikam"]),
            Some("fabrikam is marked"),
        ),
        (default_gateway(), others(&["a", "b"]), Some("a, b are marked")),
        (gateway(|_| ()), others(&["fabrikam"]), None),
    ];
    for (gateway, loaded, refused) in cases {
        let accepted = validate(&gateway, &loaded, &arm());
        assert!(accepted.clients.is_some());
        match refused {
            None => assert_eq!(accepted.judgement.reason, "Accepted"),
            Some(words) => {
                assert_eq!(accepted.judgement.reason, TWO_DEFAULTS);
                assert!(
                    accepted.judgement.message.starts_with(words),
                    "{}",
                    accepted.judgement.message
                );
            }
        }
    }
}

#[test]
fn the_service_is_described() {
    let loaded = Loaded {
        servers: 2,
        ..Loaded::default()
    };
    let gateway = default_gateway();
    let accepted = validate(&gateway, &loaded, &arm());
    let first = status(&gateway, &loaded, &accepted, Some(&check(Ok(facts()))), at(1));
    assert_eq!(
        first.gateway_url.as_deref(),
        Some("https://contoso.azure-api.net")
    );
    assert_eq!(
        (first.sku.as_deref(), first.servers, first.observed_generation),
        (Some("Developer"), Some(2), Some(3))
    );
    assert_eq!(first.source_addresses, ["20.1.2.3", "20.1.2.4"]);
    assert_eq!(trouble(&first.conditions), None);

    // The same world again is the same status; one that does not answer keeps what was known.
    let mut later = default_gateway();
    later.status = Some(first.clone());
    let again = status(&later, &loaded, &accepted, Some(&check(Ok(facts()))), at(2));
    assert!(same(&first, &again));
    let down = Trouble {
        reason: "AuthenticationFailed",
        message: "AADSTS700016: not found".into(),
        outlook: Outlook::Stalls,
    };
    let failed = status(&later, &loaded, &accepted, Some(&check(Err(down))), at(3));
    assert!(!same(&first, &failed));
    assert_eq!(failed.gateway_url, first.gateway_url);
    let ready = find(&failed.conditions, types::READY).unwrap();
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("False", "AuthenticationFailed")
    );
    assert_eq!(ready.message, "Available: AADSTS700016: not found");
}

/// What the platform states is added to what the service reports; the URL that agents call is the platform's to say.
#[test]
fn what_the_platform_states_is_added_to_what_the_service_says() {
    let of = |facts: ServiceFacts, change: fn(&mut Value)| {
        let gateway = gateway(change);
        let accepted = validate(&gateway, &Loaded::default(), &arm());
        let status = status(
            &gateway,
            &Loaded::default(),
            &accepted,
            Some(&check(Ok(facts))),
            at(1),
        );
        let available = find(&status.conditions, types::AVAILABLE)
            .unwrap()
            .message
            .clone();
        (status.source_addresses, status.gateway_url.unwrap(), available)
    };
    let ranges = |object: &mut Value| {
        object["spec"]["apim"]["sourceRanges"] = json!(["10.2.0.0/24"]);
        object["spec"]["url"] = json!("https://mcp.example.com/");
    };
    let in_network = || ServiceFacts {
        in_network: true,
        ..facts()
    };
    let (addresses, url, available) = of(in_network(), ranges);
    assert_eq!(addresses, ["20.1.2.3", "20.1.2.4", "10.2.0.0/24"]);
    assert_eq!(url, "https://mcp.example.com");
    assert!(!available.contains("sourceRanges"), "{available}");
    let (_, _, available) = of(in_network(), |_| ());
    assert!(
        available.contains("name the subnet in apim.sourceRanges"),
        "{available}"
    );
    let silent = ServiceFacts {
        sku: "BasicV2".into(),
        addresses: vec![],
        ..facts()
    };
    let (addresses, _, available) = of(silent, |_| ());
    assert_eq!(addresses, [""; 0]);
    assert!(available.contains("in apim.sourceRanges"), "{available}");
}

#[test]
fn tiers_and_states_are_judged() {
    let cases = [
        (
            "Consumption",
            "Succeeded",
            vec![],
            "True",
            "cannot use SSE; its tier reports no addresses",
        ),
        (
            "Developer",
            "Updating",
            facts().addresses,
            "True",
            "the API Management service answers",
        ),
        (
            "Developer",
            "Terminating",
            vec![],
            "False",
            "is in state Terminating",
        ),
    ];
    for (sku, state, addresses, available, words) in cases {
        let facts = ServiceFacts {
            sku: sku.into(),
            state: state.into(),
            addresses,
            ..facts()
        };
        let gateway = gateway(|_| ());
        let accepted = validate(&gateway, &Loaded::default(), &arm());
        let status = status(
            &gateway,
            &Loaded::default(),
            &accepted,
            Some(&check(Ok(facts))),
            at(1),
        );
        let condition = find(&status.conditions, types::AVAILABLE).unwrap();
        assert_eq!(condition.status, available, "{sku} {state}");
        assert!(condition.message.contains(words), "{}", condition.message);
    }
}

#[test]
fn the_probe_is_told_where_there_is_one() {
    let trouble = |reason| {
        Err(Trouble {
            reason,
            message: "told".into(),
            outlook: Outlook::Stalls,
        })
    };
    let there = Ok(Probe::Registered { written: false });
    let cases = [
        ("AllApis", there, None, Some("True"), "True"),
        ("AllApis", trouble("Conflict"), None, Some("False"), "False"),
        ("AllApis", Ok(Probe::Unknown), None, Some("Unknown"), "Unknown"),
        ("AllApis", Ok(Probe::Unknown), Some("True"), Some("True"), "True"),
        ("None", Ok(Probe::Unwanted), Some("True"), None, "True"),
        ("None", trouble("Forbidden"), Some("True"), Some("False"), "False"),
        ("PerServer", Ok(Probe::Unknown), None, None, "True"),
    ];
    for (mode, probe, before, registered, ready) in cases {
        let mut gateway = gateway(|object| object["spec"]["probe"] = json!(mode));
        if let Some(before) = before {
            let condition = json!({"type": "Registered", "status": before, "reason": "Registered", "message": "",
                "observedGeneration": gateway.metadata.generation, "lastTransitionTime": "2026-11-21T10:00:00Z"});
            gateway.status = serde_json::from_value(json!({"conditions": [condition]})).unwrap();
        }
        let accepted = validate(&gateway, &Loaded::default(), &arm());
        let check = Check {
            probe: probe.clone(),
            ..check(Ok(facts()))
        };
        let status = status(&gateway, &Loaded::default(), &accepted, Some(&check), at(1));
        let shown = |type_| find(&status.conditions, type_).map(|found| found.status.as_str());
        assert_eq!(shown(types::REGISTERED), registered, "{mode} {probe:?}");
        assert_eq!(shown(types::READY), Some(ready), "{mode} {probe:?}");
    }
}

#[test]
fn a_refused_key_is_heard_from_live_servers_alone() {
    let server = |reason: &str, metadata: Value| -> mcp_fleet_crds::McpServer {
        serde_json::from_value(json!({
            "apiVersion": "mcpfleet.dev/v1alpha1", "kind": "McpServer", "spec": {}, "metadata": metadata,
            "status": {"conditions": [{"type": "Verified", "status": "False", "reason": reason, "message": "",
                "lastTransitionTime": "2026-11-21T10:00:00Z"}]},
        }))
        .unwrap()
    };
    let alive = json!({"name": "weather"});
    let dying = json!({"name": "weather", "deletionTimestamp": "2026-11-21T10:00:00Z"});
    let cases = [
        ("ProbeKeyRefused", &alive, true),
        ("Unauthorized", &alive, false),
        ("ProbeKeyRefused", &dying, false),
    ];
    for (reason, metadata, heard) in cases {
        assert_eq!(
            refuses_probe_key(&server(reason, metadata.clone())),
            heard,
            "{reason}"
        );
    }
}

#[test]
fn a_copied_claim_is_nobodys() {
    let claimed = |text: &str| {
        Claim::of(&gateway(|object| {
            object["metadata"]["annotations"] = json!({"mcpfleet.dev/claim": text});
        }))
    };
    let own = |probe: Option<&str>| Claim::new(&gateway(|_| ()), probe.map(str::to_owned), None);
    let cases = [
        (r#"{"uid":"u-1"}"#, Some(own(None))),
        (r#"{"probe":"demo-p","uid":"u-1"}"#, Some(own(Some("demo-p")))),
        (r#"{"probe":"demo-p","uid":"u-2"}"#, None),
        ("{", None),
    ];
    for (text, claim) in cases {
        assert_eq!(claimed(text), claim, "{text}");
        assert!(claim.is_none_or(|claim| claim.text() == text), "{text}");
    }
}

#[test]
fn a_deletion_names_who_is_awaited() {
    let users: Vec<String> = (1..8)
        .map(|n| format!("McpServer tools/s{n}"))
        .chain(["McpAccess tools/a".into()])
        .collect();
    let status = deleting(&gateway(|_| ()), &users, at(1));
    let ready = find(&status.conditions, types::READY).unwrap();
    assert_eq!((ready.reason.as_str(), status.servers), ("Deleting", Some(7)));
    assert!(
        ready.message.ends_with("McpServer tools/s5 and 3 more"),
        "{}",
        ready.message
    );
}

#[test]
fn the_next_pass_comes_when_the_check_runs_out() {
    let now = Instant::now();
    let mut check = check(Ok(facts()));
    check.valid_until = now + Duration::from_secs(40);
    assert_eq!(
        requeue::next(Some(&check), false, now),
        Some(Duration::from_secs(40))
    );
    assert_eq!(
        requeue::next(Some(&check), false, now + Duration::from_mins(1)),
        Some(Duration::from_secs(1))
    );
    assert_eq!(requeue::next(None, false, now), None);
    // A rotation goes on by time, and by what servers' Secrets hold.
    assert_eq!(
        requeue::next(Some(&check), true, now),
        Some(Duration::from_secs(15))
    );
}

#[test]
fn other_defaults_are_loaded() {
    let other = |name: &str, extra: Value| {
        let mut other = serde_json::to_value(default_gateway()).unwrap();
        other["metadata"]["name"] = json!(name);
        if let (Some(metadata), Value::Object(extra)) = (other["metadata"].as_object_mut(), extra) {
            metadata.extend(extra);
        }
        serde_json::from_value::<McpGateway>(other).unwrap()
    };
    let caches = crate::runtime::context::Caches {
        servers: crate::runtime::cache::cache().0,
        gateways: {
            let (cache, feeder) = crate::runtime::cache::cache();
            drop(feeder.fill([
                default_gateway(),
                other("b", json!({})),
                other("a", json!({})),
                other("gone", json!({"deletionTimestamp": "2026-11-21T10:00:00Z"})),
                other("plain", json!({"annotations": {}})),
            ]));
            cache
        },
        accesses: crate::runtime::cache::cache().0,
        deployments: crate::runtime::cache::cache().0,
        services: crate::runtime::cache::cache().0,
        secrets: crate::runtime::cache::cache().0,
    };
    assert_eq!(load(&caches, &default_gateway()).other_defaults, ["a", "b"]);
}
