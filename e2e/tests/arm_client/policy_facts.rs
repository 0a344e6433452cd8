//! Our policies against what Microsoft documents of each policy: sections, scopes, required attributes.
//! In: `../shared/apim/policy/policy-facts.json`, where it exists.

use std::path::Path;

use mcp_fleet_operator::azure::apim::{
    Cors, RateLimit,
    policy::{ApiPolicy, ApiSecret, render},
};
use quick_xml::{Reader, events::Event};
use serde_json::Value;

#[test]
fn every_policy_is_documented_for_its_section_and_the_scope_of_an_api() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/apim/policy/policy-facts.json");
    let Ok(text) = std::fs::read_to_string(&file) else {
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "{} is missing",
            file.display()
        );
        println!("skipped: {} is not there", file.display());
        return;
    };
    let facts: Value = serde_json::from_str(&text).unwrap();
    let cors = Cors {
        allowed_origins: vec!["*".into()],
        ..Cors::default()
    };
    let xml = render(&ApiPolicy {
        backend_id: "b",
        key_header: "X-Api-Key",
        host: Some("weather.tools.svc"),
        timeout_seconds: 240,
        rate_limit: Some(RateLimit {
            calls: 1,
            renewal_seconds: 1,
        }),
        cors: Some(&cors),
        secret: Some(ApiSecret {
            named_value: "n",
            api_id: "a",
            header: "X-Gateway-Secret",
        }),
    });
    let mut reader = Reader::from_str(&xml);
    let (mut open, mut checked) = (Vec::<String>::new(), 0);
    loop {
        let event = reader.read_event().unwrap();
        match &event {
            Event::Start(start) | Event::Empty(start) => {
                let name = start.name().as_ref().to_owned();
                if open.len() == 2 && name != "base" {
                    let attributes: Vec<String> = start
                        .attributes()
                        .map(|attribute| attribute.unwrap().key.as_ref().to_owned())
                        .collect();
                    check(&facts["policies"][&name], &name, &open[1], &attributes);
                    checked += 1;
                }
                if matches!(event, Event::Start(_)) {
                    open.push(name);
                }
            }
            Event::End(_) => drop(open.pop()),
            Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!(checked, 14);
}

fn check(fact: &Value, name: &str, section: &str, attributes: &[String]) {
    let lists = |member: &str, value: &str| fact[member].as_array().unwrap().iter().any(|item| item == value);
    assert!(lists("sections", section), "{name} in {section}");
    assert!(lists("scopes", "API"), "{name} at the scope of an API");
    for attribute in fact["tables"]["Attributes"].as_array().unwrap() {
        let known = attribute["name"].as_str().unwrap().to_owned();
        if attribute["required"] == Value::Bool(true) {
            assert!(attributes.contains(&known), "{name} needs {known}");
        }
    }
    for attribute in attributes {
        let known = fact["tables"]["Attributes"]
            .as_array()
            .unwrap()
            .iter()
            .any(|fact| fact["name"] == **attribute);
        assert!(known, "{name} has no {attribute}");
    }
}
