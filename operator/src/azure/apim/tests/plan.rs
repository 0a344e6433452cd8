//! What is written, and what is a conflict, from what was read.

use crate::azure::apim::{
    Owner,
    document::{ServerRegistration, documents, tests::registration},
    mark::Verdict,
    plan::*,
    request::Found,
    wire::*,
};

#[expect(clippy::unnecessary_wraps, reason = "what is read is optional")]
fn found<T>(properties: T) -> Option<Found<T>> {
    Some(Found {
        properties,
        etag: Some("\"1\"".to_owned()),
    })
}

/// API Management after a registration, as it answers.
fn settled(desired: &ServerRegistration) -> Observed {
    let wanted = documents(desired).unwrap();
    let operations = wanted
        .operations
        .iter()
        .map(|operation| Item {
            name: operation.id.to_owned(),
            properties: operation.wire(),
        })
        .collect();
    Observed {
        backend: found(wanted.backend.clone()),
        api: found(wanted.api.clone()),
        operations,
        policy: found(wanted.policy_body()),
        subscription: found(Subscription {
            primary_key: None,
            ..wanted.subscription.clone().unwrap()
        }),
    }
}

fn changes(desired: &ServerRegistration, observed: &Observed) -> Vec<String> {
    let steps = plan(&desired.ids, &documents(desired).unwrap(), observed, false);
    steps
        .iter()
        .map(|step| format!("{} {}", step.verb.label(), step.change))
        .collect()
}

#[test]
fn a_plain_server_costs_four_writes_and_then_none() {
    let desired = registration();
    assert_eq!(
        changes(&desired, &Observed::default()),
        ["PUT backend", "PUT api", "PUT policy", "PUT subscription"]
    );
    assert_eq!(changes(&desired, &settled(&desired)), Vec::<String>::new());
}

type Change = fn(&mut ServerRegistration);

#[test]
fn each_change_costs_what_it_touches() {
    let cases: Vec<(&str, Change, Vec<&str>)> = vec![
        (
            "address",
            |r| r.backend_url = "http://203.0.113.9".parse().unwrap(),
            vec!["PATCH backend (url)"],
        ),
        (
            "rate limit",
            |r| r.rate_limit.as_mut().unwrap().calls = 5,
            vec!["PUT policy"],
        ),
        (
            "path",
            |r| r.path = "tools/other".into(),
            vec!["PATCH api (path)"],
        ),
        (
            "open",
            |r| r.subscription_required = false,
            vec!["PUT operation", "PATCH api (description, subscriptionRequired)"],
        ),
        (
            "description",
            |r| r.description = None,
            vec!["PATCH api (description)"],
        ),
        (
            "key",
            |r| r.probe_key = Some("other".to_owned().into()),
            vec!["PATCH subscription (displayName, primaryKey)"],
        ),
        (
            "no probe",
            |r| r.probe_key = None,
            vec!["DELETE subscription (deleted)"],
        ),
        (
            "no sse",
            |r| r.transports.sse = None,
            vec!["PUT api (operations)"],
        ),
        (
            "messages path",
            |r| r.transports.sse.as_mut().unwrap().messages_path = "/m/{id}".into(),
            vec![
                "PATCH operation (templateParameters, urlTemplate)",
                "PATCH api (description)",
            ],
        ),
        (
            "uid",
            |r| r.owner.uid = "later".into(),
            vec![
                "PATCH backend (description)",
                "PATCH api (description)",
                "PATCH subscription (displayName, primaryKey)",
            ],
        ),
    ];
    let observed = settled(&registration());
    for (name, change, expected) in cases {
        let mut desired = registration();
        change(&mut desired);
        assert_eq!(changes(&desired, &observed), expected, "{name}");
    }
}

#[test]
fn operations_of_others_are_kept() {
    let mut desired = registration();
    let mut observed = settled(&desired);
    observed.operations.push(Item {
        name: "health".into(),
        properties: Operation::default(),
    });
    assert_eq!(changes(&desired, &observed), Vec::<String>::new());
    desired.transports.sse = None;
    let deleted = [
        "DELETE operation (deleted)",
        "DELETE operation (deleted)",
        "PATCH api (description)",
    ];
    assert_eq!(
        changes(&desired, &observed),
        deleted,
        "no import, which would delete health"
    );
}

#[test]
fn an_import_keeps_the_settings_of_others() {
    let desired = registration();
    let mut observed = settled(&desired);
    observed.operations.clear();
    observed.api.as_mut().unwrap().properties.others = OthersSettings {
        terms_of_service_url: Some("https://example.com/tos".into()),
        ..OthersSettings::default()
    };
    let steps = plan(&desired.ids, &documents(&desired).unwrap(), &observed, false);
    assert_eq!(steps.len(), 1);
    assert_eq!(steps[0].if_match.as_deref(), Some("\"1\""));
    let properties = &steps[0].body.as_ref().unwrap()["properties"];
    assert_eq!(properties["termsOfServiceUrl"], "https://example.com/tos");
    assert_eq!(properties["format"], "openapi+json");
}

#[test]
fn repair_writes_the_key() {
    let desired = registration();
    let steps = plan(
        &desired.ids,
        &documents(&desired).unwrap(),
        &settled(&desired),
        true,
    );
    assert_eq!(
        steps.iter().map(|step| step.change.as_str()).collect::<Vec<_>>(),
        ["subscription (primaryKey)"]
    );
}

#[test]
fn what_is_not_ours_is_a_conflict() {
    let desired = registration();
    let stranger = crate::azure::apim::mark::line(&Owner {
        name: "stranger".into(),
        ..desired.owner.clone()
    });
    let conflict = |observed: &Observed| {
        let ownership = observed.ownership(&desired.owner, &desired.ids);
        check_ownership(observed, &ownership, &desired.ids).map_err(|error| error.to_string())
    };
    assert_eq!(conflict(&settled(&desired)), Ok(()));
    let mut observed = settled(&desired);
    observed.api.as_mut().unwrap().properties.description = Some(stranger);
    let message = conflict(&observed).unwrap_err();
    assert!(
        message.contains("belongs to tools/stranger of cluster demo"),
        "{message}"
    );
    let unmarked = Observed {
        api: found(Api::default()),
        ..Observed::default()
    };
    let message = conflict(&unmarked).unwrap_err();
    assert!(message.contains("has no mark"), "{message}");
}

#[test]
fn a_mark_lost_to_an_edit_is_made_up_for_and_restored() {
    let desired = registration();
    let mut observed = settled(&desired);
    observed.api.as_mut().unwrap().properties.description = Some("Edited in the portal".into());
    observed.subscription.as_mut().unwrap().properties.display_name = Some("probe".into());
    let ownership = observed.ownership(&desired.owner, &desired.ids);
    assert_eq!(
        (&ownership.api, &ownership.subscription),
        (&Verdict::Ours, &Verdict::Ours)
    );
    assert_eq!(
        changes(&desired, &observed),
        [
            "PATCH api (description)",
            "PATCH subscription (displayName, primaryKey)"
        ]
    );
    observed.backend = None;
    assert_eq!(
        observed.ownership(&desired.owner, &desired.ids).api,
        Verdict::Unmarked
    );
}
