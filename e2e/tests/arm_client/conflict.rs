//! What belongs to somebody else stays as it is, and the message says whose it is.

use mcp_fleet_operator::azure::apim::{
    Depth, Outcome, RegistrationError, Removal, Retry, ServerRegistration, ensure_server, remove_server,
};
use serde_json::{Value, json};

use super::fixture::{Fixture, server};

async fn refused(fixture: &Fixture, desired: &ServerRegistration) -> String {
    refused_until(fixture, desired, Retry::Slow).await
}

async fn refused_until(fixture: &Fixture, desired: &ServerRegistration, retry: Retry) -> String {
    let before = (fixture.world().await, fixture.writes().await);
    let error = fixture.ensure(desired).await.unwrap_err();
    assert_eq!((error.reason(), error.retry()), ("Conflict", retry));
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
    let message = refused_until(&fixture, &desired, Retry::Fast).await;
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
    refused_until(&fixture, &desired, Retry::Fast).await;
}

#[tokio::test]
async fn a_path_that_is_taken_after_the_lists_were_read() {
    let fixture = Fixture::new().await;
    // Its lists hold for half a minute.
    let client = fixture.long_lived();
    ensure_server(&client, &server("neighbour"), Depth::Full, None)
        .await
        .unwrap();
    fixture.remove(&server("neighbour")).await;
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
        let error = ensure_server(&client, &server("weather"), Depth::Full, None)
            .await
            .unwrap_err();
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

#[tokio::test]
async fn a_path_in_or_around_that_of_another_api() {
    let fixture = Fixture::new().await;
    fixture
        .by_hand(
            "PUT",
            "apis/ledger",
            foreign_api("Demo/Payments/Ledger", "made by hand"),
        )
        .await;
    fixture
        .by_hand(
            "PUT",
            "apis/root",
            foreign_api("", "catches all that nobody else wants"),
        )
        .await;
    for (path, words) in [
        (
            "demo/payments/ledger/messages",
            "lies in Demo/Payments/Ledger, the path of api ledger",
        ),
        (
            "demo/PAYMENTS",
            "contains Demo/Payments/Ledger, the path of api ledger",
        ),
        ("demo/payments/ledger", "is taken by api ledger"),
    ] {
        let desired = ServerRegistration {
            path: path.into(),
            ..server("weather")
        };
        let message = refused(&fixture, &desired).await;
        assert!(message.contains(words), "{message}");
    }
    let desired = ServerRegistration {
        path: "demo/payments/ledger2".into(),
        ..server("weather")
    };
    assert_eq!(fixture.written(&desired).await.len(), 4, "whole segments");
    // What comes later takes nothing from a server that has its path.
    fixture
        .by_hand("PUT", "apis/late", foreign_api("demo/payments/ledger2/mcp", ""))
        .await;
    assert_eq!(fixture.written(&desired).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_api_that_the_lists_do_not_know_is_not_written_over() {
    let fixture = Fixture::new().await;
    let client = fixture.long_lived();
    ensure_server(&client, &server("neighbour"), Depth::Full, None)
        .await
        .unwrap();
    let desired = server("weather");
    let path = format!("apis/{}", desired.ids.api_id);
    fixture
        .by_hand("PUT", &path, foreign_api("elsewhere", "made by hand"))
        .await;
    let before = fixture.world().await;
    let error = ensure_server(&client, &desired, Depth::Full, None)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("no mark"), "{error}");
    assert_eq!(fixture.world().await, before);
}

/// One pass of each; `true` when both have come to rest.
async fn pass_of_each(fixture: &Fixture, servers: &[ServerRegistration]) -> bool {
    let mut settled = true;
    for desired in servers {
        match ensure_server(&fixture.client, desired, Depth::Full, None).await {
            Ok(Outcome::Done(_)) => {}
            Err(error @ RegistrationError::Waiting { .. }) => {
                assert_eq!((error.reason(), error.retry()), ("Conflict", Retry::Fast));
                settled = false;
            }
            other => panic!("{other:?}"),
        }
    }
    settled
}

#[tokio::test]
async fn servers_that_swap_paths_get_there() {
    for number in [2, 3] {
        let fixture = Fixture::new().await;
        let mut servers: Vec<_> = ["one", "two", "three"][..number]
            .iter()
            .map(|name| server(name))
            .collect();
        for desired in &servers {
            fixture.written(desired).await;
        }
        let paths: Vec<String> = servers.iter().map(|server| server.path.clone()).collect();
        for (at, desired) in servers.iter_mut().enumerate() {
            desired.path.clone_from(&paths[(at + 1) % number]);
        }
        let mut passes = 1;
        while !pass_of_each(&fixture, &servers).await {
            passes += 1;
            assert!(passes < 6, "{number} servers wait for each other for ever");
        }
        for desired in &servers {
            let path = format!("apis/{}", desired.ids.api_id);
            let api = fixture.stand_in.control.document(&path).await.unwrap().unwrap();
            assert_eq!(api["properties"]["path"], json!(desired.path));
        }
        let writes = fixture.writes().await;
        assert!(pass_of_each(&fixture, &servers).await);
        assert_eq!(fixture.writes().await, writes, "and then there is silence");
    }
}

#[tokio::test]
async fn a_server_whose_path_is_held_by_one_that_stays_does_not_step_aside() {
    let fixture = Fixture::new().await;
    fixture.written(&server("neighbour")).await;
    fixture.written(&server("weather")).await;
    let desired = ServerRegistration {
        path: "tools/neighbour".into(),
        ..server("weather")
    };
    for _ in 0..3 {
        refused_until(&fixture, &desired, Retry::Fast).await;
    }
}
