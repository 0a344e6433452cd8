//! How entities hang together: products, links, subscriptions, tags, backends; and lists of them.

use http::Method;
use serde_json::json;

use crate::support::{Bench, TOKEN, service_path};

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
