//! A table per rule.

use super::*;
use crate::azure::apim::RateLimit;
use crate::condition::reasons;
use crate::server::validate::{Access, Backend, Plan, Registration, uses_gateway};

fn registration(valid: Valid) -> Registration {
    match valid.registration {
        Ok(Plan::Register(registration)) => *registration,
        other => panic!("not registered: {other:?}"),
    }
}

fn with_gateway(spec: &str, change: impl FnOnce(&mut Value)) -> Result<Valid, InvalidServer> {
    wholly(
        &server(spec),
        &world(vec![gateway("contoso", change)]),
        &settings(),
    )
}

#[test]
fn a_gateway_is_found_or_its_absence_explained() {
    let plain = |gateway: &mut Value| gateway["metadata"]["annotations"] = json!({});
    let other = || gateway("other", |_| ());
    let cases = [
        ("", vec![], Err(reasons::GATEWAY_NOT_FOUND)),
        (
            "",
            vec![gateway("contoso", plain)],
            Err(reasons::GATEWAY_NOT_FOUND),
        ),
        (
            "",
            vec![gateway("contoso", |_| ()), other()],
            Err("TwoDefaultGateways"),
        ),
        ("", vec![gateway("contoso", plain), other()], Ok("other")),
        (
            "gateway: {name: contoso}",
            vec![gateway("contoso", plain), other()],
            Ok("contoso"),
        ),
        (
            "gateway: {name: absent}",
            vec![other()],
            Err(reasons::GATEWAY_NOT_FOUND),
        ),
        (
            "",
            vec![gateway("contoso", |g| {
                g["spec"]["allowedNamespaces"] = json!(["payments"]);
            })],
            Err(reasons::GATEWAY_NOT_ALLOWED),
        ),
        (
            "",
            vec![gateway("contoso", |g| {
                g["spec"]["allowedNamespaces"] = json!(["payments", "tools"]);
            })],
            Ok("contoso"),
        ),
        (
            "",
            vec![gateway("contoso", |g| {
                g["spec"]["allowedNamespaces"] = json!(["All"]);
            })],
            Ok("contoso"),
        ),
        (
            "",
            vec![gateway("contoso", |g| g["status"] = json!({}))],
            Err(reasons::GATEWAY_NOT_READY),
        ),
        (
            "",
            vec![
                gateway("successor", |_| ()),
                gateway("former", |g| {
                    g["metadata"]["deletionTimestamp"] = json!("2026-11-21T10:00:00Z");
                }),
            ],
            Ok("successor"),
        ),
        (
            "",
            vec![gateway("contoso", |g| {
                g["metadata"]["deletionTimestamp"] = json!("2026-11-21T10:00:00Z");
            })],
            Err(reasons::GATEWAY_NOT_FOUND),
        ),
    ];
    for (index, (spec, gateways, expected)) in cases.into_iter().enumerate() {
        let found = wholly(&server(spec), &world(gateways), &settings());
        let found = found.map(|valid| registration(valid).gateway.name);
        match (found, expected) {
            (Ok(name), Ok(expected)) => assert_eq!(name, expected, "case {index}"),
            (Err(error), Err(reason)) => assert_eq!(error.reason(), reason, "case {index}: {error}"),
            (found, _) => panic!("case {index}: {found:?}"),
        }
    }
    let unregistered = validate(&server("gateway: {enabled: false}"), &world(vec![]), &settings()).unwrap();
    assert!(matches!(unregistered.registration, Ok(Plan::Unregistered { .. })));
}

/// Its addresses are not known yet: a load balancer that was closed must not be opened for that.
#[test]
fn a_gateway_that_was_made_anew_opens_no_load_balancer() {
    let mut server = server("");
    let claim = json!({"uid": "uid-weather", "gateway": "contoso", "service": "s", "api": "a", "backend": "b", "subscription": "c"});
    server.metadata.annotations = Some([("mcpfleet.dev/claim".to_owned(), claim.to_string())].into());
    let loaded = world(vec![gateway("contoso", |gateway| gateway["status"] = json!({}))]);
    let error = wholly(&server, &loaded, &settings()).unwrap_err();
    assert_eq!(error.reason(), reasons::GATEWAY_NOT_READY);
}

#[test]
fn a_claim_outlives_a_changed_default_and_a_gateway_with_a_bad_day() {
    let mut server = server("");
    let claim = json!({"uid": "uid-weather", "gateway": "contoso", "service": "s", "api": "a", "backend": "b", "subscription": "c"});
    server.metadata.annotations = Some([("mcpfleet.dev/claim".to_owned(), claim.to_string())].into());
    let sick = gateway("contoso", |gateway| {
        gateway["metadata"]["annotations"] = json!({});
        gateway["metadata"]["deletionTimestamp"] = json!("2026-11-21T10:00:00Z");
        gateway["status"]["conditions"] = json!([{"type": "Ready", "status": "False", "reason": "Forbidden", "message": "",
            "lastTransitionTime": "2026-11-21T10:00:00Z"}]);
    });
    let loaded = world(vec![sick, gateway("other", |_| ())]);
    assert_eq!(
        registration(validate(&server, &loaded, &settings()).unwrap())
            .gateway
            .name,
        "contoso"
    );
    assert!(uses_gateway(&server, "contoso") && !uses_gateway(&server, "other"));
    // The same annotation on another object is not its claim.
    server.metadata.uid = Some("uid-copy".to_owned());
    assert_eq!(
        registration(validate(&server, &loaded, &settings()).unwrap())
            .gateway
            .name,
        "other"
    );
    assert!(uses_gateway(&server, "other"));
}

#[test]
fn paths_stay_below_the_own_namespace() {
    let allow = |gateway: &mut Value| gateway["spec"]["allow"] = json!({"anyPath": true});
    let prefix = |gateway: &mut Value| gateway["spec"]["pathPrefix"] = json!("mcp/eu");
    let path = |spec: &str, change: fn(&mut Value)| {
        with_gateway(spec, change)
            .map(|valid| registration(valid).path)
            .map_err(|error| error.reason())
    };
    assert_eq!(path("", |_| ()), Ok("demo/tools/weather".into()));
    assert_eq!(path("", prefix), Ok("mcp/eu/tools/weather".into()));
    for inside in ["demo/tools/w", "Demo/TOOLS/w", "demo/tools/a/b"] {
        assert_eq!(
            path(&format!("gateway: {{path: {inside}}}"), |_| ()),
            Ok(inside.into())
        );
    }
    for outside in [
        "demo",
        "demo/tools",
        "demo/w",
        "demo/toolsmith/w",
        "demo/payments/ledger",
        "demonstration/tools/w",
        "payments",
    ] {
        let spec = format!("gateway: {{path: {outside}}}");
        assert_eq!(path(&spec, |_| ()), Err("PathNotAllowed"), "{outside}");
        assert_eq!(path(&spec, allow), Ok(outside.into()));
    }
}

#[test]
fn of_two_servers_with_one_path_the_registered_and_then_the_older_one_wins() {
    let claimant = |name: &str, created: &str, registered: bool| {
        let mut server = named(name, "gateway: {path: demo/tools/same}");
        let time = created.parse().unwrap();
        server.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(time));
        if registered {
            server.status =
                serde_json::from_value(json!({"gateway": {"name": "contoso", "path": "demo/tools/same"}}))
                    .unwrap();
        }
        server
    };
    let old = "2026-11-20T10:00:00Z";
    let young = "2026-11-21T10:00:00Z";
    let cases = vec![
        (claimant("a", young, false), claimant("b", old, false), false),
        (claimant("a", old, false), claimant("b", young, false), true),
        (claimant("a", young, true), claimant("b", old, false), true),
        (claimant("a", old, false), claimant("b", young, true), false),
        (
            claimant("a", old, false),
            named("b", "gateway: {path: Demo/Tools/SAME}"),
            true,
        ),
        (claimant("b", young, false), named("c", ""), true),
    ];
    for (index, (own, other, wins)) in cases.into_iter().enumerate() {
        let loaded = Loaded {
            servers: vec![Arc::new(own.clone()), Arc::new(other)],
            ..world(vec![gateway("contoso", |_| ())])
        };
        let result = wholly(&own, &loaded, &settings());
        assert_eq!(result.is_ok(), wins, "case {index}");
        if let Err(error) = result {
            assert_eq!(error.reason(), reasons::CONFLICT);
        }
    }
}

#[test]
fn values_come_from_the_server_then_the_gateway_then_the_built_in_ones() {
    let defaults = |gateway: &mut Value| {
        gateway["spec"]["defaults"] = json!({"rateLimit": {"calls": 50, "renewalSeconds": 10}, "timeoutSeconds": 90,
            "cors": {"allowedOrigins": ["https://app.example.com"]}});
    };
    let limit = |calls, renewal_seconds| {
        Some(RateLimit {
            calls,
            renewal_seconds,
        })
    };
    let of = |spec: &str, change: fn(&mut Value)| registration(with_gateway(spec, change).unwrap());
    let built_in = of("", |_| ());
    assert_eq!(
        (built_in.rate_limit, built_in.timeout_seconds, built_in.cors),
        (limit(1000, 60), 60, None)
    );
    let inherited = of("", defaults);
    assert_eq!(
        (inherited.rate_limit, inherited.timeout_seconds),
        (limit(50, 10), 90)
    );
    assert_eq!(inherited.cors.unwrap().max_age_seconds, 300);
    let own = of(
        "gateway: {rateLimit: {calls: 7}, timeoutSeconds: 5, cors: {allowedOrigins: ['https://a.example'], maxAgeSeconds: 0}}",
        defaults,
    );
    assert_eq!((own.rate_limit, own.timeout_seconds), (limit(7, 60), 5));
    assert_eq!(own.cors.unwrap().max_age_seconds, 0);
    let anonymous = |gateway: &mut Value| gateway["spec"]["allow"] = json!({"anonymous": true});
    assert_eq!(
        of("gateway: {subscriptionRequired: false}", anonymous).rate_limit,
        None
    );
}

#[test]
fn a_backend_url_needs_the_gateways_consent() {
    let spec = "gateway: {backendUrl: 'https://notes.example.com/mcp'}\nservice: {type: ClusterIP}";
    assert_eq!(
        with_gateway(spec, |_| ()).unwrap_err().reason(),
        "BackendUrlNotAllowed"
    );
    let valid = with_gateway(spec, |gateway| {
        gateway["spec"]["allow"] = json!({"backendUrl": true});
    })
    .unwrap();
    assert_eq!(valid.exposure.access, Access::ClusterOnly);
    let Backend::Url(url) = registration(valid).backend else {
        panic!("no URL")
    };
    assert_eq!(url.as_str(), "https://notes.example.com/mcp");
}

#[test]
fn what_is_the_operators_is_refused_by_name() {
    let cases = [
        (
            "podTemplate: {labels: {mcpfleet.dev/server: x}}",
            "podTemplate.labels",
        ),
        (
            "podTemplate: {labels: {app.kubernetes.io/name: x}}",
            "podTemplate.labels",
        ),
        (
            "podTemplate: {volumes: [{name: mcp-fleet-tmp, emptyDir: {}}]}",
            "podTemplate.volumes",
        ),
        (
            "service: {annotations: {mcpfleet.dev/applied: x}}",
            "service.annotations",
        ),
        ("service: {sources: [300.1.1.1/8]}", "service.sources"),
    ];
    for (spec, field) in cases {
        let error = judged(&server(spec)).unwrap_err();
        assert_eq!(error.reason(), reasons::INVALID);
        assert!(error.to_string().starts_with(field), "{error}");
    }
}

#[test]
fn transports_are_those_given_or_those_of_the_image() {
    let of = |spec: &str| {
        let transports = valid(spec).transports;
        (transports.streamable_http, transports.sse.map(|sse| sse.path))
    };
    assert_eq!(of(""), (Some("/mcp".into()), Some("/sse".into())));
    assert_eq!(of("image: x"), (Some("/mcp".into()), None));
    let other = of("image: registry.example.com/mcp-weather@sha256:00");
    assert_eq!(other, of(""), "the bundled image in another version");
    assert_eq!(
        of("transports: {sse: {path: /events}}"),
        (None, Some("/events".into()))
    );
    assert_eq!(
        of("image: x\ntransports: {streamableHttp: {path: /v1}, sse: {}}"),
        (Some("/v1".into()), Some("/sse".into()))
    );
}
