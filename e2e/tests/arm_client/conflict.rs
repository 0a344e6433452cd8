//! What belongs to somebody else stays as it is, and the message says whose it is.

use mcp_fleet_operator::azure::apim::{Removal, Retry, ServerRegistration, remove_server};
use serde_json::{Value, json};

use super::fixture::{Fixture, server};

async fn refused(fixture: &Fixture, desired: &ServerRegistration) -> String {
    let before = (fixture.world().await, fixture.writes().await);
    let error = fixture.ensure(desired).await.unwrap_err();
    assert_eq!((error.reason(), error.retry()), ("Conflict", Retry::Slow));
    assert_eq!(
        (fixture.world().await, fixture.writes().await),
        before,
        "nothing was written"
    );
    error.to_string()
}

fn foreign_api(path: &str, description: &str) -> Value {
    json!({"properties": {"displayName": "foreign", "path": path, "protocols": ["https"], "description": description}})
}

#[tokio::test]
async fn an_api_with_our_name_and_no_mark() {
    let fixture = Fixture::new().await;
    let desired = server("weather");
    fixture
        .by_hand(
            "PUT",
            &format!("apis/{}", desired.ids.api_id),
            foreign_api("elsewhere", "made by hand"),
        )
        .await;
    let message = refused(&fixture, &desired).await;
    assert!(
        message.contains(&desired.ids.api_id) && message.contains("no mark"),
        "{message}"
    );
    let removal = remove_server(&fixture.client, &desired.owner, &desired.ids)
        .await
        .unwrap();
    assert!(
        matches!(removal, Removal::Gone { left } if left.len() == 1),
        "and deletion leaves it alone"
    );
    assert_eq!(fixture.paths().await.len(), 1);
}

#[tokio::test]
async fn a_resource_with_a_foreign_mark() {
    let fixture = Fixture::new().await;
    let neighbour = server("neighbour");
    fixture.written(&neighbour).await;
    let thief = ServerRegistration {
        owner: server("weather").owner,
        ..neighbour
    };
    let message = refused(&fixture, &thief).await;
    assert!(
        message.contains("belongs to tools/neighbour of cluster demo"),
        "{message}"
    );
    let removal = remove_server(&fixture.client, &thief.owner, &thief.ids)
        .await
        .unwrap();
    assert!(matches!(removal, Removal::Gone { left } if left.len() == 3));
}

#[tokio::test]
async fn a_path_that_another_api_has() {
    let fixture = Fixture::new().await;
    fixture.written(&server("neighbour")).await;
    let desired = ServerRegistration {
        path: "tools/neighbour".into(),
        ..server("weather")
    };
    let message = refused(&fixture, &desired).await;
    assert!(
        message.contains("path tools/neighbour is taken by api demo-tools-neighbour-"),
        "{message}"
    );
    assert!(
        message.contains("which belongs to tools/neighbour of cluster demo"),
        "{message}"
    );
    // And when the path of a registered server changes to it.
    fixture.written(&server("weather")).await;
    refused(&fixture, &desired).await;
}

#[tokio::test]
async fn a_path_that_only_the_service_sees_as_taken() {
    let fixture = Fixture::new().await;
    fixture
        .by_hand("PUT", "apis/capital", foreign_api("Tools/Weather", ""))
        .await;
    for status in [400, 409] {
        fixture
            .stand_in
            .control
            .set(json!({"takenPathStatus": status}))
            .await
            .unwrap();
        let error = fixture.ensure(&server("weather")).await.unwrap_err();
        assert_eq!(error.reason(), "Conflict", "{error}");
        assert!(error.to_string().contains("capital"), "{error}");
        assert_eq!(fixture.paths().await, ["apis/capital"], "the backend went again");
    }
}

#[tokio::test]
async fn a_former_life_is_taken_over() {
    let fixture = Fixture::new().await;
    let mut desired = server("weather");
    fixture.written(&desired).await;
    desired.owner.uid = "re-created".into();
    assert_eq!(
        fixture.written(&desired).await,
        [
            "backend (description)",
            "api (description)",
            "subscription (displayName, primaryKey)"
        ]
    );
    assert_eq!(fixture.written(&desired).await, Vec::<String>::new());
    fixture.remove(&server("weather")).await;
    assert_eq!(fixture.paths().await, Vec::<String>::new());
}
