//! Products, links and subscriptions of an access.

use mcp_fleet_e2e::apim::{Action, Fault, Plane};
use mcp_fleet_operator::azure::apim::{
    AccessIds, AccessRegistration, Purpose, Removal, ensure_access, remove_access, resource_name,
};
use serde_json::{Value, json};

use super::fixture::{Fixture, owner, server};

fn access(apis: &[&str]) -> AccessRegistration {
    let id = resource_name(Purpose::Access, "demo", "tools", "agents");
    AccessRegistration {
        owner: owner("agents"),
        ids: AccessIds {
            product_id: id.clone(),
            subscription_id: id,
        },
        display_name: "tools/agents (demo)".into(),
        description: Some("The agents of team tools".into()),
        apis: apis.iter().map(|name| server(name).ids.api_id).collect(),
    }
}

async fn registered(names: &[&str]) -> Fixture {
    let fixture = Fixture::new().await;
    for name in names {
        fixture.written(&server(name)).await;
    }
    fixture
}

#[tokio::test]
async fn an_access_is_granted_once() {
    let fixture = registered(&["weather", "maps"]).await;
    let desired = access(&["weather", "maps"]);
    let granted = ensure_access(&fixture.client, &desired, true).await.unwrap();
    let [weather, maps] = ["weather", "maps"].map(|name| server(name).ids.api_id);
    assert_eq!(
        granted.changed,
        [
            "product",
            &format!("product link to {weather}"),
            &format!("product link to {maps}"),
            "subscription"
        ]
    );
    let keys = granted.keys.expect("the keys of the answer");
    assert!(!format!("{keys:?}").contains(keys.primary.expose()));
    assert_eq!(granted.subscription_state, "active");
    let product = format!("products/{}", desired.ids.product_id);
    let stored = fixture
        .stand_in
        .control
        .document(&product)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stored["properties"]["state"], "published");

    let before = fixture.writes().await;
    let again = ensure_access(&fixture.client, &desired, false).await.unwrap();
    assert_eq!(
        (again.writes, again.keys, fixture.writes().await),
        (0, None, before)
    );
    let read = ensure_access(&fixture.client, &desired, true).await.unwrap();
    assert_eq!(read.keys, Some(keys), "asked for");

    let removal = remove_access(&fixture.client, &desired.owner, &desired.ids)
        .await
        .unwrap();
    assert_eq!(removal, Removal::Gone { left: vec![] });
    assert!(!fixture.paths().await.iter().any(|path| path.contains("agents")));
    let removal = remove_access(&fixture.client, &desired.owner, &desired.ids)
        .await
        .unwrap();
    assert_eq!(removal, Removal::Gone { left: vec![] });
}

#[tokio::test]
async fn keys_of_a_lost_answer_are_read() {
    let fixture = registered(&["weather"]).await;
    let fault = Fault {
        plane: Plane::Arm,
        method: Some("PUT".into()),
        path: Some("/service/contoso/subscriptions/".into()),
        skip: 0,
        count: Some(1),
        action: Action::CutAfter,
    };
    fixture.stand_in.control.fault(&fault).await.unwrap();
    let desired = access(&["weather"]);
    ensure_access(&fixture.client, &desired, true).await.unwrap_err();
    let granted = ensure_access(&fixture.client, &desired, true).await.unwrap();
    assert_eq!(granted.writes, 0);
    assert!(granted.keys.is_some());
}

#[tokio::test]
async fn a_refused_access_leaves_nothing_half_made() {
    let fixture = registered(&["weather"]).await;
    let nothing = fixture.world().await;
    let body = json!({"error": {"code": "ValidationError", "message": "Subscriptions limit reached."}});
    let fault = Fault {
        plane: Plane::Arm,
        method: Some("PUT".into()),
        path: Some("/service/contoso/subscriptions/".into()),
        skip: 0,
        count: Some(1),
        action: Action::Answer {
            status: 400,
            headers: [].into(),
            body: Some(body),
        },
    };
    fixture.stand_in.control.fault(&fault).await.unwrap();
    let error = ensure_access(&fixture.client, &access(&["weather"]), true)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("Subscriptions limit reached."),
        "{error}"
    );
    assert_eq!(fixture.world().await, nothing);
}

#[tokio::test]
async fn links_follow_the_servers() {
    let fixture = registered(&["weather", "maps"]).await;
    fixture
        .by_hand(
            "PUT",
            "apis/legacy",
            json!({"properties": {"displayName": "l", "path": "legacy"}}),
        )
        .await;
    let product = format!("products/{}", access(&[]).ids.product_id);
    let granted = ensure_access(&fixture.client, &access(&["weather", "maps", "absent"]), false)
        .await
        .unwrap();
    assert_eq!(granted.missing, [server("absent").ids.api_id]);
    fixture
        .by_hand("PUT", &format!("{product}/apis/legacy"), Value::Null)
        .await;
    let granted = ensure_access(&fixture.client, &access(&["maps"]), false)
        .await
        .unwrap();
    assert_eq!(
        granted.changed,
        [format!(
            "product link (deleted) to {}",
            server("weather").ids.api_id
        )]
    );

    fixture.remove(&server("maps")).await;
    fixture.written(&server("maps")).await;
    let granted = ensure_access(&fixture.client, &access(&["maps"]), false)
        .await
        .unwrap();
    assert_eq!(
        granted.changed,
        [format!("product link to {}", server("maps").ids.api_id)]
    );
    let linked = fixture
        .by_hand("GET", &format!("{product}/apis"), Value::Null)
        .await;
    let mut names: Vec<&str> = linked["value"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|api| api["name"].as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [server("maps").ids.api_id.as_str(), "legacy"],
        "somebody else's link stays"
    );
}

#[tokio::test]
async fn a_rewritten_description_survives_and_the_product_stays_ours() {
    let fixture = registered(&["weather"]).await;
    let mut desired = access(&["weather"]);
    ensure_access(&fixture.client, &desired, false).await.unwrap();
    let product = format!("products/{}", desired.ids.product_id);
    fixture
        .by_hand(
            "PATCH",
            &product,
            json!({"properties": {"description": "By the platform team"}}),
        )
        .await;
    desired.display_name = "agents".into();
    let granted = ensure_access(&fixture.client, &desired, false).await.unwrap();
    assert_eq!(granted.changed, ["product (displayName)"]);
    let stored = fixture
        .stand_in
        .control
        .document(&product)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stored["properties"]["description"], "By the platform team");
    let removal = remove_access(&fixture.client, &desired.owner, &desired.ids)
        .await
        .unwrap();
    assert_eq!(removal, Removal::Gone { left: vec![] });
}

#[tokio::test]
async fn somebody_elses_product_is_left_alone() {
    let fixture = registered(&["weather"]).await;
    let desired = access(&["weather"]);
    let product = format!("products/{}", desired.ids.product_id);
    fixture
        .by_hand("PUT", &product, json!({"properties": {"displayName": "theirs"}}))
        .await;
    let before = fixture.world().await;
    let error = ensure_access(&fixture.client, &desired, true).await.unwrap_err();
    assert_eq!(error.reason(), "Conflict");
    let removal = remove_access(&fixture.client, &desired.owner, &desired.ids)
        .await
        .unwrap();
    assert!(matches!(removal, Removal::Gone { left } if left.len() == 1));
    assert_eq!(fixture.world().await, before);
}

#[tokio::test]
async fn a_cut_at_each_request_of_an_access() {
    let fixture = registered(&["weather"]).await;
    let control = &fixture.stand_in.control;
    let nothing = fixture.world().await;
    let desired = access(&["weather"]);
    ensure_access(&fixture.client, &desired, true).await.unwrap();
    let granted = fixture.world().await;
    remove_access(&fixture.client, &desired.owner, &desired.ids)
        .await
        .unwrap();
    assert_eq!(fixture.world().await, nothing);
    for k in 0..16 {
        control
            .fault(&Fault {
                plane: Plane::Arm,
                method: None,
                path: None,
                skip: k,
                count: Some(1),
                action: Action::CutAfter,
            })
            .await
            .unwrap();
        let mut keys = None;
        for _ in 0..5 {
            if let Ok(granted) = ensure_access(&fixture.client, &desired, true).await {
                keys = granted.keys;
                break;
            }
        }
        assert!(keys.is_some(), "create, cut at request {k}");
        assert_eq!(fixture.world().await, granted, "create, cut at request {k}");
        for _ in 0..5 {
            if matches!(
                remove_access(&fixture.client, &desired.owner, &desired.ids).await,
                Ok(Removal::Gone { .. })
            ) {
                break;
            }
        }
        assert_eq!(fixture.world().await, nothing, "delete, cut at request {k}");
        control.clear_faults().await.unwrap();
    }
}
