//! Each answer of the service and the class it has.

use std::time::Duration;

use crate::azure::apim::{ArmError, ErrorClass, OUTCOMES, Retry, error::classify};

fn error(class: ErrorClass) -> ArmError {
    ArmError {
        action: "put",
        resource: "api x".into(),
        class,
        correlation_id: Some("c-1".into()),
    }
}

#[test]
fn each_class_is_an_outcome_that_alerts_know() {
    let message = String::new;
    let classes = [
        ErrorClass::Throttled { retry_after: None },
        ErrorClass::ConflictInProgress { message: message() },
        ErrorClass::PreconditionFailed { message: message() },
        ErrorClass::Validation {
            message: message(),
            target: None,
        },
        ErrorClass::NotFound,
        ErrorClass::Auth { message: message() },
        ErrorClass::Forbidden { message: message() },
        ErrorClass::ServiceMissing { message: message() },
        ErrorClass::Timeout,
        ErrorClass::Connection { message: message() },
        ErrorClass::Server {
            status: 500,
            message: message(),
        },
        ErrorClass::Unexpected { message: message() },
    ];
    let reasons: Vec<&str> = classes.map(|class| error(class).reason()).into();
    assert_eq!(reasons, OUTCOMES[1..]);
}

#[test]
fn each_answer_has_its_class() {
    let body =
        |code: &str, message: &str| format!(r#"{{"error":{{"code":"{code}","message":"{message}"}}}}"#);
    let missing = "The Resource 'Microsoft.ApiManagement/service/x' under resource group 'y' was not found.";
    let cases: Vec<(u16, String, &str, Retry)> = vec![
        (400, body("ValidationError", "bad"), "Refused", Retry::Terminal),
        (
            401,
            body("ExpiredAuthenticationToken", "expired"),
            "AuthenticationFailed",
            Retry::Slow,
        ),
        (
            403,
            body("AuthorizationFailed", "no role"),
            "Forbidden",
            Retry::Slow,
        ),
        (
            404,
            body("ResourceNotFound", "Api not found."),
            "NotFound",
            Retry::Slow,
        ),
        (
            404,
            body("ResourceNotFound", missing),
            "ServiceNotFound",
            Retry::Slow,
        ),
        (
            404,
            body("ResourceGroupNotFound", "gone"),
            "ServiceNotFound",
            Retry::Slow,
        ),
        (
            405,
            r#"{"Message":"no GET here"}"#.into(),
            "UnexpectedAnswer",
            Retry::Slow,
        ),
        (
            409,
            body("PessimisticConcurrencyConflict", "busy"),
            "OperationInProgress",
            Retry::Fast,
        ),
        (
            409,
            body("ManagementApiRequestFailed", "vnet"),
            "ServiceError",
            Retry::Fast,
        ),
        (
            412,
            body("PreconditionFailed", "stale"),
            "ChangedConcurrently",
            Retry::Fast,
        ),
        (
            429,
            body("TooManyRequests", "slow down"),
            "Throttled",
            Retry::After(Duration::from_secs(7)),
        ),
        (
            500,
            body("InternalServerError", "oops"),
            "ServiceError",
            Retry::Fast,
        ),
        (503, "<html>busy</html>".into(), "ServiceError", Retry::Fast),
        (302, String::new(), "UnexpectedAnswer", Retry::Slow),
    ];
    for (status, body, reason, retry) in cases {
        let error = error(classify(status, Some(Duration::from_secs(7)), body.as_bytes()));
        assert_eq!(error.reason(), reason, "{status} {body}");
        assert_eq!(error.retry(), retry, "{status} {body}");
        assert!(error.to_string().ends_with("(correlation id c-1)"), "{error}");
    }
}

#[test]
fn a_validation_error_shows_its_details() {
    let body = br#"{"error":{"code":"ValidationError","message":"One or more fields contain incorrect values:",
        "details":[{"code":"ValidationError","target":"cors","message":"Error in element 'cors' on line 4, column 6: Origin must be a valid URL."}]}}"#;
    let error = error(classify(400, None, body));
    assert_eq!(
        error.to_string(),
        "failed to put api x: the service refuses it: One or more fields contain incorrect values: \
         cors: Error in element 'cors' on line 4, column 6: Origin must be a valid URL. (correlation id c-1)"
    );
    assert!(matches!(error.class, ErrorClass::Validation { target: Some(target), .. } if target == "cors"));
}

#[test]
fn long_messages_are_cut() {
    let body = format!(
        r#"{{"error":{{"code":"ValidationError","message":"{}"}}}}"#,
        "x".repeat(5000)
    );
    let ErrorClass::Validation { message, .. } = classify(400, None, body.as_bytes()) else {
        panic!("class")
    };
    assert!(message.chars().count() <= 801);
}
