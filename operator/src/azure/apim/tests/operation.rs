//! The forms that a long operation takes, recorded and documented, and its resumption by another process.

use serde_json::{Value, json};

use super::server::{Answer, Fixture, reply};
use crate::azure::apim::{
    Outcome,
    error::ArmError,
    operation::{PendingOperation, Signal, follow},
    request::Verb,
    target::Resource,
};

const STATUS: &str = "/subscriptions/s/operationResults/1?api-version=2024-05-01";
const RESULT: &str = "/subscriptions/s/apis/a?api-version=2024-05-01&asyncId=1&asyncCode=201";

/// Sends the request that starts it, and follows it to the end.
async fn run(fixture: &Fixture, verb: Verb) -> Result<Option<Outcome<()>>, ArmError> {
    let request = fixture.client.request(verb, &Resource::Api("a".into()));
    let answer = fixture.client.send(&request).await?;
    let started =
        PendingOperation::from_answer(&fixture.client, verb, &request.title, &request.url, &answer)?;
    match started {
        None => Ok(None),
        Some(operation) => follow(&fixture.client, operation, fixture.client.limits().operation)
            .await
            .map(Some),
    }
}

fn both_headers(status: u16) -> Answer {
    reply(status, Value::Null)
        .with("location", RESULT)
        .with("azure-asyncoperation", STATUS)
}

fn status(text: &str) -> Answer {
    reply(200, json!({"status": text}))
}

#[expect(clippy::needless_pass_by_value, reason = "the callers make it on the spot")]
fn resource(state: Value) -> Answer {
    reply(
        200,
        json!({"properties": {"displayName": "a", "provisioningState": state}}),
    )
}

type Case = (&'static str, Verb, Vec<Answer>, Option<Outcome<()>>);

#[tokio::test]
async fn each_form_is_followed_to_its_end() {
    let done = Some(Outcome::Done(()));
    let cases: Vec<Case> = vec![
        ("no operation", Verb::Put, vec![resource(Value::Null)], None),
        (
            "created at once",
            Verb::Put,
            vec![reply(201, json!({"properties": {}})).with("location", RESULT)],
            None,
        ),
        (
            "status",
            Verb::Put,
            vec![both_headers(202), status("InProgress"), status("Succeeded")],
            done.clone(),
        ),
        (
            "status after 201",
            Verb::Put,
            vec![both_headers(201), status("Succeeded")],
            done.clone(),
        ),
        (
            "location ends with the code it names",
            Verb::Put,
            vec![
                reply(202, Value::Null).with("location", RESULT),
                reply(202, Value::Null),
                reply(201, json!({"properties": {"path": "a"}})),
            ],
            done.clone(),
        ),
        (
            "location of a deletion",
            Verb::Delete,
            vec![
                reply(202, Value::Null).with("location", RESULT),
                reply(204, Value::Null),
            ],
            done.clone(),
        ),
        (
            "gone with its poll address",
            Verb::Delete,
            vec![
                reply(202, Value::Null).with("location", RESULT),
                reply(404, Value::Null),
            ],
            done.clone(),
        ),
        (
            "only the state of the resource",
            Verb::Put,
            vec![
                reply(201, json!({"properties": {"provisioningState": "InProgress"}})),
                resource(json!("InProgress")),
                resource(json!("Succeeded")),
            ],
            done.clone(),
        ),
        (
            "accepted without any address",
            Verb::Delete,
            vec![
                reply(202, Value::Null),
                resource(Value::Null),
                reply(404, Value::Null),
            ],
            done.clone(),
        ),
        (
            "older contract, and a poll without a body",
            Verb::Put,
            vec![
                both_headers(202),
                reply(202, Value::Null),
                reply(200, json!({"properties": {"status": "Started"}})),
                reply(200, json!({"properties": {"status": "Succeeded"}})),
            ],
            done.clone(),
        ),
    ];
    for (name, verb, answers, expected) in cases {
        let count = answers.len();
        let fixture = Fixture::new(answers).await;
        assert_eq!(run(&fixture, verb).await.unwrap(), expected, "{name}");
        assert_eq!(fixture.seen().len(), count, "{name}");
    }
}

#[tokio::test]
async fn a_failed_operation_says_why() {
    let failed = |code: &str, message: &str| {
        reply(
            200,
            json!({"status": "Failed", "error": {"code": code, "message": message}}),
        )
    };
    let cases = [
        (failed("ValidationError", "Parsing error(s)"), "Refused"),
        (
            failed("PessimisticConcurrencyConflict", "busy"),
            "OperationInProgress",
        ),
        (failed("InternalServerError", "oops"), "ServiceError"),
        (reply(200, json!({"status": "Canceled"})), "ServiceError"),
    ];
    for (answer, reason) in cases {
        let fixture = Fixture::new([both_headers(202), answer]).await;
        let error = run(&fixture, Verb::Put).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{error}");
        assert!(
            error.to_string().starts_with("failed to write api a: "),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_address_on_another_host_is_not_followed() {
    let fixture =
        Fixture::new([reply(202, Value::Null).with("azure-asyncoperation", "https://203.0.113.1/x")]).await;
    assert_eq!(
        run(&fixture, Verb::Put).await.unwrap_err().reason(),
        "UnexpectedAnswer"
    );
    let stored = PendingOperation {
        url: "http://203.0.113.1/x".into(),
        signal: Signal::Status,
        verb: Verb::Put,
        resource: "api a".into(),
    };
    let error = follow(&fixture.client, stored, fixture.client.limits().operation)
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "UnexpectedAnswer");
    assert_eq!(fixture.seen().len(), 1);
}

#[tokio::test]
async fn past_the_deadline_it_is_handed_over() {
    let running = || status("InProgress").with("retry-after", "2");
    let fixture = Fixture::new([both_headers(202), running(), running(), status("Succeeded")]).await;
    let Some(Outcome::Pending(operation)) = run(&fixture, Verb::Put).await.unwrap() else {
        panic!("pending")
    };
    let stored = serde_json::to_string(&operation).unwrap();
    let operation: PendingOperation = serde_json::from_str(&stored).unwrap();
    let end = follow(&fixture.client, operation, fixture.client.limits().operation)
        .await
        .unwrap();
    assert_eq!(end, Outcome::Done(()));
}
