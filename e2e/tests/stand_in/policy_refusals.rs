//! Policy documents that the service refuses, and why; and how good ones come back.

use serde_json::json;

use crate::support::{Bench, service_path};

macro_rules! inbound {
    ($policies:literal $(,)?) => {
        concat!("<policies><inbound>", $policies, "</inbound></policies>")
    };
}

const API: &str = "/apis/a/policies/policy";

/// Where the document is put, the document, the element that is blamed, and a part of the message.
const REFUSED: &[(&str, &str, &str, &str)] = &[
    (API, "<policies><inbound>", "representation", "not closed"),
    (
        API,
        inbound!("<unheard-of/>"),
        "unheard-of",
        "The element 'inbound' has invalid child element 'unheard-of'.",
    ),
    (
        API,
        "<inbound/>",
        "inbound",
        "Policy section is not allowed in the specified scope",
    ),
    (
        API,
        "<policies><middle/></policies>",
        "middle",
        "invalid child element 'middle'",
    ),
    (
        API,
        inbound!(r#"<check-header name="a" failed-check-httpcode="401" failed-check-error-message="x"/>"#),
        "check-header",
        "The required attribute 'ignore-case' is missing.",
    ),
    (
        API,
        "<policies><backend><base/><timeout>300</timeout></backend></policies>",
        "backend",
        "backend section allows only one policy to be specified",
    ),
    (
        API,
        "<policies><backend><timeout>300</timeout></backend></policies>",
        "timeout",
        "invalid child element 'timeout'",
    ),
    (
        API,
        inbound!("<forward-request/>"),
        "forward-request",
        "not allowed in the specified section",
    ),
    (
        API,
        inbound!(r#"<quota calls="1" renewal-period="60"/>"#),
        "quota",
        "not allowed in the specified scope",
    ),
    (
        "/policies/policy",
        inbound!(r#"<rate-limit calls="1" renewal-period="60"/>"#),
        "rate-limit",
        "not allowed in the specified scope",
    ),
    ("/policies/policy", inbound!("<base/>"), "base", "not allowed"),
    (
        API,
        inbound!(r#"<rate-limit calls="x" renewal-period="60"/>"#),
        "rate-limit",
        "'calls' attribute is invalid",
    ),
    (
        API,
        inbound!(r#"<rate-limit calls="1" renewal-period="301"/>"#),
        "rate-limit",
        "'renewal-period' attribute is invalid",
    ),
    (
        API,
        inbound!(r#"<rate-limit calls="1" renewal-period="6"/><rate-limit calls="1" renewal-period="6"/>"#,),
        "rate-limit",
        "only once",
    ),
    (
        API,
        inbound!(r#"<set-header name="a" when="b"/>"#),
        "set-header",
        "The 'when' attribute is not declared.",
    ),
    (
        API,
        inbound!(r#"<set-header name="a">b</set-header>"#),
        "set-header",
        "The element 'set-header' cannot contain text. List of possible elements expected: 'value'.",
    ),
    (
        API,
        inbound!(r#"<set-header name="a" exists-action="remove"/>"#),
        "set-header",
        "'exists-action' attribute is invalid",
    ),
    (
        API,
        inbound!(r#"<set-backend-service backend-id="none"/>"#),
        "set-backend-service",
        "Backend with id 'none' could not be found.",
    ),
    (
        API,
        inbound!("<set-backend-service/>"),
        "set-backend-service",
        "One of 'base-url' or 'backend-id'",
    ),
    (
        API,
        inbound!(
            "<cors><allowed-headers><header>*</header></allowed-headers><allowed-origins><origin>*</origin></allowed-origins></cors>",
        ),
        "allowed-origins",
        "invalid child element 'allowed-origins'",
    ),
    (
        API,
        inbound!(
            "<cors><allowed-origins><origin>https://*.example.com</origin></allowed-origins><allowed-headers><header>*</header></allowed-headers></cors>",
        ),
        "origin",
        "Origin must be a valid URL",
    ),
    (
        API,
        inbound!("<choose><when><set-header name=\"a\"/></when></choose>"),
        "when",
        "The required attribute 'condition' is missing.",
    ),
    (
        API,
        inbound!("<choose><when condition=\"true\"><nothing/></when></choose>"),
        "nothing",
        "invalid child element 'nothing'",
    ),
    (
        API,
        inbound!(r#"<include-fragment fragment-id="f"/>"#),
        "include-fragment",
        "could not be found",
    ),
    (
        API,
        inbound!(r#"<set-header name="{{gone}}"/>"#),
        "set-header",
        "Cannot find a property 'gone'",
    ),
    (
        API,
        inbound!(r#"<choose><when condition="@(context.Request.Method == "GET")"/></choose>"#),
        "representation",
        "unexpected token",
    ),
];

#[tokio::test]
async fn refused_policies_say_why() {
    let bench = Bench::start().await;
    bench.put("/apis/a", json!({"path": "a"})).await;
    bench.put("/products/p", json!({"displayName": "P"})).await;
    for (path, text, target, message) in REFUSED {
        let reply = bench.put(path, json!({"value": text})).await;
        assert_eq!(reply.status, 400, "{text} {reply:?}");
        let error = &reply.json()["error"];
        assert_eq!(
            (&error["code"], &error["message"]),
            (
                &json!("ValidationError"),
                &json!("One or more fields contain incorrect values:")
            )
        );
        let details = error["details"].as_array().unwrap();
        let fits = |detail: &&serde_json::Value| {
            detail["target"] == *target && detail["message"].as_str().unwrap().contains(message)
        };
        assert!(details.iter().any(|detail| fits(&detail)), "{text}: {details:#?}");
    }
    let quota = bench
        .put(
            "/products/p/policies/policy",
            json!({"value": inbound!(r#"<quota calls="1" renewal-period="60"/>"#)}),
        )
        .await;
    assert_eq!(quota.status, 201, "a product may have one: {quota:?}");
    let raw = inbound!(r#"<choose><when condition="@(context.Request.Method == "GET")"/></choose>"#);
    let raw = bench.put(API, json!({"format": "rawxml", "value": raw})).await;
    assert_eq!(raw.status, 201, "{raw:?}");
    let back = bench.get("/apis/a/policies/policy").await.json();
    assert!(
        back["properties"]["value"]
            .as_str()
            .unwrap()
            .contains("&quot;GET&quot;")
    );
    let back = bench.get("/apis/a/policies/policy?format=rawxml").await.json();
    assert!(
        back["properties"]["value"]
            .as_str()
            .unwrap()
            .contains("== \"GET\"")
    );
    assert_eq!(back["id"], format!("{}/apis/a/policies/policy", service_path()));
}
