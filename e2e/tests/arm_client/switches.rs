//! The whole life of a server under each setting of what is not known about the service.

use std::{sync::Arc, time::Duration};

use mcp_fleet_operator::azure::apim::{Depth, Limits, Outcome, Unobserved, ensure_server};
use serde_json::{Value, json};

use super::fixture::{Fixture, server};

async fn live_and_die(switches: Value) {
    let fixture = Fixture::new().await;
    fixture.stand_in.control.set(switches.clone()).await.unwrap();
    let mut desired = server("weather");
    assert_eq!(
        fixture.written(&desired).await,
        ["backend", "api", "policy", "subscription"],
        "{switches}"
    );
    assert_eq!(
        fixture.written(&desired).await,
        Vec::<String>::new(),
        "{switches}"
    );
    desired.path = "tools/other".into();
    desired.rate_limit = None;
    desired.backend_url = "http://127.0.0.1:10".parse().unwrap();
    desired.transports.sse = None;
    // The import carries the path along.
    assert_eq!(
        fixture.written(&desired).await,
        ["backend (url)", "api (operations)", "policy"],
        "{switches}"
    );
    assert_eq!(
        fixture.written(&desired).await,
        Vec::<String>::new(),
        "{switches}"
    );
    fixture.remove(&desired).await;
    assert_eq!(fixture.paths().await, Vec::<String>::new(), "{switches}");
    fixture.remove(&desired).await;
}

#[tokio::test]
async fn long_operations() {
    for status in [201, 202] {
        for headers in ["both", "location", "azureAsyncOperation"] {
            for deletion in ["async", "sync"] {
                live_and_die(
                    json!({"importStatus": status, "asyncHeaders": headers, "apiDeletion": deletion}),
                )
                .await;
            }
        }
    }
}

#[tokio::test]
async fn etags() {
    for missing in ["allowed", "preconditionFailed", "badRequest"] {
        for on_put in ["allowed", "preconditionFailed", "badRequest"] {
            live_and_die(json!({
                "ifMatchOnDelete": missing, "ifMatchOnPatch": missing, "ifMatchOnPut": on_put,
                "samePutKeepsEtag": missing == "allowed",
            }))
            .await;
        }
    }
}

#[tokio::test]
async fn the_rest() {
    for switches in [
        json!({"importVisible": "atEnd"}),
        json!({"importedOperationIds": "lowerCased"}),
        json!({"deleteMissingStatus": 404}),
        json!({"subscriptionsOfDeletedApi": "kept"}),
        json!({"refuseUnknownMembers": false}),
        json!({"newSubscriptionState": "submitted"}),
        json!({"pageSize": 1}),
        json!({"throttle": true}),
        json!({"asyncRetryAfter": 1}),
    ] {
        live_and_die(switches).await;
    }
}

#[tokio::test]
async fn an_import_that_outlasts_a_pass_is_followed_by_the_next() {
    for headers in ["both", "location"] {
        let fixture = Fixture::new().await;
        fixture
            .stand_in
            .control
            .set(json!({"asyncMillis": 1500, "asyncHeaders": headers}))
            .await
            .unwrap();
        let desired = server("weather");
        let limits = Limits {
            operation: Duration::from_millis(300),
            ..fixture.client.limits()
        };
        let impatient = fixture.client_with(Arc::new(Unobserved)).with_limits(limits);
        let outcome = ensure_server(&impatient, &desired, Depth::Full, None)
            .await
            .unwrap();
        let Outcome::Pending(operation) = outcome else {
            panic!("{outcome:?}")
        };
        // A process that lost it sees the operation on the API itself.
        let outcome = ensure_server(&impatient, &desired, Depth::Full, None)
            .await
            .unwrap();
        assert!(matches!(outcome, Outcome::Pending(_)), "{outcome:?}");
        let stored = serde_json::to_string(&operation).unwrap();
        let operation = serde_json::from_str(&stored).unwrap();
        let outcome = ensure_server(&fixture.client, &desired, Depth::Full, Some(operation))
            .await
            .unwrap();
        let Outcome::Done(registered) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(registered.changed, ["policy", "subscription"]);
        assert_eq!(fixture.writes().await, 4);
    }
}
