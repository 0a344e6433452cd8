//! The ARM plane: verbs, conditions, long operations, refusals, throttling, faults.

use http::Method;
use mcp_fleet_e2e::apim::{Action, Config, Down, Fault, Plane, Switches};
use serde_json::{Value, json};

use crate::support::{Bench, TOKEN, config, service_path};

fn backend(url: &str) -> Value {
    json!({"url": url, "protocol": "http"})
}

#[tokio::test]
async fn a_backend_lives_and_its_etag_changes_with_it() {
    let bench = Bench::start().await;
    let made = bench.put("/backends/b", backend("http://10.0.0.1")).await;
    assert_eq!(made.status, 201);
    assert!(
        made.text.starts_with("{\r\n  \""),
        "sub-resources are indented with CRLF: {}",
        made.text
    );
    let same = bench.put("/backends/B", backend("http://10.0.0.1")).await;
    assert_eq!(
        (same.status, same.etag()),
        (200, made.etag()),
        "ids ignore case, and nothing changed"
    );
    let read = bench.get("/backends/b").await;
    assert_eq!(
        read.json()["properties"],
        json!({"title": null, "description": null, "url": "http://10.0.0.1", "protocol": "http"})
    );
    let head = bench.arm("HEAD", "/backends/b", None).await;
    assert_eq!(
        (head.status, head.text.as_str(), head.etag()),
        (200, "", made.etag())
    );

    let patch = |etag: Option<String>| {
        let request = bench
            .request(Method::PATCH, "/backends/b")
            .json(&json!({"properties": {"url": "http://10.0.0.2"}}));
        etag.into_iter()
            .fold(request, |request, etag| request.header("If-Match", etag))
    };
    assert_eq!(bench.send(patch(None)).await.status, 412);
    assert_eq!(
        bench.send(patch(Some("\"AAAAAAAAAAA=\"".into()))).await.status,
        412
    );
    let patched = bench.send(patch(Some(made.etag()))).await;
    assert_eq!(patched.status, 200);
    assert_ne!(patched.etag(), made.etag());
    let stale = bench
        .request(Method::DELETE, "/backends/b")
        .header("If-Match", made.etag());
    assert_eq!(bench.send(stale).await.status, 412);
    assert_eq!(bench.delete("/backends/b").await.status, 200);
    assert_eq!(bench.delete("/backends/b").await.status, 204);
    let gone = bench.get("/backends/b").await;
    assert_eq!(gone.status, 404);
    assert_eq!(
        gone.json(),
        json!({"error": {"code": "ResourceNotFound", "message": "Backend not found.", "details": null}})
    );
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let bench = Bench::start().await;
    for (path, code) in [
        (
            "/subscriptions/x/resourceGroups/demo/providers/Microsoft.ApiManagement/service/contoso",
            "SubscriptionNotFound",
        ),
        (
            "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/x/providers/Microsoft.ApiManagement/service/contoso",
            "ResourceGroupNotFound",
        ),
        (
            "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/demo/providers/Microsoft.ApiManagement/service/x",
            "ResourceNotFound",
        ),
    ] {
        let url = format!("{}{path}?api-version=2024-05-01", bench.stand_in.arm_url);
        let answer = bench.send(bench.client.get(url).bearer_auth(TOKEN)).await;
        assert_eq!(
            (answer.status, answer.json()["error"]["code"].as_str()),
            (404, Some(code))
        );
    }
    let url = format!("{}{}", bench.stand_in.arm_url, service_path());
    let answer = bench.send(bench.client.get(&url).bearer_auth(TOKEN)).await;
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].as_str()),
        (400, Some("MissingApiVersionParameter"))
    );
    assert_eq!(
        bench.get("/apis/none/operations").await.json()["error"]["message"],
        "Api not found."
    );
    assert_eq!(
        bench.put("/products/none/apis/none", json!({})).await.json()["error"]["message"],
        "Product not found."
    );
}

#[tokio::test]
async fn the_service_tells_where_its_gateway_is() {
    let bench = Bench::start().await;
    let service = bench.get("").await;
    assert_eq!(service.status, 200);
    assert_eq!(
        service.json()["properties"]["gatewayUrl"],
        bench.stand_in.gateway_url.as_str()
    );
    assert_eq!(
        service.json()["properties"]["publicIPAddresses"],
        json!(["127.0.0.1"])
    );
    assert_eq!(service.json()["properties"]["provisioningState"], "Succeeded");
}

#[tokio::test]
async fn tokens_are_demanded_and_roles_too() {
    let bench = Bench::start().await;
    let url = format!(
        "{}{}?api-version=2024-05-01",
        bench.stand_in.arm_url,
        service_path()
    );
    let none = bench.send(bench.client.get(&url)).await;
    assert_eq!(
        (none.status, none.json()["error"]["code"].as_str()),
        (401, Some("AuthenticationFailed"))
    );
    assert!(
        none.header("www-authenticate")
            .unwrap()
            .starts_with("Bearer authorization_uri=")
    );
    let wrong = bench.send(bench.client.get(&url).bearer_auth("no")).await;
    assert_eq!(
        (wrong.status, wrong.json()["error"]["code"].as_str()),
        (401, Some("InvalidAuthenticationToken"))
    );
    bench
        .stand_in
        .control
        .set(json!({"authorized": false}))
        .await
        .unwrap();
    let denied = bench.get("").await;
    assert_eq!(
        (denied.status, denied.json()["error"]["code"].as_str()),
        (403, Some("AuthorizationFailed"))
    );
}

#[tokio::test]
async fn conditions_can_be_switched() {
    let bench = Bench::start().await;
    for (setting, status) in [("allowed", 200), ("preconditionFailed", 412), ("badRequest", 400)] {
        bench
            .stand_in
            .control
            .set(json!({"ifMatchOnDelete": setting, "ifMatchOnPut": setting}))
            .await
            .unwrap();
        assert!(
            bench.arm("PUT", "/backends/b", None).await.status == 400,
            "a body is needed"
        );
        let first = bench
            .request(Method::PUT, "/backends/b")
            .header("If-Match", "*")
            .json(&json!({"properties": backend("http://a")}));
        assert!(bench.send(first).await.status < 300);
        assert_eq!(bench.put("/backends/b", backend("http://b")).await.status, status);
        assert_eq!(bench.delete("/backends/b").await.status, status);
    }
}

#[tokio::test]
async fn writes_are_throttled_like_arm() {
    let switches = Switches {
        throttle: true,
        ..config().switches
    };
    let bench = Bench::with(Config { switches, ..config() }).await;
    let first = bench.put("/backends/b", backend("http://10.0.0.1")).await;
    assert_eq!(
        first.header("x-ms-ratelimit-remaining-subscription-writes"),
        Some("199")
    );
    let mut refused = None;
    for _ in 0..400 {
        let answer = bench.arm("POST", "/backends/b/reconnect", None).await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("the bucket is empty at some point");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(
        bench.get("/backends/b").await.status,
        200,
        "reads have a bucket of their own"
    );
}

#[tokio::test]
async fn faults_happen_when_asked_for() {
    let bench = Bench::start().await;
    let control = &bench.stand_in.control;
    let fault = |skip, count, action| Fault {
        plane: Plane::Arm,
        method: Some("^PUT$".into()),
        path: Some("/backends/".into()),
        skip,
        count,
        action,
    };
    let headers = [("Retry-After".to_owned(), "7".to_owned())].into();
    control
        .fault(&fault(
            1,
            Some(1),
            Action::Answer {
                status: 429,
                headers,
                body: None,
            },
        ))
        .await
        .unwrap();
    assert_eq!(bench.put("/backends/a", backend("http://a")).await.status, 201);
    let refused = bench.put("/backends/b", backend("http://b")).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("7")));
    assert_eq!(bench.put("/backends/b", backend("http://b")).await.status, 201);

    control.clear_faults().await.unwrap();
    for (name, action, written) in [("c", Action::CutBefore, false), ("d", Action::CutAfter, true)] {
        control.fault(&fault(0, Some(1), action)).await.unwrap();
        let path = format!("/backends/{name}");
        let request = bench
            .request(Method::PUT, &path)
            .json(&json!({"properties": backend("http://c")}));
        assert!(request.send().await.is_err());
        assert_eq!(bench.get(&path).await.status == 200, written);
        control.clear_faults().await.unwrap();
    }
    control
        .down(Down {
            arm: true,
            ..Down::default()
        })
        .await
        .unwrap();
    assert!(bench.request(Method::GET, "").send().await.is_err());
    control.down(Down::default()).await.unwrap();
    assert_eq!(bench.get("").await.status, 200);

    let seen = control.requests(0).await.unwrap();
    let cut = seen
        .requests
        .iter()
        .filter(|entry| entry.status.is_none())
        .count();
    assert!(cut >= 3, "cut requests are in the journal too");
    assert_eq!(seen.counters.writes, 5);
    control.reset().await.unwrap();
    assert_eq!(bench.get("/backends/a").await.status, 404);
    assert!(control.paths().await.unwrap().is_empty());
}
