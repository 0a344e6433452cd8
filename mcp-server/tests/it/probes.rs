//! Probes on the metrics port, which no crowd on the public port keeps from the server.

use crate::harness::{Server, http, until};
use crate::raw::Raw;

#[tokio::test]
async fn whoever_holds_all_connections_does_not_keep_probes_from_the_metrics_port() {
    let flags = ["--max-connections=2", "--header-time=60", "--drain-delay=2"];
    let mut server = Server::start("http://127.0.0.1:9", &flags).await;
    let mut crowd = Vec::new();
    for _ in 0..3 {
        let mut client = Raw::connect(&server.url).await;
        client.send("GET /health HTTP/1.1\r\n").await;
        crowd.push(client);
    }
    until("the cap is reached", async || {
        let metrics = server.app.metrics.render();
        metrics.contains("mcp_weather_connections_full_total 1")
    })
    .await;
    let base = server.metrics.strip_suffix("/metrics").unwrap().to_owned();
    let status = async |path: &str| {
        // A probe may name any host.
        let asked = http().get(format!("{base}{path}")).header("host", "evil.com");
        asked.send().await.unwrap().status().as_u16()
    };
    assert_eq!(status("/health").await, 200);
    assert_eq!(status("/ready").await, 200);
    server.ask_to_stop();
    until("it is not ready", async || status("/ready").await == 503).await;
    assert_eq!(status("/health").await, 200);
    assert_eq!(status("/mcp").await, 404);
}
