//! The ARM plane: verbs, conditions, long operations, refusals, throttling, faults.

use http::Method;
use mcp_fleet_e2e::apim::{Action, Config, Down, Fault, Plane, Switches};
use serde_json::{Value, json};

use crate::support::{Bench, TOKEN, config, import_body, openapi, service_path};

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
async fn an_import_is_long_and_makes_the_operations() {
    let bench = Bench::start().await;
    let started = bench
        .put(
            "/apis/weather",
            import_body("Weather", "/mcp/weather/", &openapi()),
        )
        .await;
    assert_eq!((started.status, started.text.as_str()), (202, ""));
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
                .set(json!({"asyncHeaders": headers, "importStatus": status, "importVisible": "atEnd"}))
                .await
                .unwrap();
            let started = bench
                .put(&name, import_body("Weather", &name[1..], &openapi()))
                .await;
            assert_eq!(started.status, status);
            assert_eq!(started.header("location").is_some(), location);
            assert_eq!(started.header("azure-asyncoperation").is_some(), operation);
            assert_eq!(bench.get(&name).await.status, 404, "not visible before its end");
            tokio::time::sleep(std::time::Duration::from_millis(60)).await;
            assert_eq!(bench.get(&name).await.status, 200);
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
async fn bad_bodies_and_names_are_refused() {
    let bench = Bench::start().await;
    bench
        .put("/apis/taken", json!({"displayName": "Taken", "path": "taken"}))
        .await;
    bench.put("/backends/used", backend("http://10.0.0.1")).await;
    let long = "x".repeat(81);
    for (path, body, target) in [
        ("/backends/b", json!({"protocol": "http"}), "url"),
        (
            "/backends/b",
            json!({"url": "not a url", "protocol": "http"}),
            "url",
        ),
        (
            "/backends/b",
            json!({"url": "http://x", "protocol": "ftp"}),
            "protocol",
        ),
        (
            "/backends/b",
            json!({"url": "http://x", "protocol": "http", "description": ""}),
            "description",
        ),
        (
            "/backends/b",
            json!({"url": "http://x", "protocol": "http", "tls": {"validate": true}}),
            "tls.validate",
        ),
        (
            "/backends/b",
            json!({"url": "http://x", "protocol": "http", "Url": "http://y"}),
            "Url",
        ),
        (&format!("/backends/{long}"), backend("http://x"), "name"),
        ("/apis/a%3Ab", json!({"path": "x"}), "name"),
        ("/apis/a", json!({"displayName": "A"}), "path"),
        ("/apis/a", json!({"path": "TAKEN"}), "path"),
        ("/apis/a", json!({"path": "a b"}), "path"),
        ("/apis/a", json!({"path": "x".repeat(401)}), "path"),
        ("/apis/a", json!({"path": "x", "protocols": ["ftp"]}), "protocols"),
        ("/apis/a", json!({"path": "x", "type": "soap"}), "type"),
        (
            "/apis/a",
            json!({"path": "x", "format": "openapi+json", "value": "{}"}),
            "representation",
        ),
        (
            "/apis/taken/operations/o",
            json!({"displayName": "O", "method": "GET", "urlTemplate": "/{a}"}),
            "templateParameters",
        ),
        (
            "/apis/taken/operations/o",
            json!({"displayName": "O", "method": "GET"}),
            "urlTemplate",
        ),
        ("/products/p", json!({"description": "none"}), "displayName"),
        ("/products/p", json!({"displayName": "P", "state": "on"}), "state"),
        (
            "/subscriptions/s",
            json!({"displayName": "S", "scope": "/nothing"}),
            "scope",
        ),
        (
            "/subscriptions/s",
            json!({"displayName": "S", "scope": "/apis/none"}),
            "scope",
        ),
        (
            "/subscriptions/s",
            json!({"displayName": "x".repeat(101), "scope": "/apis"}),
            "displayName",
        ),
        (
            "/apis/taken/policies/other",
            json!({"value": "<policies/>"}),
            "name",
        ),
    ] {
        let answer = bench.put(path, body.clone()).await;
        assert_eq!(answer.status, 400, "{path} {body} {answer:?}");
        assert_eq!(answer.json()["error"]["code"], "ValidationError");
        assert_eq!(
            answer.json()["error"]["details"][0]["target"],
            target,
            "{path} {body} {answer:?}"
        );
    }
    bench
        .stand_in
        .control
        .set(json!({"takenPathStatus": 409}))
        .await
        .unwrap();
    assert_eq!(bench.put("/apis/a", json!({"path": "taken"})).await.status, 409);
}

#[tokio::test]
async fn products_link_apis_and_keep_their_subscriptions() {
    let bench = Bench::start().await;
    bench.put("/apis/a", json!({"path": "a"})).await;
    let product = bench.put("/products/p", json!({"displayName": "P"})).await;
    assert_eq!(product.json()["properties"]["state"], "notPublished");
    assert_eq!(
        bench.put("/products/q", json!({"displayName": "p"})).await.status,
        400,
        "names are unique"
    );
    assert_eq!(bench.arm("HEAD", "/products/p/apis/a", None).await.status, 404);
    let api = format!("{}/apis/a", service_path());
    assert_eq!(
        bench
            .put("/products/p/apiLinks/l", json!({"apiId": api}))
            .await
            .status,
        201
    );
    assert_eq!(
        bench
            .put("/products/p/apiLinks/l", json!({"apiId": api}))
            .await
            .status,
        200
    );
    assert_eq!(
        bench
            .put("/products/p/apiLinks/m", json!({"apiId": api}))
            .await
            .status,
        409
    );
    assert_eq!(bench.arm("HEAD", "/products/p/apis/a", None).await.status, 204);
    assert_eq!(
        bench.get("/products/p/apis").await.json()["value"][0]["name"],
        "a"
    );
    assert_eq!(
        bench.get("/apis/a/products").await.json()["value"][0]["name"],
        "p"
    );
    let made = bench
        .put(
            "/subscriptions/s",
            json!({"displayName": "S", "scope": "/products/p"}),
        )
        .await;
    assert_eq!(
        (made.status, made.json()["properties"]["state"].as_str()),
        (201, Some("active"))
    );
    let key = made.json()["properties"]["primaryKey"].clone();
    assert!(
        bench.get("/subscriptions/s").await.json()["properties"]
            .get("primaryKey")
            .is_none()
    );
    let secrets = bench.arm("POST", "/subscriptions/s/listSecrets", None).await;
    assert_eq!(secrets.json()["primaryKey"], key);
    assert_eq!(
        bench
            .arm("POST", "/subscriptions/s/regeneratePrimaryKey", None)
            .await
            .status,
        204
    );
    assert_ne!(
        bench
            .arm("POST", "/subscriptions/s/listSecrets", None)
            .await
            .json()["primaryKey"],
        key
    );
    assert_eq!(bench.delete("/products/p").await.status, 400);
    assert_eq!(
        bench.delete("/products/p?deleteSubscriptions=true").await.status,
        200
    );
    assert_eq!(bench.get("/subscriptions/s").await.status, 404);
    let documents = bench.stand_in.control.documents().await.unwrap();
    assert!(
        documents
            .iter()
            .all(|document| !document.to_string().contains(key.as_str().unwrap()))
    );
}

#[tokio::test]
async fn deleting_an_api_takes_what_hangs_on_it() {
    let bench = Bench::start().await;
    for kept in [false, true] {
        let setting = if kept { "kept" } else { "deleted" };
        bench
            .stand_in
            .control
            .set(json!({"subscriptionsOfDeletedApi": setting}))
            .await
            .unwrap();
        bench.put("/apis/a", json!({"path": "a"})).await;
        bench.put("/products/p", json!({"displayName": "P"})).await;
        bench
            .put("/products/p/apiLinks/l", json!({"apiId": "/apis/a"}))
            .await;
        bench
            .put(
                "/subscriptions/s",
                json!({"displayName": "S", "scope": "/apis/a"}),
            )
            .await;
        bench.put("/tags/t", json!({"displayName": "T"})).await;
        assert_eq!(bench.arm("PUT", "/apis/a/tags/t", None).await.status, 201);
        assert_eq!(
            bench.get("/apis/a/tags").await.json()["value"][0]["properties"]["displayName"],
            "T"
        );
        let deletion = bench.delete("/apis/a?deleteRevisions=true").await;
        assert_eq!(bench.follow(&deletion).await, "Succeeded");
        assert_eq!(bench.get("/products/p/apiLinks/l").await.status, 404);
        assert_eq!(
            bench.get("/subscriptions/s").await.status,
            if kept { 200 } else { 404 }
        );
        assert_eq!(bench.get("/apis/a/tags").await.status, 404);
    }
}

#[tokio::test]
async fn a_backend_in_use_stays() {
    let bench = Bench::start().await;
    bench
        .weather("http://127.0.0.1:1", "", "<forward-request/>")
        .await;
    let refused = bench.delete("/backends/weather").await;
    assert_eq!(refused.status, 400, "{refused:?}");
    assert_eq!(bench.delete("/apis/weather/policies/policy").await.status, 200);
    assert_eq!(bench.delete("/backends/weather").await.status, 200);
}

#[tokio::test]
async fn lists_are_filtered_and_paged() {
    let bench = Bench::start().await;
    bench.stand_in.control.set(json!({"pageSize": 2})).await.unwrap();
    for name in ["a", "b", "c", "d", "e"] {
        bench
            .put(
                &format!("/apis/{name}"),
                json!({"path": name, "displayName": format!("The {name}")}),
            )
            .await;
    }
    let mut url = Some(format!(
        "{}{}/apis?api-version=2024-05-01",
        bench.stand_in.arm_url,
        service_path()
    ));
    let mut names = Vec::new();
    while let Some(page) = url {
        let page = bench.send(bench.client.get(page).bearer_auth(TOKEN)).await.json();
        assert_eq!(page["count"], 5);
        names.extend(
            page["value"]
                .as_array()
                .unwrap()
                .iter()
                .map(|api| api["name"].as_str().unwrap().to_owned()),
        );
        url = page["nextLink"].as_str().map(str::to_owned);
    }
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    for (filter, count) in [
        ("path eq 'b'", 1),
        ("startswith(displayName,'The ')", 5),
        ("name ne 'a' and path ge 'c'", 3),
    ] {
        let request = bench.request(Method::GET, "/apis").query(&[("$filter", filter)]);
        assert_eq!(bench.send(request).await.json()["count"], count, "{filter}");
    }
    let request = bench
        .request(Method::GET, "/apis")
        .query(&[("$filter", "nonsense")]);
    assert_eq!(bench.send(request).await.status, 400);
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
