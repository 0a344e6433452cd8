//! Each way in which one call can go, and what is sent again.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::server::{Answer, CountedTokens, Fixture, Outcomes, client, reply};
use crate::azure::apim::{
    Retry,
    error::ErrorClass,
    request::Verb,
    target::Resource,
    wire::{Backend, Item},
};

fn backend() -> Resource {
    Resource::Backend("weather".into())
}

fn body() -> Value {
    json!({"properties": {"url": "http://203.0.113.7"}})
}

fn error(code: &str) -> Value {
    json!({"error": {"code": code, "message": "said the service"}})
}

async fn send(fixture: &Fixture, verb: Verb) -> Result<u16, crate::azure::apim::ArmError> {
    let mut request = fixture.client.request(verb, &backend());
    request.body = (verb == Verb::Put).then(body);
    request.if_match = (verb != Verb::Get).then(|| "\"1\"".to_owned());
    fixture.client.send(&request).await.map(|answer| answer.status)
}

#[tokio::test]
async fn a_request_carries_version_token_and_etag() {
    let fixture = Fixture::new([reply(200, body())]).await;
    assert_eq!(send(&fixture, Verb::Put).await.unwrap(), 200);
    assert_eq!(fixture.seen(), ["PUT weather"]);
    assert_eq!(fixture.query(0), "api-version=2024-05-01");
    let user_agent = concat!("mcp-fleet-operator/", env!("CARGO_PKG_VERSION"));
    assert_eq!(fixture.header(0, "user-agent").as_deref(), Some(user_agent));
    assert_eq!(
        fixture.header(0, "authorization").as_deref(),
        Some("Bearer token-0")
    );
    assert_eq!(fixture.header(0, "if-match").as_deref(), Some("\"1\""));
    assert_eq!(
        fixture.header(0, "content-type").as_deref(),
        Some("application/json")
    );
    assert_eq!(*fixture.outcomes.0.lock().unwrap(), ["PUT backend ok"]);
}

#[tokio::test]
async fn deletions_take_along_what_hangs_on_them() {
    let fixture = Fixture::new([reply(200, Value::Null), reply(204, Value::Null)]).await;
    for resource in [Resource::Api("a".into()), Resource::Product("p".into())] {
        fixture
            .client
            .send(&fixture.client.request(Verb::Delete, &resource))
            .await
            .unwrap();
    }
    assert!(fixture.query(0).contains("deleteRevisions=true"));
    assert!(fixture.query(1).contains("deleteSubscriptions=true"));
}

#[tokio::test]
async fn a_read_is_repeated_and_a_write_is_not() {
    let troubles = [
        reply(500, error("InternalServerError")),
        reply(503, Value::Null),
        Answer::Cut,
        Answer::Hang,
    ];
    for trouble in troubles {
        let fixture = Fixture::new([trouble.clone(), reply(200, body())]).await;
        assert_eq!(send(&fixture, Verb::Get).await.unwrap(), 200, "{trouble:?}");
        let fixture = Fixture::new([trouble.clone(), reply(200, body())]).await;
        let error = send(&fixture, Verb::Put).await.unwrap_err();
        assert_eq!(error.retry(), Retry::Fast, "{trouble:?}");
        assert_eq!(
            fixture.seen().len(),
            1,
            "{trouble:?}: a write with an unknown fate is cleared by reading"
        );
    }
}

#[tokio::test]
async fn each_trouble_has_its_class() {
    let cases = [
        (Answer::Cut, "ConnectionFailed"),
        (Answer::Hang, "Timeout"),
        (
            reply(302, Value::Null).with("location", "http://203.0.113.1/"),
            "UnexpectedAnswer",
        ),
        (reply(400, error("ValidationError")), "Refused"),
        (reply(403, error("AuthorizationFailed")), "Forbidden"),
        (reply(404, error("ResourceNotFound")), "NotFound"),
        (
            reply(409, error("PessimisticConcurrencyConflict")),
            "OperationInProgress",
        ),
        (reply(412, error("PreconditionFailed")), "ChangedConcurrently"),
        (reply(500, error("InternalServerError")), "ServiceError"),
    ];
    for (answer, reason) in cases {
        let fixture = Fixture::new([answer.with("x-ms-correlation-request-id", "c-1")]).await;
        let error = send(&fixture, Verb::Put).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{error}");
        assert!(
            error.to_string().starts_with("failed to write backend weather: "),
            "{error}"
        );
        assert!(!error.to_string().contains("token-0"), "{error}");
        assert_eq!(
            *fixture.outcomes.0.lock().unwrap(),
            [format!("PUT backend {reason}")]
        );
        let answered = !matches!(reason, "ConnectionFailed" | "Timeout");
        assert_eq!(error.correlation_id.is_some(), answered, "{reason}");
    }
}

#[tokio::test]
async fn nobody_listening_is_a_connection_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = client(
        &base,
        std::sync::Arc::new(CountedTokens::default()),
        std::sync::Arc::new(Outcomes::default()),
    );
    let error = client
        .send(&client.request(Verb::Put, &backend()))
        .await
        .unwrap_err();
    assert!(matches!(error.class, ErrorClass::Connection { .. }), "{error}");
}

#[tokio::test]
async fn a_refused_token_is_renewed_once() {
    let refused = || reply(401, error("ExpiredAuthenticationToken"));
    let fixture = Fixture::new([refused(), reply(200, body())]).await;
    assert_eq!(send(&fixture, Verb::Put).await.unwrap(), 200);
    assert_eq!(
        fixture.header(1, "authorization").as_deref(),
        Some("Bearer token-1")
    );
    let fixture = Fixture::new([refused(), refused(), refused()]).await;
    assert_eq!(
        send(&fixture, Verb::Put).await.unwrap_err().reason(),
        "AuthenticationFailed"
    );
    assert_eq!(
        (fixture.seen().len(), *fixture.tokens.invalidated.lock().unwrap()),
        (2, 1)
    );
}

#[tokio::test]
async fn a_short_throttle_is_waited_for_and_a_long_one_reported() {
    let throttled = |seconds: &str| reply(429, error("TooManyRequests")).with("retry-after", seconds);
    let fixture = Fixture::new([throttled("1"), reply(200, body())]).await;
    let start = Instant::now();
    assert_eq!(send(&fixture, Verb::Put).await.unwrap(), 200);
    assert!(
        start.elapsed() >= Duration::from_millis(900),
        "{:?}",
        start.elapsed()
    );

    let fixture = Fixture::new([throttled("60"), reply(200, body())]).await;
    let error = send(&fixture, Verb::Put).await.unwrap_err();
    assert_eq!(error.retry(), Retry::After(Duration::from_mins(1)));
    // The next write does not even try, a read may.
    assert_eq!(send(&fixture, Verb::Put).await.unwrap_err().reason(), "Throttled");
    assert_eq!(fixture.seen().len(), 1);
    assert_eq!(send(&fixture, Verb::Get).await.unwrap(), 200);
}

#[tokio::test]
async fn an_absurd_pause_is_cut() {
    let absurd = reply(429, error("TooManyRequests")).with("retry-after", u64::MAX.to_string());
    let fixture = Fixture::new([absurd]).await;
    let error = send(&fixture, Verb::Put).await.unwrap_err();
    assert_eq!(error.retry(), Retry::After(Duration::from_hours(1)));
}

#[tokio::test]
async fn all_pages_of_a_list_are_read_but_only_from_this_host() {
    let page =
        |name: &str, next: Value| json!({"value": [{"name": name, "properties": {}}], "nextLink": next});
    let next = json!("/next?api-version=2024-05-01&$skip=1");
    let fixture = Fixture::new([reply(200, page("a", next)), reply(200, page("b", Value::Null))]).await;
    let items: Vec<Item<Backend>> = fixture
        .client
        .list(&Resource::Apis, Some("path eq 'x'"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        items.iter().map(|item| item.name.as_str()).collect::<Vec<_>>(),
        ["a", "b"]
    );
    assert!(
        fixture.query(0).contains("%24filter=path+eq+%27x%27"),
        "{}",
        fixture.query(0)
    );
    assert_eq!(fixture.query(1), "api-version=2024-05-01&$skip=1");

    let stranger = Fixture::new([]).await;
    let elsewhere = json!(format!("{}/next", stranger.base));
    let fixture = Fixture::new([reply(200, page("a", elsewhere))]).await;
    let result = fixture.client.list::<Item<Backend>>(&Resource::Apis, None).await;
    assert_eq!(result.unwrap_err().reason(), "UnexpectedAnswer");
    assert!(stranger.seen().is_empty(), "the token stayed here");
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let fixture = Fixture::new([Answer::Reply {
        status: 200,
        headers: vec![],
        body: "x".repeat(9 << 20),
    }])
    .await;
    let error = send(&fixture, Verb::Put).await.unwrap_err();
    assert_eq!(error.reason(), "UnexpectedAnswer", "{error}");
}
