//! The stand-in's table of policies says what the reference data says.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::recordings::reference;

fn names(list: &Value) -> BTreeSet<String> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_lowercase)
        .collect()
}

#[test]
fn policies_stand_where_the_reference_says() {
    let Some(folder) = reference("policy") else { return };
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let reference = read(&std::fs::read_to_string(folder.join("policy-facts.json")).unwrap());
    let ours = read(include_str!("../../src/apim/facts/policies.json"));
    let (reference, ours) = (
        reference["policies"].as_object().unwrap(),
        ours["policies"].as_object().unwrap(),
    );
    assert_eq!(
        reference.keys().collect::<BTreeSet<_>>(),
        ours.keys().collect::<BTreeSet<_>>()
    );
    let known_sections = ["inbound", "backend", "outbound", "on-error"]
        .map(str::to_owned)
        .into();
    let known_scopes = ["global", "workspace", "product", "api", "operation"]
        .map(str::to_owned)
        .into();
    for (name, fact) in reference {
        let own = &ours[name];
        // What the reference page leaves open is filled in by hand in one case.
        if name == "llm-semantic-cache-lookup" {
            continue;
        }
        let within = |list: &Value, known: &BTreeSet<String>| -> BTreeSet<String> {
            names(list).intersection(known).cloned().collect()
        };
        assert_eq!(
            names(&own["sections"]),
            within(&fact["sections"], &known_sections),
            "{name}"
        );
        assert_eq!(
            names(&own["scopes"]),
            within(&fact["scopes"], &known_scopes),
            "{name}"
        );
        let attributes: Vec<(&str, bool)> = own["attributes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|attribute| (attribute[0].as_str().unwrap(), attribute[1] == true))
            .collect();
        let expected: Vec<(&str, bool)> = fact["tables"]["Attributes"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|attribute| (attribute["name"].as_str().unwrap(), attribute["required"] == true))
            .collect();
        assert_eq!(attributes, expected, "{name}");
    }
}
