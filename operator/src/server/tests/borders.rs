//! What one team could do to another, and what the platform leaves to teams: a table per rule.

use super::*;
use crate::azure::apim::{Purpose, resource_name};
use crate::condition::reasons;
use crate::server::validate::Plan;
use mcp_fleet_crds::ManagementPolicy;

fn closed(_: &mut Value) {}

/// The reasons of what is refused: of registration, of the workload, and of the exposure.
fn refused(valid: &Valid) -> [&'static str; 3] {
    [
        valid
            .registration
            .as_ref()
            .err()
            .map_or("", InvalidServer::reason),
        valid.workload.as_ref().err().map_or("", InvalidServer::reason),
        valid.exposure.refused.as_ref().map_or("", InvalidServer::reason),
    ]
}

fn under(spec: &str, change: impl FnOnce(&mut Value)) -> Valid {
    validate(
        &server(spec),
        &world(vec![gateway("contoso", change)]),
        &settings(),
    )
    .unwrap()
}

#[test]
fn every_rule_is_closed_until_it_is_opened_and_refuses_its_part_alone() {
    let cases = [
        (
            "gateway: {subscriptionRequired: false}",
            json!({"anonymous": true}),
            ["AnonymousNotAllowed", "", ""],
        ),
        (
            "gateway: {cors: {allowedOrigins: ['*']}}",
            json!({"wildcardCors": true}),
            ["WildcardCorsNotAllowed", "", ""],
        ),
        (
            "gateway: {backendUrl: 'https://10.0.0.7/mcp'}",
            json!({"backendUrl": true}),
            ["BackendUrlNotAllowed", "", ""],
        ),
        (
            "gateway: {path: demo/other/x}",
            json!({"anyPath": true}),
            ["PathNotAllowed", "", ""],
        ),
        (
            "service: {sources: [Any]}",
            json!({"anySource": true}),
            ["AnySourceNotAllowed", "", "AnySourceNotAllowed"],
        ),
        (
            "serviceAccountName: admin",
            json!({"serviceAccounts": ["adm*"]}),
            ["", "ServiceAccountNotAllowed", ""],
        ),
        (
            "service: {annotations: {external-dns.alpha.kubernetes.io/hostname: a.example}}",
            json!({"serviceAnnotations": ["external-dns.alpha.kubernetes.io/*"]}),
            ["", "", "ServiceAnnotationNotAllowed"],
        ),
    ];
    for (spec, opened, reasons) in cases {
        let rule = opened.as_object().unwrap().keys().next().unwrap().clone();
        let valid = under(spec, closed);
        assert_eq!(refused(&valid), reasons, "{spec}");
        let message = valid.refusals()[0].to_string();
        let named = format!("McpGateway contoso spec.allow.{rule}");
        assert!(message.contains(&named), "{named}: {message}");
        let valid = under(spec, |gateway| gateway["spec"]["allow"] = opened);
        assert_eq!(refused(&valid), [""; 3], "{spec}");
    }
}

#[test]
fn images_and_numbers_are_free_until_they_are_limited() {
    let images =
        |gateway: &mut Value| gateway["spec"]["allow"] = json!({"images": ["registry.example.com/tools/*"]});
    assert_eq!(refused(&under("image: docker.io/x", closed)), [""; 3]);
    assert_eq!(
        refused(&under("image: docker.io/x", images)),
        ["", "ImageNotAllowed", ""]
    );
    assert_eq!(
        refused(&under("image: registry.example.com/tools/x:1", images)),
        [""; 3]
    );
    assert_eq!(refused(&under("", images)), [""; 3], "the platform's own");
    let other_version = under("image: registry.example.com/mcp-weather:evil", images);
    assert_eq!(refused(&other_version), ["", "ImageNotAllowed", ""]);
    assert_eq!(refused(&under("serviceAccountName: default", closed)), [""; 3]);
}

#[test]
fn of_too_many_servers_the_younger_ones_are_refused() {
    let limit = |gateway: &mut Value| gateway["spec"]["allow"] = json!({"serversPerNamespace": 1});
    let of = |own: &str, other: &str| {
        let (own, other) = (named(own, ""), named(other, ""));
        let loaded = Loaded {
            servers: vec![Arc::new(own.clone()), Arc::new(other)],
            ..world(vec![gateway("contoso", limit)])
        };
        refused(&validate(&own, &loaded, &settings()).unwrap())
    };
    assert_eq!(of("a", "b"), [""; 3]);
    assert_eq!(of("b", "a"), ["TooManyServers"; 3]);
}

/// Neither switching the gateway off nor naming one that is not there, or not for the namespace, opens anything.
#[test]
fn there_is_no_way_round_the_rules() {
    let strict = || {
        gateway("contoso", |gateway| {
            gateway["spec"]["allow"] = json!({"images": ["registry.example.com/*"]});
        })
    };
    let lax = |name: &str, change: fn(&mut Value)| {
        gateway(name, |gateway| {
            gateway["metadata"]["annotations"] = json!({});
            gateway["spec"]["allow"] = json!({"anySource": true, "serviceAccounts": ["*"]});
            change(gateway);
        })
    };
    let elsewhere = |gateway: &mut Value| gateway["spec"]["allowedNamespaces"] = json!(["payments"]);
    let spec =
        |gateway: &str| format!("image: docker.io/x\nserviceAccountName: admin\ngateway: {{{gateway}}}");
    let cases = [
        ("enabled: false", vec![strict()], "ImageNotAllowed"),
        ("enabled: false, name: absent", vec![strict()], "ImageNotAllowed"),
        ("name: absent", vec![strict()], "ImageNotAllowed"),
        (
            "name: other",
            vec![strict(), lax("other", elsewhere)],
            "ImageNotAllowed",
        ),
        (
            "enabled: false, name: other",
            vec![strict(), lax("other", |_| ())],
            "",
        ),
        ("enabled: false", vec![], "ServiceAccountNotAllowed"),
        // Two defaults: both must allow it.
        (
            "enabled: false",
            vec![strict(), gateway("second", |_| ())],
            "ImageNotAllowed",
        ),
    ];
    for (registration, gateways, reason) in cases {
        let valid = validate(&server(&spec(registration)), &world(gateways), &settings()).unwrap();
        assert_eq!(refused(&valid)[1], reason, "{registration}");
    }
}

#[test]
fn orphan_without_leave_is_refused_and_treated_as_manage() {
    let spec = "gateway: {managementPolicy: Orphan}";
    let policy = |valid: &Valid| match &valid.registration {
        Ok(Plan::Register(registration)) => registration.policy,
        Ok(Plan::Unregistered { policy }) => *policy,
        Err(error) => panic!("{error}"),
    };
    let valid = under(spec, closed);
    assert_eq!(policy(&valid), ManagementPolicy::Manage);
    assert_eq!(valid.refusals()[0].reason(), "OrphanNotAllowed");
    let valid = under("gateway: {enabled: false, managementPolicy: Orphan}", closed);
    assert_eq!(policy(&valid), ManagementPolicy::Manage);
    let valid = under(spec, |gateway| gateway["spec"]["allow"] = json!({"orphan": true}));
    assert_eq!(policy(&valid), ManagementPolicy::Orphan);
    assert!(valid.refusals().is_empty());
}

#[test]
fn no_annotation_takes_the_confinement_from_a_pod() {
    for key in [
        "container.apparmor.security.beta.kubernetes.io/mcp",
        "seccomp.security.alpha.kubernetes.io/pod",
    ] {
        let valid = under(
            &format!("podTemplate: {{annotations: {{{key}: unconfined}}}}"),
            closed,
        );
        assert_eq!(refused(&valid), ["", reasons::INVALID, ""]);
    }
}

/// By segments, in any case; of two that are in each other's way, the one below its own namespace stays.
#[test]
fn no_path_contains_another_ones() {
    let any = |gateway: &mut Value| gateway["spec"]["allow"] = json!({"anyPath": true});
    let placed = |namespace: &str, name: &str, spec: &str| {
        let mut server = named(name, spec);
        server.metadata.namespace = Some(namespace.to_owned());
        server
    };
    let at = |path: &str| format!("gateway: {{path: {path}}}");
    let ledger = || placed("payments", "ledger", "");
    // The other one is registered and older: what decides is whose namespace the path is in.
    let cases = [
        (placed("tools", "a", &at("demo/payments/ledger")), ledger(), false),
        (
            placed("tools", "a", &at("demo/payments/ledger/messages")),
            ledger(),
            false,
        ),
        (
            placed("tools", "a", &at("DEMO/Payments/ledger/mcp")),
            ledger(),
            false,
        ),
        (placed("tools", "a", &at("demo/payments")), ledger(), false),
        (placed("tools", "a", &at("demo")), ledger(), false),
        (placed("tools", "a", &at("demo/payments/ledger2")), ledger(), true),
        (
            placed("tools", "a", &at("demo/tools/a/b")),
            placed("tools", "a0", &at("demo/tools/a")),
            false,
        ),
        (
            placed("tools", "a", ""),
            placed("tools", "a0", &at("demo/tools/a/b")),
            false,
        ),
        (
            ledger(),
            placed("tools", "a", &at("demo/payments/ledger/messages")),
            true,
        ),
        (ledger(), placed("tools", "a", &at("demo/payments")), true),
    ];
    for (index, (own, mut other, stays)) in cases.into_iter().enumerate() {
        let time = "2026-11-20T10:00:00Z".parse().unwrap();
        other.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(time));
        let path = other
            .spec
            .gateway
            .as_ref()
            .and_then(|gateway| gateway.path.clone());
        let path = path.unwrap_or_else(|| "demo/payments/ledger".to_owned());
        other.status = serde_json::from_value(json!({"gateway": {"name": "contoso", "path": path}})).unwrap();
        let loaded = Loaded {
            servers: vec![Arc::new(own.clone()), Arc::new(other)],
            ..world(vec![gateway("contoso", any)])
        };
        let refused = refused(&validate(&own, &loaded, &settings()).unwrap())[0];
        assert_eq!(
            refused,
            if stays { "" } else { reasons::CONFLICT },
            "case {index}"
        );
    }
}

/// A refusal takes away only what is registered: a path that was only asked for is not.
#[test]
fn a_path_that_is_no_longer_allowed_is_taken_back() {
    for (registered, revokes) in [("demo/other/x", true), ("demo/tools/weather", false)] {
        let mut server = server("gateway: {path: demo/other/x}");
        server.status =
            serde_json::from_value(json!({"gateway": {"name": "contoso", "path": registered}})).unwrap();
        let loaded = world(vec![gateway("contoso", closed)]);
        let refusal = validate(&server, &loaded, &settings())
            .unwrap()
            .registration
            .unwrap_err();
        assert_eq!(refusal.revokes(), revokes, "{registered}");
    }
}

#[test]
fn a_gateway_may_get_another_name_and_a_server_does_not_move() {
    let id = resource_name(Purpose::Server, "demo", "tools", "weather");
    let service = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/G/providers/Microsoft.ApiManagement/service/contoso";
    let claim = json!({"uid": "uid-weather", "gateway": "contoso", "service": service, "api": format!("{service}/apis/{id}"),
        "backend": format!("{service}/backends/{id}"), "subscription": format!("{service}/subscriptions/{id}")});
    let mut server = server("gateway: {name: other}");
    server.metadata.annotations = Some([("mcpfleet.dev/claim".to_owned(), claim.to_string())].into());
    let moved = |change: fn(&mut Value)| {
        let loaded = world(vec![gateway("contoso", closed), gateway("other", change)]);
        refused(&validate(&server, &loaded, &settings()).unwrap())[0]
    };
    assert_eq!(moved(closed), "", "the same service in another case");
    assert_eq!(
        moved(|gateway| gateway["spec"]["apim"]["serviceName"] = json!("fabrikam")),
        "MoveRefused"
    );
    assert_eq!(
        moved(|gateway| gateway["spec"]["clusterId"] = json!("prod")),
        "MoveRefused"
    );
}

#[test]
fn on_a_tier_without_streams_sse_is_left_out_and_refused_by_name() {
    let consumption = |gateway: &mut Value| gateway["status"]["sku"] = json!("Consumption");
    let valid = under("", consumption);
    assert_eq!((valid.transports.sse.is_none(), refused(&valid)), (true, [""; 3]));
    let valid = under("transports: {streamableHttp: {}, sse: {}}", consumption);
    assert_eq!(refused(&valid), ["SseNotSupported", "", ""]);
}
