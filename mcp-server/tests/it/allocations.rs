//! What one call takes from the allocator: a ceiling, counted, so that nobody makes the hot path dearer without noticing.
//!
//! The router is called in process with a ready request and a cached answer, with the audit, the metrics and every check on, as in
//! the image. hyper's own work on the bytes of a connection is not in it.

use crate::fake_nws::FakeNws;
use crate::harness::{META, app, post};
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

const CALLS: u64 = 500;
/// Above what was counted. A release of axum or hyper may box one thing more; a copy of arguments or answer per call would not fit.
const MARGIN: u64 = 2;

struct Case {
    name: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: Value,
    /// Allocations of one call, as counted: some are of the router and of reading the body, which every handler on axum has.
    counted: u64,
}

fn cases() -> [Case; 2] {
    let call = |params: Value| json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    let meta: Value = serde_json::from_str(META).unwrap();
    [
        Case {
            name: "2026-07-28",
            headers: &[
                ("mcp-protocol-version", "2026-07-28"),
                ("mcp-method", "tools/call"),
                ("mcp-name", "get_alerts"),
                ("mcp-param-state", "OR"),
            ],
            body: call(json!({"_meta": meta, "name": "get_alerts", "arguments": {"state": "OR"}})),
            counted: 26,
        },
        Case {
            name: "2025-11-25",
            headers: &[("mcp-protocol-version", "2025-11-25")],
            body: call(json!({"name": "get_alerts", "arguments": {"state": "OR"}})),
            counted: 25,
        },
    ]
}

async fn answer(router: &Router, request: Request<Body>) -> Bytes {
    let response = router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    response.into_body().collect().await.unwrap().to_bytes()
}

#[test]
fn a_call_stays_below_its_ceiling() {
    // The counter counts one thread.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (_nws, router) = runtime.block_on(async {
        let nws = FakeNws::good().await;
        let (_, router) = app(&nws.url, &["--audit-log=/dev/null"]);
        (nws, router)
    });
    for case in cases() {
        let body = Bytes::from(case.body.to_string());
        let request = || {
            let headers = case.headers.iter();
            let request = headers.fold(post("/mcp"), |request, (name, value)| {
                request.header(*name, *value)
            });
            request.body(Body::from(body.clone())).unwrap()
        };
        // Fetched once; and the audit's queue and the metrics' series grow to their size.
        for _ in 0..CALLS {
            let answer = runtime.block_on(answer(&router, request()));
            assert!(answer.windows(7).any(|part| part == b"Event: "), "{answer:?}");
        }
        let requests: Vec<_> = (0..CALLS).map(|_| request()).collect();
        let counted = allocation_counter::measure(|| {
            runtime.block_on(async {
                for request in requests {
                    answer(&router, request).await;
                }
            });
        });
        let (each, ceiling) = (counted.count_total.div_ceil(CALLS), case.counted + MARGIN);
        assert!(
            each <= ceiling,
            "a call in {} takes {each} allocations of {} bytes in all; the ceiling is {ceiling}",
            case.name,
            counted.bytes_total / CALLS,
        );
    }
}
