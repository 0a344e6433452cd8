//! Products, links and subscriptions of an access.

use mcp_fleet_e2e::apim::{Action, Fault, Plane};
use mcp_fleet_operator::azure::apim::{
    AccessIds, AccessRegistration, Granted, Kept, KeySlot, Keys, Purpose, RegistrationError, Removal,
    ensure_access, read_keys, regenerate_key, remove_access, resource_name, revoke,
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
        kept: kept(apis),
    }
}

fn kept(apis: &[&str]) -> Kept {
    Kept {
        consented: apis.iter().map(|name| server(name).ids.api_id).collect(),
        ..Kept::default()
    }
}

/// The access, and its keys: from the answer, or asked for.
async fn with_keys(
    fixture: &Fixture,
    desired: &AccessRegistration,
) -> Result<(Granted, Keys), RegistrationError> {
    let granted = ensure_access(&fixture.client, desired, None).await?;
    let keys = match &granted.keys {
        Some(keys) => keys.clone(),
        None => read_keys(&fixture.client, &desired.ids.subscription_id).await?,
    };
    Ok((granted, keys))
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
    let granted = ensure_access(&fixture.client, &desired, None).await.unwrap();
    let [weather, maps] = ["weather", "maps"].map(|name| server(name).ids.api_id);
    assert_eq!(
        granted.changed,
        [
            "product",
            &format!("product link to {maps}"),
            &format!("product link to {weather}"),
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
    let again = ensure_access(&fixture.client, &desired, None).await.unwrap();
    assert_eq!(
        (again.writes, again.keys, fixture.writes().await),
        (0, None, before)
    );
    assert_eq!(
        again.etag, granted.etag,
        "the answer to a PUT has the ETag of later reads"
    );
    let (_, read) = with_keys(&fixture, &desired).await.unwrap();
    assert_eq!(read, keys, "asked for");

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
    ensure_access(&fixture.client, &desired, None).await.unwrap_err();
    let (granted, _) = with_keys(&fixture, &desired).await.unwrap();
    assert_eq!((granted.writes, granted.keys), (0, None));
}

/// The promise that a rotation rests on: one key is made anew, the other stays, and the ETag tells.
#[tokio::test]
async fn one_key_is_made_anew_and_the_etag_tells() {
    let fixture = registered(&["weather"]).await;
    let desired = access(&["weather"]);
    let (granted, before) = with_keys(&fixture, &desired).await.unwrap();
    let id = &desired.ids.subscription_id;
    regenerate_key(&fixture.client, id, KeySlot::Primary)
        .await
        .unwrap();
    let (again, after) = with_keys(&fixture, &desired).await.unwrap();
    assert_ne!(after.primary, before.primary);
    assert_eq!(after.secondary, before.secondary);
    assert!(
        again.etag.is_some() && again.etag != granted.etag,
        "{:?}",
        again.etag
    );
    regenerate_key(&fixture.client, id, KeySlot::Secondary)
        .await
        .unwrap();
    let (_, last) = with_keys(&fixture, &desired).await.unwrap();
    assert_eq!(last.primary, after.primary);
    assert_ne!(last.secondary, after.secondary);
    let error = regenerate_key(&fixture.client, "absent", KeySlot::Primary)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("failed to make anew the primary key of subscription absent"),
        "{error}"
    );
}

/// Taking away needs no subscription, and no answer about one.
#[tokio::test]
async fn a_link_is_taken_away_whatever_else_fails() {
    let fixture = registered(&["weather", "maps"]).await;
    let desired = access(&["weather", "maps"]);
    ensure_access(&fixture.client, &desired, None).await.unwrap();
    let fault = Fault {
        plane: Plane::Arm,
        method: None,
        path: Some("/service/contoso/subscriptions/".into()),
        skip: 0,
        count: None,
        action: Action::Answer {
            status: 500,
            headers: [].into(),
            body: None,
        },
    };
    fixture.stand_in.control.fault(&fault).await.unwrap();
    let kept = kept(&["maps"]);
    let error = revoke(&fixture.client, &desired.owner, &desired.ids, &kept)
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "ServiceError");
    let product = format!("products/{}/apis", desired.ids.product_id);
    let linked = fixture.by_hand("GET", &product, Value::Null).await;
    let names: Vec<_> = linked["value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|api| api["name"].clone())
        .collect();
    assert_eq!(names, [json!(server("maps").ids.api_id)]);
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
    let error = ensure_access(&fixture.client, &access(&["weather"]), None)
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
    let granted = ensure_access(&fixture.client, &access(&["weather", "maps", "absent"]), None)
        .await
        .unwrap();
    assert_eq!(granted.missing, [server("absent").ids.api_id]);
    fixture
        .by_hand("PUT", &format!("{product}/apis/legacy"), Value::Null)
        .await;
    let granted = ensure_access(&fixture.client, &access(&["maps"]), None)
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
    let granted = ensure_access(&fixture.client, &access(&["maps"]), None)
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
    ensure_access(&fixture.client, &desired, None).await.unwrap();
    let product = format!("products/{}", desired.ids.product_id);
    fixture
        .by_hand(
            "PATCH",
            &product,
            json!({"properties": {"description": "By the platform team"}}),
        )
        .await;
    desired.display_name = "agents".into();
    let granted = ensure_access(&fixture.client, &desired, None).await.unwrap();
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
    let error = ensure_access(&fixture.client, &desired, None).await.unwrap_err();
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
    ensure_access(&fixture.client, &desired, None).await.unwrap();
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
            if let Ok((_, read)) = with_keys(&fixture, &desired).await {
                keys = Some(read);
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
