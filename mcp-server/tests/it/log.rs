//! What must not be in the log, at its most talkative: keys, tokens, ids, wherever in a request they are.

use crate::fake_nws::FakeNws;
use crate::harness::{Events, get, http, request, until_within};
use crate::process::{command, free_port};
use crate::raw::Raw;
use crate::replicas::KEY;
use serde_json::json;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

const SECRET: &str = "canary-of-the-gateway";

/// One replica, whose log goes to a file.
struct Replica {
    child: Child,
    url: String,
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn start(address: &str, peer_port: u16, nws: &str, directory: &Path) -> Replica {
    let port = free_port();
    let log = std::fs::File::create(directory.join(format!("{address}.log"))).unwrap();
    let child = command(nws)
        .env("PORT", port.to_string())
        .env("METRICS_PORT", free_port().to_string())
        .env("PEER_PORT", peer_port.to_string())
        .env("BIND_ADDRESS", address)
        .env("POD_IP", address)
        .env("REPLICA_KEY_FILE", directory.join("replicas/current"))
        .env("GATEWAY_SECRET_FILE", directory.join("gateway/current"))
        .env("DRAIN_DELAY_SECONDS", "0")
        .env("RUST_LOG", "trace")
        .stdout(log.try_clone().unwrap())
        .stderr(Stdio::from(log))
        .spawn()
        .unwrap();
    let mut replica = Replica {
        child,
        url: format!("http://{address}:{port}"),
    };
    until_within(Duration::from_secs(30), "it is ready", async || {
        assert!(replica.child.try_wait().unwrap().is_none(), "it did not start");
        get(format!("{}/ready", replica.url)).await.is_ok()
    })
    .await;
    replica
}

/// Every header in which a client or a gateway may send something secret.
const CANARIES: [(&str, &str); 7] = [
    ("ocp-apim-subscription-key", "canary-subscription"),
    ("authorization", "Bearer canary-token"),
    ("cookie", "session=canary-cookie"),
    ("api-key", "canary-api-key"),
    ("mcp-session-id", "canary-session"),
    ("last-event-id", "canary-event"),
    ("x-gateway-secret", SECRET),
];

fn with_canaries(mut asked: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
    for (name, value) in CANARIES {
        asked = asked.header(name, value);
    }
    asked
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
}

#[tokio::test]
async fn no_key_token_or_id_is_in_the_log() {
    let directory = tempfile::tempdir().unwrap();
    for (folder, secret) in [("replicas", KEY), ("gateway", SECRET)] {
        std::fs::create_dir(directory.path().join(folder)).unwrap();
        std::fs::write(directory.path().join(folder).join("current"), secret).unwrap();
    }
    let (nws, peer_port) = (FakeNws::good().await, free_port());
    let first = start("127.0.0.1", peer_port, &nws.url, directory.path()).await;
    let second = start("127.0.0.2", peer_port, &nws.url, directory.path()).await;

    let opening = with_canaries(http().get(format!("{}/sse?subscription-key=canary-query", first.url)));
    let opening = opening
        .header("accept", "text/event-stream")
        .send()
        .await
        .unwrap();
    let mut events = Events::read(opening, &first.url).await;
    let id = events.id().to_owned();
    let call = json!({"name": "get_alerts", "arguments": {"state": "OR"}});
    let call = request(1, "tools/call", &call).to_string();
    for (path, expected) in [
        (format!("{}/mcp?subscription-key=canary-query", first.url), 200),
        (
            format!(
                "{}/messages/{id}?session_id={id}&subscription-key=canary-query",
                first.url
            ),
            202,
        ),
        (
            format!(
                "{}/messages/{id}?session_id={id}&subscription-key=canary-query",
                second.url
            ),
            202,
        ),
        (format!("{}/messages/canary-path", first.url), 404),
        (
            format!("{}/messages/{id}?session_id=canary-other", first.url),
            400,
        ),
        (format!("{}/canary-path", first.url), 404),
    ] {
        let sent = with_canaries(http().post(&path))
            .body(call.clone())
            .send()
            .await
            .unwrap();
        assert_eq!(sent.status().as_u16(), expected, "{path}");
    }
    for _ in 0..2 {
        assert_eq!(events.message().await["id"], 1);
    }
    // What cannot be read as HTTP, and who is not let in.
    let mut broken = Raw::connect(&first.url).await;
    broken
        .send("POST /mcp?key=canary-query HTTP/1.1\r\nauthorization: Bearer canary-token\x01\r\n\r\n")
        .await;
    assert!(matches!(broken.status().await, None | Some(400)));
    let refused = http()
        .post(format!("{}/mcp", first.url))
        .header("x-gateway-secret", "canary-wrong");
    assert_eq!(refused.send().await.unwrap().status(), 401);
    drop(events);

    for (replica, address) in [(first, "127.0.0.1"), (second, "127.0.0.2")] {
        drop(replica);
        let log = std::fs::read_to_string(directory.path().join(format!("{address}.log"))).unwrap();
        assert!(
            log.contains(r#""level":"TRACE""#) || log.contains(r#""level":"DEBUG""#),
            "{log}"
        );
        for secret in ["canary", &id, &id[..20], KEY] {
            let line = log.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{secret} is in the log");
        }
        let fingerprint = mcp_weather::replica::session_id::Fingerprint(&id).to_string();
        assert!(
            log.contains(&fingerprint),
            "{address} says nothing about the session"
        );
    }
}
