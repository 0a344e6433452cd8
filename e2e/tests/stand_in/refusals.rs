//! Bodies and names that the service refuses.

use serde_json::{Value, json};

use crate::support::Bench;

fn backend(url: &str) -> Value {
    json!({"url": url, "protocol": "http"})
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
