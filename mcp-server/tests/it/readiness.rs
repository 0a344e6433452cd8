//! Readiness that depends on the weather service, when it is told to.

use crate::fake_nws::{Answer, FakeNws};
use crate::harness::{Server, get, until_within};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Each of its questions has a third of the limit, which a busy machine may need.
const LIMIT: &str = "--ready-upstream=1.5";
const PATIENCE: Duration = Duration::from_secs(30);

async fn status(server: &Server) -> u16 {
    get(format!("{}/ready", server.url))
        .await
        .unwrap()
        .status()
        .as_u16()
}

#[tokio::test]
async fn a_replica_that_cannot_reach_the_service_is_not_ready_until_it_can() {
    let broken = Arc::new(AtomicBool::new(true));
    let now = Arc::clone(&broken);
    let nws = FakeNws::start(move |_, _| {
        let status = if now.load(Ordering::Acquire) { 502 } else { 404 };
        Answer::problem(status, b"{}")
    })
    .await;
    let patient = Server::start(&nws.url, &["--ready-upstream=600"]).await;
    let server = Server::start(&nws.url, &[LIMIT]).await;
    until_within(PATIENCE, "it is not ready", async || status(&server).await == 503).await;
    assert_eq!(
        status(&patient).await,
        200,
        "it has not been silent for long enough"
    );
    let text = get(format!("{}/ready", server.url))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        text.contains("the weather service has not answered for"),
        "{text}"
    );
    assert_eq!(get(format!("{}/health", server.url)).await.unwrap().status(), 200);
    broken.store(false, Ordering::Release);
    until_within(PATIENCE, "it is ready again, without a call", async || {
        status(&server).await == 200
    })
    .await;
}

#[tokio::test]
async fn readiness_does_not_depend_on_the_service_unless_told_to() {
    let nws = FakeNws::good().await;
    let server = Server::start(&nws.url, &[]).await;
    let watch = tokio::time::timeout(Duration::from_secs(5), server.app.reach.clone().watch());
    assert!(watch.await.is_ok(), "it has nothing to watch");
    assert_eq!(status(&server).await, 200);
    assert!(nws.seen().is_empty(), "nobody asked: {:?}", nws.seen());
}
