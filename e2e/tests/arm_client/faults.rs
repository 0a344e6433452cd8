//! Cuts, lost answers, deaths and refusals at every single request: the next pass puts it right, nothing is made
//! twice and nothing is left behind.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use mcp_fleet_e2e::apim::{Action, Fault, Plane};
use mcp_fleet_operator::azure::apim::{
    ArmClient, Depth, ErrorClass, Observer, Outcome, RegistrationError, Removal, Retry, ServerRegistration,
    ensure_server, remove_server,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::fixture::{Fixture, server};

fn fault(method: Option<&str>, path: Option<&str>, skip: u64, count: Option<u64>, action: Action) -> Fault {
    Fault {
        plane: Plane::Arm,
        method: method.map(str::to_owned),
        path: path.map(str::to_owned),
        skip,
        count,
        action,
    }
}

fn answer(status: u16, code: &str) -> Action {
    Action::Answer {
        status,
        headers: [("retry-after".to_owned(), "0".to_owned())].into(),
        body: Some(json!({"error": {"code": code, "message": "as the test wants"}})),
    }
}

/// Passes until the server is registered, as the controller would make them. Says how many passes failed.
async fn settle(client: &ArmClient, desired: &ServerRegistration) -> u32 {
    for failed in 0..20 {
        match ensure_server(client, desired, Depth::Full, None).await {
            Ok(Outcome::Done(_)) => return failed,
            Ok(Outcome::Pending(_)) => {}
            Err(error) => assert_ne!(error.retry(), Retry::UntilChanged, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    panic!("the server does not settle")
}

async fn vanish(client: &ArmClient, desired: &ServerRegistration) {
    for _ in 0..30 {
        match remove_server(client, &desired.owner, &desired.ids).await {
            Ok(Removal::Gone { left }) => return assert_eq!(left, Vec::<String>::new()),
            Ok(Removal::Pending(_)) => {}
            Err(error) => assert_ne!(error.retry(), Retry::UntilChanged, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    panic!("the server does not vanish")
}

fn changed() -> ServerRegistration {
    let mut desired = server("weather");
    desired.path = "tools/other".into();
    desired.rate_limit = None;
    desired.backend_url = "http://127.0.0.1:10".parse().unwrap();
    desired.transports.sse = None;
    desired
}

/// What is stored after a create, and after the change, when nothing goes wrong.
async fn expected(fixture: &Fixture) -> (Vec<serde_json::Value>, Vec<serde_json::Value>) {
    // Over after the first poll: these tests are about the requests, not about waiting.
    fixture
        .stand_in
        .control
        .set(json!({"asyncMillis": 1}))
        .await
        .unwrap();
    settle(&fixture.client, &server("weather")).await;
    let created = fixture.world().await;
    settle(&fixture.client, &changed()).await;
    let updated = fixture.world().await;
    vanish(&fixture.client, &changed()).await;
    (created, updated)
}

#[tokio::test]
async fn a_cut_before_each_request() {
    trouble_at_each_request(Action::CutBefore).await;
}

#[tokio::test]
async fn a_lost_answer_to_each_request() {
    trouble_at_each_request(Action::CutAfter).await;
}

#[tokio::test]
async fn a_server_error_at_each_request() {
    trouble_at_each_request(answer(500, "InternalServerError")).await;
}

#[tokio::test]
async fn a_throttle_at_each_request() {
    trouble_at_each_request(answer(429, "TooManyRequests")).await;
}

/// A create, an update and a delete for each k, with the trouble at their k-th request.
async fn trouble_at_each_request(action: Action) {
    let fixture = Fixture::new().await;
    let control = &fixture.stand_in.control;
    let (created, updated) = expected(&fixture).await;
    let nothing = fixture.world().await;
    for k in 0..80 {
        let before = control.requests(0).await.unwrap().last;
        control
            .fault(&fault(None, None, k, Some(1), action.clone()))
            .await
            .unwrap();
        settle(&fixture.client, &server("weather")).await;
        assert_eq!(
            fixture.world().await,
            created,
            "create, {action:?} at request {k}"
        );
        settle(&fixture.client, &changed()).await;
        assert_eq!(
            fixture.world().await,
            updated,
            "update, {action:?} at request {k}"
        );
        vanish(&fixture.client, &changed()).await;
        assert_eq!(
            fixture.world().await,
            nothing,
            "delete, {action:?} at request {k}"
        );
        control.clear_faults().await.unwrap();
        let sent = control.requests(before).await.unwrap().requests.len() as u64;
        if k >= sent {
            return;
        }
    }
    panic!("a life has more than 80 requests");
}

/// Ends the pass right after its k-th request.
#[derive(Debug)]
struct Death {
    left: Mutex<u32>,
    token: CancellationToken,
}

impl Observer for Death {
    fn request(&self, _: &'static str, _: &'static str, _: &'static str, _: Duration) {
        let mut left = self.left.lock().unwrap();
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.token.cancel();
        }
    }
}

/// Runs one pass that dies after `k` requests; `true` when it ended before.
async fn die_after<T>(
    fixture: &Fixture,
    k: u32,
    pass: impl AsyncFnOnce(ArmClient) -> Result<T, RegistrationError>,
) -> bool {
    let token = CancellationToken::new();
    let client = fixture.client_with(Arc::new(Death {
        left: Mutex::new(k),
        token: token.clone(),
    }));
    tokio::select! {
        biased;
        () = token.cancelled() => false,
        result = pass(client) => {
            result.unwrap();
            !token.is_cancelled()
        }
    }
}

#[tokio::test]
async fn a_death_after_each_request() {
    let fixture = Fixture::new().await;
    let (created, updated) = expected(&fixture).await;
    let nothing = fixture.world().await;
    let mut ended = [false; 3];
    for k in 1..60 {
        let (first, second) = (server("weather"), changed());
        ended[0] = die_after(&fixture, k, async |client| {
            ensure_server(&client, &first, Depth::Full, None).await
        })
        .await;
        settle(&fixture.client, &first).await;
        assert_eq!(fixture.world().await, created, "create, death after request {k}");
        ended[1] = die_after(&fixture, k, async |client| {
            ensure_server(&client, &second, Depth::Full, None).await
        })
        .await;
        settle(&fixture.client, &second).await;
        assert_eq!(fixture.world().await, updated, "update, death after request {k}");
        ended[2] = die_after(&fixture, k, async |client| {
            remove_server(&client, &second.owner, &second.ids).await
        })
        .await;
        vanish(&fixture.client, &second).await;
        assert_eq!(fixture.world().await, nothing, "delete, death after request {k}");
        if ended.iter().all(|ended| *ended) {
            return;
        }
    }
    panic!("a pass has more than 60 requests: {ended:?}")
}

#[tokio::test]
async fn each_class_of_refusal_is_reported_and_overcome() {
    let cases = [
        (401, "InvalidAuthenticationToken", "AuthenticationFailed", 2),
        (403, "AuthorizationFailed", "Forbidden", 1),
        (409, "PessimisticConcurrencyConflict", "OperationInProgress", 4),
        (412, "PreconditionFailed", "ChangedConcurrently", 3),
        (500, "InternalServerError", "ServiceError", 1),
    ];
    for (status, code, reason, count) in cases {
        let fixture = Fixture::new().await;
        let control = &fixture.stand_in.control;
        control
            .fault(&fault(
                Some("PUT"),
                Some("/apis/"),
                0,
                Some(count),
                answer(status, code),
            ))
            .await
            .unwrap();
        let error = fixture.ensure(&server("weather")).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{error}");
        assert_eq!(settle(&fixture.client, &server("weather")).await, 0, "{reason}");
    }
}

#[tokio::test]
async fn a_stale_etag_is_read_again() {
    let fixture = Fixture::new().await;
    let mut desired = server("weather");
    fixture.written(&desired).await;
    let stale = fault(
        Some("PATCH|PUT"),
        Some("/policies/"),
        0,
        Some(1),
        answer(412, "PreconditionFailed"),
    );
    fixture.stand_in.control.fault(&stale).await.unwrap();
    desired.timeout_seconds = 30;
    assert_eq!(fixture.written(&desired).await, ["policy"]);
}

#[tokio::test]
async fn a_hang_ends_with_the_time_limit() {
    let fixture = Fixture::new().await;
    fixture
        .stand_in
        .control
        .fault(&fault(Some("PUT"), None, 0, Some(1), Action::Hang))
        .await
        .unwrap();
    let error = fixture.ensure(&server("weather")).await.unwrap_err();
    assert_eq!(error.reason(), "Timeout");
    assert_eq!(settle(&fixture.client, &server("weather")).await, 0);
}

#[tokio::test]
async fn what_the_service_refuses_leaves_nothing_half_made() {
    let refusal = json!({"error": {"code": "ValidationError", "message": "One or more fields contain incorrect values:",
        "details": [{"code": "ValidationError", "target": "cors", "message": "Origin must be a valid URL."}]}});
    for path in ["/policies/policy", "/apis/[^/]+\\?", "/subscriptions/demo"] {
        let fixture = Fixture::new().await;
        let nothing = fixture.world().await;
        let action = Action::Answer {
            status: 400,
            headers: [].into(),
            body: Some(refusal.clone()),
        };
        fixture
            .stand_in
            .control
            .fault(&fault(Some("PUT"), Some(path), 0, Some(1), action))
            .await
            .unwrap();
        let error = fixture.ensure(&server("weather")).await.unwrap_err();
        assert_eq!(error.retry(), Retry::Terminal);
        assert!(
            error.to_string().contains("cors: Origin must be a valid URL."),
            "{error}"
        );
        assert_eq!(fixture.world().await, nothing, "{path}");
    }
}

#[tokio::test]
async fn a_failed_import_is_withdrawn_and_says_why() {
    let fixture = Fixture::new().await;
    let nothing = fixture.world().await;
    let action = Action::FailOperation {
        code: "ValidationError".into(),
        message: "Parsing error(s): none".into(),
    };
    fixture
        .stand_in
        .control
        .fault(&fault(Some("PUT"), Some("/apis/"), 0, Some(1), action))
        .await
        .unwrap();
    let error = fixture.ensure(&server("weather")).await.unwrap_err();
    assert!(error.to_string().contains("Parsing error(s): none"), "{error}");
    assert_eq!(fixture.world().await, nothing);
}

#[tokio::test]
async fn a_long_throttle_is_reported_with_its_delay() {
    let fixture = Fixture::new().await;
    let action = Action::Answer {
        status: 429,
        headers: [("retry-after".into(), "60".into())].into(),
        body: None,
    };
    fixture
        .stand_in
        .control
        .fault(&fault(Some("PUT"), None, 0, Some(1), action))
        .await
        .unwrap();
    let error = fixture.ensure(&server("weather")).await.unwrap_err();
    assert_eq!(error.retry(), Retry::After(Duration::from_mins(1)));
    let RegistrationError::Arm(error) = error else {
        panic!("{error}")
    };
    assert!(matches!(error.class, ErrorClass::Throttled { .. }));
}

fn refused(code: &str, message: &str, status: u16) -> Action {
    Action::Answer {
        status,
        headers: [].into(),
        body: Some(json!({"error": {"code": code, "message": message}})),
    }
}

/// Times of the writes of a policy, in milliseconds.
async fn policy_writes(fixture: &Fixture, since: u64) -> Vec<i64> {
    let requests = fixture.stand_in.control.requests(since).await.unwrap().requests;
    let writes = requests
        .iter()
        .filter(|request| request.method == "PUT" && request.path.contains("/policies/policy"));
    writes
        .map(|request| request.at.parse::<jiff::Timestamp>().unwrap().as_millisecond())
        .collect()
}

#[tokio::test]
async fn what_passes_by_itself_is_tried_again_with_growing_pauses() {
    let busy = refused(
        "PessimisticConcurrencyConflict",
        "Operation on the API is in progress",
        409,
    );
    let unseen = refused(
        "ValidationError",
        "Error in element 'set-backend-service' on line 5: Backend with id 'x' could not be found.",
        400,
    );
    for (trouble, count) in [(busy, 3), (unseen, 1)] {
        let fixture = Fixture::new().await;
        let fault = fault(Some("PUT"), Some("/policies/policy"), 0, Some(count), trouble);
        fixture.stand_in.control.fault(&fault).await.unwrap();
        let registered = fixture.ensure(&server("weather")).await.unwrap();
        assert_eq!(registered.changed, ["backend", "api", "policy", "subscription"]);
        let times = policy_writes(&fixture, 0).await;
        assert_eq!(times.len() as u64, count + 1);
        let pauses: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses.iter().all(|pause| *pause >= 20), "{pauses:?}");
        assert!(
            pauses.last().unwrap() >= &(20 << (pauses.len() - 1)),
            "{pauses:?}"
        );
    }
}

#[tokio::test]
async fn a_refusal_never_takes_away_what_was_there() {
    let fixture = Fixture::new().await;
    let mut desired = server("weather");
    fixture.written(&desired).await;
    let before = fixture.world().await;
    let control = &fixture.stand_in.control;
    for (status, code) in [(400, "ValidationError"), (422, "UnprocessableEntity")] {
        let fault = fault(
            Some("PUT|PATCH"),
            None,
            0,
            None,
            refused(code, "The limit of this tier is reached.", status),
        );
        control.fault(&fault).await.unwrap();
        desired.timeout_seconds = 30;
        let error = fixture.ensure(&desired).await.unwrap_err();
        assert_eq!((error.reason(), error.retry()), ("Refused", Retry::Terminal));
        assert_eq!(fixture.world().await, before, "{status}");
        control.clear_faults().await.unwrap();
    }
    // Somebody has deleted the policy, and the service refuses ours: the API stays, and gets it later.
    let policy = format!("apis/{}/policies/policy", desired.ids.api_id);
    fixture.by_hand("DELETE", &policy, serde_json::Value::Null).await;
    let limit = fault(Some("PUT"), None, 0, None, refused("ValidationError", "no", 400));
    control.fault(&limit).await.unwrap();
    let left = fixture.paths().await;
    fixture.ensure(&desired).await.unwrap_err();
    assert_eq!(fixture.paths().await, left);
    control.clear_faults().await.unwrap();
    assert_eq!(
        fixture.written(&desired).await,
        ["policy"],
        "a refusal that healed"
    );
}

#[tokio::test]
async fn what_another_tool_deletes_comes_back_with_the_same_key() {
    let fixture = Fixture::new().await;
    let desired = server("weather");
    fixture.written(&desired).await;
    let before = fixture.world().await;
    let subscription = format!("subscriptions/{}", desired.ids.subscription_id);
    for path in [&format!("apis/{}", desired.ids.api_id), &subscription] {
        fixture.by_hand("DELETE", path, serde_json::Value::Null).await;
        for _ in 0..50 {
            if !fixture.paths().await.contains(path) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let outcome = ensure_server(&fixture.client, &desired, Depth::Drift { round: 1 }, None).await;
        assert!(matches!(outcome, Ok(Outcome::Done(_))), "{outcome:?}");
        assert_eq!(fixture.world().await, before, "{path}");
        let secrets = fixture
            .by_hand(
                "POST",
                &format!("{subscription}/listSecrets"),
                serde_json::Value::Null,
            )
            .await;
        assert_eq!(
            secrets["primaryKey"],
            json!(desired.probe_key.as_ref().unwrap().expose())
        );
    }
}

#[tokio::test]
async fn a_service_that_is_gone_is_told_apart() {
    let fixture = Fixture::new().await;
    let desired = server("weather");
    fixture.written(&desired).await;
    let gone =
        "The Resource 'Microsoft.ApiManagement/service/contoso' under resource group 'demo' was not found.";
    let fault = fault(None, None, 0, None, refused("ResourceNotFound", gone, 404));
    fixture.stand_in.control.fault(&fault).await.unwrap();
    let removal = remove_server(&fixture.client, &desired.owner, &desired.ids).await;
    let error = removal.unwrap_err();
    assert!(error.is_service_gone(), "{error}: the finalizer may go");
    let error = fixture.ensure(&desired).await.unwrap_err();
    assert_eq!(error.reason(), "ServiceNotFound", "{error}");
}
