//! Imports and other long operations, in every form.

use mcp_fleet_e2e::apim::{Action, Fault, Plane};
use serde_json::{Value, json};

use crate::support::{Bench, TOKEN, import_body, openapi, wait_until};

#[tokio::test]
async fn an_import_is_long_and_makes_the_operations() {
    let bench = Bench::start().await;
    bench
        .stand_in
        .control
        .set(json!({"asyncMillis": 2500}))
        .await
        .unwrap();
    let started = bench
        .put(
            "/apis/weather",
            import_body("Weather", "/mcp/weather/", &openapi()),
        )
        .await;
    bench
        .stand_in
        .control
        .set(json!({"asyncMillis": 30}))
        .await
        .unwrap();
    assert_eq!(
        (
            started.status,
            started.json()["properties"]["provisioningState"].as_str()
        ),
        (201, Some("InProgress"))
    );
    let location = started.header("location").unwrap().to_owned();
    assert!(
        location.contains("asyncCode=201") && location.starts_with(&bench.stand_in.arm_url),
        "{location}"
    );
    let poll = async |url: &str| bench.send(bench.client.get(url).bearer_auth(TOKEN)).await;
    assert_eq!(poll(&location).await.status, 202);
    assert_eq!(
        bench.get("/apis/weather").await.json()["properties"]["provisioningState"],
        "InProgress"
    );
    let busy = bench
        .put("/apis/weather/policies/policy", json!({"value": "<policies/>"}))
        .await;
    assert_eq!(
        (busy.status, busy.json()["error"]["code"].as_str()),
        (409, Some("PessimisticConcurrencyConflict"))
    );
    assert_eq!(bench.follow(&started).await, "Succeeded");
    let done = poll(&location).await;
    assert_eq!(
        (done.status, done.json()["name"].as_str()),
        (201, Some("weather"))
    );

    let api = bench.get("/apis/weather;rev=1").await.json();
    assert_eq!(api["properties"]["path"], "mcp/weather");
    assert_eq!(api["properties"]["serviceUrl"], Value::Null);
    assert!(
        api["properties"].get("type").is_none(),
        "type is not echoed for http"
    );
    let operations = bench.get("/apis/weather/operations").await.json();
    assert_eq!(operations["count"], 4);
    let send = bench.get("/apis/weather/operations/mcp-messages").await.json();
    assert_eq!(send["properties"]["templateParameters"][0]["name"], "session_id");

    let mut less = openapi();
    less["paths"].as_object_mut().unwrap().remove("/sse");
    less["servers"] = json!([{"url": "https://elsewhere.example.com"}]);
    let again = bench
        .put("/apis/weather", import_body("Weather", "mcp/weather", &less))
        .await;
    assert!(again.header("location").unwrap().contains("asyncCode=200"));
    assert_eq!(bench.follow(&again).await, "Succeeded");
    assert_eq!(
        bench.get("/apis/weather/operations").await.json()["count"],
        3,
        "what the document lacks is deleted"
    );
    assert_eq!(
        bench.get("/apis/weather").await.json()["properties"]["serviceUrl"],
        "https://elsewhere.example.com"
    );
}

#[tokio::test]
async fn the_forms_of_long_operations_can_be_switched() {
    let bench = Bench::start().await;
    for (headers, location, operation) in [
        ("both", true, true),
        ("location", true, false),
        ("azureAsyncOperation", false, true),
    ] {
        for status in [201, 202] {
            let name = format!("/apis/{headers}{status}");
            let control = &bench.stand_in.control;
            control
                .set(json!({"asyncHeaders": headers, "importStatus": status, "importVisible": "atEnd", "asyncMillis": 700}))
                .await
                .unwrap();
            let started = bench
                .put(&name, import_body("Weather", &name[1..], &openapi()))
                .await;
            assert_eq!(started.status, status);
            assert_eq!(started.header("location").is_some(), location);
            assert_eq!(started.header("azure-asyncoperation").is_some(), operation);
            assert_eq!(bench.get(&name).await.status, 404, "not visible before its end");
            wait_until("the import ends", async || bench.get(&name).await.status == 200).await;
        }
    }
    bench
        .stand_in
        .control
        .set(json!({"apiDeletion": "sync"}))
        .await
        .unwrap();
    assert_eq!(bench.delete("/apis/both201").await.status, 200);
    bench
        .stand_in
        .control
        .set(json!({"apiDeletion": "async", "asyncHeaders": "both"}))
        .await
        .unwrap();
    let deletion = bench.delete("/apis/both202").await;
    assert!(deletion.header("location").unwrap().contains("asyncCode=204"));
    assert_eq!(
        (deletion.status, bench.follow(&deletion).await.as_str()),
        (202, "Succeeded")
    );
    let url = deletion.header("location").unwrap();
    assert_eq!(
        bench.send(bench.client.get(url).bearer_auth(TOKEN)).await.status,
        204
    );
}

#[tokio::test]
async fn a_failed_operation_says_why_and_changes_nothing() {
    let bench = Bench::start().await;
    let action = Action::FailOperation {
        code: "ImportFailed".into(),
        message: "no".into(),
    };
    let fault = Fault {
        plane: Plane::Arm,
        method: Some("PUT".into()),
        path: None,
        skip: 0,
        count: Some(1),
        action,
    };
    bench.stand_in.control.fault(&fault).await.unwrap();
    let started = bench
        .put("/apis/weather", import_body("Weather", "w", &openapi()))
        .await;
    assert_eq!(bench.follow(&started).await, "Failed");
    let url = started.header("azure-asyncoperation").unwrap();
    let result = bench.send(bench.client.get(url).bearer_auth(TOKEN)).await;
    assert_eq!(result.json()["error"]["code"], "ImportFailed");
    assert_eq!(bench.get("/apis/weather").await.status, 404);
}
