//! What is taken away, made and left alone of an access, from what was read.

use serde_json::{Value, json};

use crate::azure::apim::access::document::documents;
use crate::azure::apim::access::plan::{Observed, additions, after_product, removals};
use crate::azure::apim::mark;
use crate::azure::apim::request::Found;
use crate::azure::apim::wire::{Api, Item, Product, Subscription};
use crate::azure::apim::{AccessIds, AccessRegistration, Kept, Owner};

fn owner(name: &str) -> Owner {
    Owner {
        cluster_id: "demo".into(),
        namespace: "agents".into(),
        name: name.into(),
        uid: "4fd0f1a2-0001-4000-8000-00000000000a".into(),
    }
}

fn desired() -> AccessRegistration {
    AccessRegistration {
        owner: owner("bot"),
        ids: AccessIds {
            product_id: "p".into(),
            subscription_id: "s".into(),
        },
        display_name: "demo/agents/bot".into(),
        description: Some("The bot".into()),
        apis: vec!["weather".into()],
        kept: Kept {
            consented: ["weather".to_owned()].into(),
            known: ["weather".to_owned(), "rewritten".to_owned()].into(),
        },
    }
}

#[expect(clippy::unnecessary_wraps, reason = "what is read is optional")]
fn found<T>(properties: T) -> Option<Found<T>> {
    Some(Found {
        properties,
        etag: Some("\"1\"".to_owned()),
    })
}

fn linked(name: &str, description: &str) -> Item<Api> {
    serde_json::from_value(json!({"name": name, "properties": {"description": description}})).unwrap()
}

/// API Management when all of it is there.
fn settled() -> Observed {
    let wanted = documents(&desired());
    Observed {
        product: found(wanted.product),
        linked: vec![linked("weather", &mark::line(&owner("weather")))],
        subscription: found(Subscription {
            state: Some("active".into()),
            ..wanted.subscription
        }),
    }
}

fn planned(observed: &Observed) -> Vec<String> {
    let desired = desired();
    let mut steps = removals(&desired.owner, &desired.ids, &desired.kept, observed);
    steps.extend(additions(
        &desired.ids,
        &desired.owner,
        &documents(&desired),
        observed,
    ));
    steps
        .iter()
        .map(|step| format!("{} {}", step.verb.label(), step.change))
        .collect()
}

type Change = fn(&mut Observed);

#[test]
fn each_difference_costs_what_it_touches_and_taking_away_is_first() {
    let cases: [(&str, Change, &[&str]); 9] = [
        ("nothing", |_| {}, &[]),
        (
            "all of it",
            |observed| *observed = Observed::default(),
            &["PUT product", "PUT product link to weather", "PUT subscription"],
        ),
        (
            "a withdrawn consent",
            |observed| {
                observed.linked = vec![linked("maps", &mark::line(&owner("maps")))];
                observed.subscription = None;
            },
            &[
                "DELETE product link (deleted) to maps",
                "PUT product link to weather",
                "PUT subscription",
            ],
        ),
        (
            "a withdrawn consent, and the API's mark is lost",
            |observed| {
                observed.linked.push(linked("rewritten", "By hand."));
            },
            &["DELETE product link (deleted) to rewritten"],
        ),
        (
            "a link to an API of other people",
            |observed| {
                observed.linked.push(linked("legacy", "Theirs."));
            },
            &[],
        ),
        (
            "a link to an API of another cluster",
            |observed| {
                let other = Owner {
                    cluster_id: "other".into(),
                    ..owner("maps")
                };
                observed.linked.push(linked("other", &mark::line(&other)));
            },
            &[],
        ),
        (
            "a product that was hidden",
            |observed| {
                observed.product.as_mut().unwrap().properties.state = Some("notPublished".into());
            },
            &["PATCH product (state)"],
        ),
        (
            "a suspended subscription",
            |observed| {
                observed.subscription.as_mut().unwrap().properties.state = Some("suspended".into());
            },
            &[],
        ),
        (
            "a former life",
            |observed| {
                let former = Owner {
                    uid: "former".into(),
                    ..owner("bot")
                };
                observed.product.as_mut().unwrap().properties.description = Some(mark::line(&former));
                observed.subscription.as_mut().unwrap().properties.display_name =
                    Some(mark::label(&former, None));
            },
            &["PATCH product (description)", "PATCH subscription (displayName)"],
        ),
    ];
    for (what, change, expected) in cases {
        let mut observed = settled();
        change(&mut observed);
        assert_eq!(planned(&observed), expected, "{what}");
    }
}

#[test]
fn whose_a_product_is_shows_in_one_of_two_places() {
    let cases: [(&str, Change, bool); 5] = [
        ("both marks", |_| {}, true),
        (
            "the product's text was rewritten",
            |observed| {
                observed.product.as_mut().unwrap().properties.description = Some("By hand.".into());
            },
            true,
        ),
        (
            "and the subscription is not ours",
            |observed| {
                observed.product.as_mut().unwrap().properties.description = Some("By hand.".into());
                observed.subscription.as_mut().unwrap().properties.display_name = Some("By hand".into());
            },
            false,
        ),
        (
            "and the subscription could not be read",
            |observed| {
                observed.product.as_mut().unwrap().properties.description = Some("By hand.".into());
                observed.subscription = None;
            },
            false,
        ),
        (
            "it is somebody else's",
            |observed| {
                observed.product.as_mut().unwrap().properties.description = Some(mark::line(&owner("other")));
            },
            false,
        ),
    ];
    for (what, change, ours) in cases {
        let mut observed = settled();
        observed.linked.push(linked("maps", &mark::line(&owner("maps"))));
        change(&mut observed);
        let desired = desired();
        let steps = removals(&desired.owner, &desired.ids, &desired.kept, &observed);
        assert_eq!(steps.len(), usize::from(ours), "{what}");
        assert_eq!(
            observed.check(&desired.owner, &desired.ids).is_ok(),
            ours,
            "{what}"
        );
    }
}

#[test]
fn a_product_that_comes_back_hidden_is_published() {
    let documents = documents(&desired());
    let created = Product {
        state: Some("notPublished".into()),
        ..documents.product.clone()
    };
    let ids = desired().ids;
    let step = after_product(&ids, &documents, &created, Some(&"\"2\"".to_owned())).unwrap();
    let body: Value = step.body.unwrap();
    assert_eq!(
        (step.if_match.as_deref(), &body["properties"]),
        (Some("\"2\""), &json!({"state": "published"}))
    );
    assert!(after_product(&ids, &documents, &documents.product, None).is_none());
}
