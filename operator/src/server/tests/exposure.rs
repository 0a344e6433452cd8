//! Who may reach a load balancer: a table per rule.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;

use super::*;
use crate::server::validate::{Access, Exposure};

const CLAIM: &str = r#"{"uid": "uid-weather", "gateway": "contoso",
    "service": "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/g/providers/Microsoft.ApiManagement/service/contoso",
    "api": "/s/apis/demo-tools-weather-04131aa6", "backend": "/s/backends/b", "subscription": "/s/subscriptions/c"}"#;

/// A Service that is there: with these ranges, or open.
fn balanced(ranges: Option<&[&str]>, annotations: Value) -> Arc<Service> {
    let service = json!({"metadata": {"name": "weather", "annotations": annotations},
        "spec": {"type": "LoadBalancer", "loadBalancerSourceRanges": ranges}});
    Arc::new(serde_json::from_value(service).unwrap())
}

/// What is exposed, as text, and the reason of what is refused.
fn shown(exposure: &Exposure) -> (String, &'static str) {
    let access = match &exposure.access {
        Access::ClusterOnly => "cluster".to_owned(),
        Access::LoadBalancer { sources, .. } if sources.is_empty() => "everybody".to_owned(),
        Access::LoadBalancer { sources, .. } => {
            let sources: Vec<_> = sources.iter().map(ToString::to_string).collect();
            sources.join(" ")
        }
    };
    let reason = exposure.refused.as_ref().map_or("", InvalidServer::reason);
    (access, reason)
}

struct Case {
    spec: &'static str,
    gateway: fn(&mut Value),
    present: Option<Arc<Service>>,
    claimed: bool,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            spec: "",
            gateway: |_| (),
            present: None,
            claimed: false,
        }
    }
}

fn judge(case: Case) -> Valid {
    let mut server = server(case.spec);
    if case.claimed {
        server.metadata.annotations = Some(BTreeMap::from([(
            "mcpfleet.dev/claim".to_owned(),
            CLAIM.to_owned(),
        )]));
    }
    let loaded = Loaded {
        service: case.present,
        ..world(vec![gateway("contoso", case.gateway)])
    };
    validate(&server, &loaded, &settings()).unwrap()
}

fn silent(gateway: &mut Value) {
    gateway["status"]["sourceAddresses"] = json!([]);
    gateway["status"]["sku"] = json!("BasicV2");
}

fn unknown(gateway: &mut Value) {
    gateway["status"] = json!({});
}

fn any_source(gateway: &mut Value) {
    silent(gateway);
    gateway["spec"]["allow"] = json!({"anySource": true});
}

fn stated(gateway: &mut Value) {
    silent(gateway);
    gateway["spec"]["apim"]["sourceRanges"] = json!(["10.2.0.7/24"]);
}

#[test]
fn a_load_balancer_is_open_to_known_addresses_only() {
    let both = |gateway: &mut Value| {
        gateway["status"]["sourceAddresses"] = json!(["2001:db8::1", "203.0.113.9"]);
    };
    let unset = "NoSourceAddresses";
    let cases: [(&str, fn(&mut Value), &str, &str); 20] = [
        ("", |_| (), "203.0.113.9/32", ""),
        ("", both, "203.0.113.9/32 2001:db8::1/128", ""),
        ("", stated, "10.2.0.0/24", ""),
        ("image: x", silent, "cluster", unset),
        ("image: x", any_source, "cluster", unset),
        // The bundled image refuses whoever does not bring the gateway's secret; a team's word for it is not enough.
        ("", silent, "everybody", ""),
        (
            "image: x\ngateway: {secretHeader: X-Secret}",
            silent,
            "cluster",
            unset,
        ),
        ("", unknown, "cluster", "GatewayNotReady"),
        (
            "service: {sources: [Gateway, 198.51.100.7/24]}",
            silent,
            "198.51.100.0/24",
            "",
        ),
        (
            "service: {sources: [198.51.100.0/24]}",
            unknown,
            "198.51.100.0/24",
            "",
        ),
        (
            "service: {sources: [Any]}",
            silent,
            "cluster",
            "AnySourceNotAllowed",
        ),
        (
            "service: {sources: [0.0.0.0/0]}",
            silent,
            "cluster",
            "AnySourceNotAllowed",
        ),
        (
            "service: {sources: ['::/0']}",
            silent,
            "cluster",
            "AnySourceNotAllowed",
        ),
        ("service: {sources: [Any]}", any_source, "everybody", ""),
        ("gateway: {enabled: false}", |_| (), "cluster", ""),
        (
            "gateway: {enabled: false}\nservice: {type: LoadBalancer}",
            |_| (),
            "cluster",
            unset,
        ),
        (
            "gateway: {enabled: false}\nservice: {sources: [Gateway]}",
            |_| (),
            "cluster",
            unset,
        ),
        (
            "gateway: {enabled: false}\nservice: {sources: [198.51.100.0/24]}",
            |_| (),
            "198.51.100.0/24",
            "",
        ),
        (
            "gateway: {enabled: false}\nservice: {sources: [Any]}",
            |_| (),
            "cluster",
            "AnySourceNotAllowed",
        ),
        (
            "gateway: {enabled: false}\nservice: {sources: [Any]}",
            any_source,
            "everybody",
            "",
        ),
    ];
    for (spec, gateway, access, reason) in cases {
        let valid = judge(Case {
            spec,
            gateway,
            ..Case::default()
        });
        assert_eq!(shown(&valid.exposure), (access.to_owned(), reason), "{spec}");
    }
}

#[test]
fn the_message_names_the_ways_out() {
    let valid = judge(Case {
        spec: "image: x",
        gateway: silent,
        ..Case::default()
    });
    let message = valid.exposure.refused.unwrap().to_string();
    for words in [
        "McpGateway contoso",
        "BasicV2",
        "apim.sourceRanges",
        "service.sources names CIDRs",
        "anySource",
    ] {
        assert!(message.contains(words), "{words}: {message}");
    }
    assert_eq!(valid.registration.unwrap_err().reason(), "NoSourceAddresses");
    assert!(valid.workload.is_ok());
}

type Row = (fn(&mut Value), Option<Arc<Service>>, bool, &'static str);

#[test]
fn what_is_there_is_never_opened_and_closed_unless_it_is_restricted() {
    let restricted = || Some(balanced(Some(&["203.0.113.9/32"]), json!({})));
    let open = || Some(balanced(None, json!({})));
    let cases: [Row; 6] = [
        // Nothing is known yet: what is restricted stays, what is open is closed.
        (unknown, restricted(), true, "203.0.113.9/32"),
        (unknown, open(), true, "cluster"),
        // The tier reports no addresses any more: the address is kept until the API is gone, and lets in no more than before.
        (silent, restricted(), true, "203.0.113.9/32"),
        (silent, open(), true, "192.0.2.0/24"),
        (silent, restricted(), false, "cluster"),
        (silent, open(), false, "cluster"),
    ];
    for (index, (gateway, present, claimed, access)) in cases.into_iter().enumerate() {
        let valid = judge(Case {
            spec: "image: x",
            gateway,
            present,
            claimed,
        });
        assert_eq!(shown(&valid.exposure).0, access, "case {index}");
    }
}

#[test]
fn switching_the_gateway_off_keeps_the_address_until_nothing_is_published_there() {
    for (claimed, access) in [(true, "203.0.113.9/32"), (false, "cluster")] {
        let valid = judge(Case {
            spec: "gateway: {enabled: false}",
            present: Some(balanced(
                Some(&["203.0.113.9/32"]),
                json!({"example.com/a": "1", "mcpfleet.dev/applied": "x"}),
            )),
            claimed,
            ..Case::default()
        });
        assert_eq!(shown(&valid.exposure), (access.to_owned(), ""));
        let kept: Vec<_> = valid.exposure.annotations.keys().cloned().collect();
        assert_eq!(kept, if claimed { vec!["example.com/a"] } else { vec![] });
    }
}

/// One that a team adds is left out; one that the platform no longer allows takes the load balancer along.
#[test]
fn annotations_need_leave() {
    const PIP: &str = "service.beta.kubernetes.io/azure-pip-name";
    let spec = "service: {annotations: {service.beta.kubernetes.io/azure-pip-name: other, service.beta.kubernetes.io/azure-load-balancer-internal: 'true'}}";
    let of = |gateway: fn(&mut Value), present| {
        judge(Case {
            spec,
            gateway,
            present,
            ..Case::default()
        })
        .exposure
    };
    let added = of(|_| (), Some(balanced(Some(&["203.0.113.9/32"]), json!({}))));
    assert_eq!(
        shown(&added),
        ("203.0.113.9/32".to_owned(), "ServiceAnnotationNotAllowed")
    );
    assert!(!added.annotations.contains_key(PIP) && added.annotations.len() == 1);
    let withdrawn = of(
        |_| (),
        Some(balanced(Some(&["203.0.113.9/32"]), json!({PIP: "other"}))),
    );
    assert_eq!(
        shown(&withdrawn),
        ("cluster".to_owned(), "ServiceAnnotationNotAllowed")
    );
    let allowed = of(
        |gateway| {
            gateway["spec"]["allow"] = json!({"serviceAnnotations": ["service.beta.kubernetes.io/azure-*"]});
        },
        None,
    );
    assert_eq!(shown(&allowed), ("203.0.113.9/32".to_owned(), ""));
    assert_eq!(allowed.annotations.len(), 2);
}
