//! Policies that the gateway really runs.

use http::Method;
use serde_json::json;

use crate::echo::{STREAMING, call, received, start};
use crate::support::policy;

#[tokio::test]
async fn policies_change_what_is_forwarded() {
    let inbound = r#"<set-header name="Ocp-Apim-Subscription-Key" exists-action="delete"/>
        <set-query-parameter name="subscription-key" exists-action="delete"/>
        <set-header name="X-Who" exists-action="override"><value>@(context.Subscription?.Id ?? "nobody")</value></set-header>
        <set-header name="X-Twice" exists-action="append"><value>a</value><value>b</value></set-header>
        <set-header name="X-Given" exists-action="skip"><value>ours</value></set-header>
        <set-variable name="v" value="@(context.Request.Method == "POST" ? "posted" : "other")"/>
        <choose><when condition="@((string)context.Variables["v"] == "posted")">
            <set-header name="X-Branch"><value>@((string)context.Variables["v"])</value></set-header>
        </when><otherwise><return-response><set-status code="418" reason="no"/></return-response></otherwise></choose>"#;
    let (bench, key) = start(inbound, STREAMING).await;
    let request = bench
        .gateway(
            Method::POST,
            &format!("/mcp/weather/mcp?a=1&subscription-key={key}&b=2"),
        )
        .header("X-Given", "theirs");
    let reply = bench.send(request).await;
    assert_eq!(reply.json()["url"], "/base/mcp?a=1&b=2");
    assert_eq!(received(&reply, "x-who").as_deref(), Some("probe"));
    assert_eq!(received(&reply, "x-given").as_deref(), Some("theirs"));
    assert_eq!(received(&reply, "x-branch").as_deref(), Some("posted"));
    let with_header = call(&bench, &key).await;
    assert_eq!(received(&with_header, "ocp-apim-subscription-key"), None);
    let seen = bench.stand_in.control.gateway_requests(0).await.unwrap();
    assert!(
        seen.requests
            .iter()
            .all(|entry| entry.key_received && !entry.key_forwarded)
    );
    let get = bench
        .gateway(Method::GET, "/mcp/weather/mcp")
        .header("Ocp-Apim-Subscription-Key", &key);
    assert_eq!(bench.send(get).await.status, 418);
}

/// What the operator writes into each API's policy.
#[tokio::test]
async fn a_caller_cannot_say_who_it_is() {
    let inbound = r#"<set-header name="x-mcp-caller" exists-action="override">
            <value>@(context.Subscription?.Id ?? "")</value>
        </set-header>"#;
    let (bench, key) = start(inbound, STREAMING).await;
    // As the operator sends it.
    let escaped = policy(&inbound.replace(r#"?? """#, "?? &quot;&quot;"), STREAMING);
    let put = json!({"format": "xml", "value": escaped});
    let put = bench.put("/apis/weather/policies/policy", put).await;
    assert!(put.status < 300, "{put:?}");
    let request = || {
        bench
            .gateway(Method::POST, "/mcp/weather/mcp")
            .header("X-Mcp-Caller", "somebody else")
    };
    let with_key = bench
        .send(request().header("Ocp-Apim-Subscription-Key", &key))
        .await;
    assert_eq!(received(&with_key, "x-mcp-caller").as_deref(), Some("probe"));
    let open = bench
        .request(Method::PATCH, "/apis/weather")
        .header("If-Match", "*")
        .json(&json!({"properties": {"subscriptionRequired": false}}));
    assert_eq!(bench.send(open).await.status, 200);
    let without = bench.send(request()).await;
    assert_eq!(without.status, 200);
    assert_eq!(received(&without, "x-mcp-caller").as_deref(), Some(""));
}

#[tokio::test]
async fn rate_limits_count_per_subscription() {
    let (bench, key) = start(
        r#"<rate-limit calls="2" renewal-period="60" remaining-calls-header-name="X-Left"/>"#,
        STREAMING,
    )
    .await;
    let other = bench
        .put(
            "/subscriptions/second",
            json!({"displayName": "S", "scope": "/apis/weather"}),
        )
        .await;
    let other = other.json()["properties"]["primaryKey"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(call(&bench, &key).await.header("x-left"), Some("1"));
    assert_eq!(call(&bench, &key).await.header("x-left"), Some("0"));
    let refused = call(&bench, &key).await;
    assert_eq!(refused.status, 429);
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait));
    assert_eq!(
        refused.json()["message"],
        format!("Rate limit is exceeded. Try again in {wait} seconds.")
    );
    assert_eq!(call(&bench, &other).await.status, 200);

    let by_key =
        r#"<rate-limit-by-key calls="1" renewal-period="60" counter-key="@(context.Request.IpAddress)"/>"#;
    bench
        .put(
            "/apis/weather/policies/policy",
            json!({"format": "rawxml", "value": policy(by_key, STREAMING)}),
        )
        .await;
    assert_eq!(call(&bench, &key).await.status, 200);
    assert_eq!(call(&bench, &other).await.status, 429);
}

#[tokio::test]
async fn cors_answers_preflights_without_a_key() {
    let inbound = r#"<cors allow-credentials="false" terminate-unmatched-request="false">
        <allowed-origins><origin>https://app.example.com</origin></allowed-origins>
        <allowed-methods preflight-result-max-age="300"><method>GET</method><method>POST</method></allowed-methods>
        <allowed-headers><header>*</header></allowed-headers>
        <expose-headers><header>Mcp-Session-Id</header></expose-headers></cors>"#;
    let (bench, key) = start(inbound, STREAMING).await;
    let preflight = |origin: &str, method: &str| {
        bench
            .gateway(Method::OPTIONS, "/mcp/weather/mcp")
            .header("Origin", origin)
            .header("Access-Control-Request-Method", method)
            .header(
                "Access-Control-Request-Headers",
                "content-type, mcp-protocol-version",
            )
    };
    let allowed = bench.send(preflight("https://app.example.com", "POST")).await;
    assert_eq!(allowed.status, 200);
    assert_eq!(
        allowed.header("access-control-allow-origin"),
        Some("https://app.example.com")
    );
    assert_eq!(
        allowed.header("access-control-allow-headers"),
        Some("content-type,mcp-protocol-version")
    );
    assert_eq!(allowed.header("access-control-max-age"), Some("300"));
    for (origin, method) in [
        ("https://evil.example.com", "POST"),
        ("https://app.example.com", "PUT"),
    ] {
        let refused = bench.send(preflight(origin, method)).await;
        assert_eq!(
            (refused.status, refused.header("access-control-allow-origin")),
            (200, None)
        );
    }
    let request = bench
        .gateway(Method::POST, "/mcp/weather/mcp")
        .header("Ocp-Apim-Subscription-Key", &key);
    let simple = bench
        .send(request.header("Origin", "https://app.example.com"))
        .await;
    assert_eq!(
        simple.header("access-control-expose-headers"),
        Some("Mcp-Session-Id")
    );
    let plain = bench
        .send(bench.gateway(Method::OPTIONS, "/mcp/weather/mcp"))
        .await;
    assert_eq!(plain.status, 404, "no operation for OPTIONS");
}

#[tokio::test]
async fn callers_are_checked_by_header_and_address() {
    let check = r#"<check-header name="X-Team" failed-check-httpcode="403" failed-check-error-message="not you" ignore-case="true"><value>Blue</value></check-header>"#;
    let (bench, key) = start(check, STREAMING).await;
    assert_eq!(
        call(&bench, &key).await.json(),
        json!({"statusCode": 403, "message": "not you"})
    );
    let request = bench
        .gateway(Method::POST, "/mcp/weather/mcp")
        .header("Ocp-Apim-Subscription-Key", &key);
    assert_eq!(bench.send(request.header("X-Team", "BLUE")).await.status, 200);
    for (filter, status) in [
        (
            r#"<ip-filter action="allow"><address>127.0.0.1</address></ip-filter>"#,
            200,
        ),
        (
            r#"<ip-filter action="allow"><address-range from="10.0.0.1" to="10.0.0.9"/></ip-filter>"#,
            403,
        ),
        (
            r#"<ip-filter action="forbid"><address-range from="127.0.0.0" to="127.0.0.9"/></ip-filter>"#,
            403,
        ),
    ] {
        let put = bench
            .put(
                "/apis/weather/policies/policy",
                json!({"format": "rawxml", "value": policy(filter, STREAMING)}),
            )
            .await;
        assert_eq!(put.status, 200, "{put:?}");
        assert_eq!(call(&bench, &key).await.status, status, "{filter}");
    }
}

#[tokio::test]
async fn scopes_are_joined_at_base() {
    let (bench, key) = start(
        r#"<set-header name="X-Scope" exists-action="append"><value>api</value></set-header>"#,
        STREAMING,
    )
    .await;
    let with = |section: &str| {
        format!(
            "<policies><inbound>{section}</inbound><backend><base/></backend><outbound><base/></outbound><on-error/></policies>"
        )
    };
    let header = r#"<set-header name="X-Scope" exists-action="append"><value>operation</value></set-header>"#;
    let path = "/apis/weather/operations/mcp-post/policies/policy";
    for (section, expected) in [
        (format!("{header}<base/>"), Some("operation")),
        (format!("<base/>{header}"), Some("api")),
        ("<base/>".to_owned(), Some("api")),
    ] {
        assert!(
            bench
                .put(path, json!({"format": "rawxml", "value": with(&section)}))
                .await
                .status
                < 300
        );
        assert_eq!(
            received(&call(&bench, &key).await, "x-scope").as_deref(),
            expected,
            "{section}"
        );
    }
    assert!(
        bench
            .put(path, json!({"format": "rawxml", "value": with(header)}))
            .await
            .status
            < 300
    );
    assert_eq!(
        call(&bench, &key).await.status,
        500,
        "without base nothing says where to forward to"
    );
}
