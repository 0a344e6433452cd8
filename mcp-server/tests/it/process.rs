//! The binary itself: its configuration, its signals, its log.

use crate::fake_nws::FakeNws;
use crate::harness::Events;
use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

pub(crate) fn command(nws: &str) -> Command {
    command_of(env!("CARGO_BIN_EXE_mcp-weather"), nws)
}

/// A binary of ours with nothing in its environment that the test run has.
pub(crate) fn command_of(binary: &str, nws: &str) -> Command {
    let mut command = Command::new(binary);
    let keep = ["PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"]
        .into_iter()
        .filter_map(|name| std::env::var_os(name).map(|value| (name, value)));
    command
        .env_clear()
        .envs(keep.collect::<Vec<_>>())
        .env("NWS_BASE_URL", nws);
    command
}

/// Below those that the system hands out (Linux, ip_local_port_range), so that nobody is given one between its choice and its use.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A port on which nobody listens, neither on 127.0.0.1 nor on 127.0.0.2, and which no other test of this run is given.
pub(crate) fn free_port() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let all = PORTS.end - PORTS.start;
    // Another run at the same time begins elsewhere.
    let first = u16::try_from(u64::from(std::process::id()) * 101 % u64::from(all)).unwrap();
    (0..100)
        .map(|_| PORTS.start + (first + GIVEN.fetch_add(1, Ordering::Relaxed)) % all)
        .find(|port| {
            let bind = |last| TcpListener::bind((Ipv4Addr::new(127, 0, 0, last), *port));
            bind(1).and_then(|_| bind(2)).is_ok()
        })
        .expect("no port is free")
}

/// Running, on which port.
pub(crate) async fn started(command: &mut Command) -> (Child, u16) {
    let (port, metrics) = (free_port(), free_port());
    let mut child = command
        .env("PORT", port.to_string())
        .env("METRICS_PORT", metrics.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let limit = Instant::now() + Duration::from_mins(1);
    while crate::harness::get(format!("http://127.0.0.1:{port}/ready"))
        .await
        .is_err()
    {
        assert!(
            child.try_wait().unwrap().is_none() && Instant::now() < limit,
            "it did not start"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (child, port)
}

#[tokio::test]
async fn sigterm_ends_it_well_and_the_log_holds_no_secret() {
    let nws = FakeNws::good().await;
    let (mut child, port) = started(
        command(&nws.url)
            .env("DRAIN_DELAY_SECONDS", "0.1")
            .env("RUST_LOG", "trace"),
    )
    .await;
    let mut events = Events::open(&format!("http://127.0.0.1:{port}/sse")).await;
    let id = events.id().to_owned();
    let call = serde_json::json!({"name": "get_alerts", "arguments": {"state": "OR"}});
    assert_eq!(
        events
            .post(&crate::harness::request(1, "tools/call", &call))
            .await,
        202
    );
    assert_eq!(events.message().await["id"], 1);
    assert!(
        Command::new("kill")
            .args(["-TERM", &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(
        events.next().await.unwrap(),
        ": the server ends this stream, reconnect"
    );
    assert_eq!(events.next().await, None);
    let exit = tokio::task::spawn_blocking(move || {
        let mut log = String::new();
        child.stdout.take().unwrap().read_to_string(&mut log).unwrap();
        (child.wait().unwrap(), log)
    });
    let (status, log) = exit.await.unwrap();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains(&id), "a session id is in the log");
    for line in log.lines() {
        assert!(
            serde_json::from_str::<serde_json::Value>(line).is_ok(),
            "not JSON: {line}"
        );
    }
    assert!(
        log.contains(r#""audit":"tool_call""#) && log.contains(r#""audit":"closed""#),
        "the audit is on by default, and whole: {log}"
    );
    assert!(
        log.contains(r#""route":"POST /mcp""#) && log.contains(r#""message":"drained""#),
        "{log}"
    );
}

#[test]
fn check_config_prints_and_ends() {
    let output = command("http://nws.example")
        .args(["--check-config", "--max-streams=7"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success()
            && text
                .lines()
                .all(|line| line.contains('=') && !line.starts_with('{'))
            && text.contains("MAX_STREAMS=7\n")
            && text.contains("NWS_BASE_URL=http://nws.example\n"),
        "{text}"
    );
}

#[tokio::test]
async fn the_health_check_asks_the_server_of_the_same_settings() {
    let nws = FakeNws::good().await;
    // It drains for as long as it is asked; the end of that is not waited for.
    let mut draining = command(&nws.url);
    draining
        .env("DRAIN_DELAY_SECONDS", "60")
        .env("GRACE_SECONDS", "120");
    let (mut child, port) = started(&mut draining).await;
    let mut settings = draining.get_envs();
    let (_, metrics) = settings.find(|(name, _)| *name == "METRICS_PORT").unwrap();
    let metrics = metrics.unwrap().to_str().unwrap().parse().unwrap();
    let check = |metrics: u16| {
        let mut check = command("http://127.0.0.1:9");
        check
            .env("METRICS_PORT", metrics.to_string())
            .arg("--health-check");
        tokio::task::spawn_blocking(move || check.output().unwrap())
    };
    assert!(check(metrics).await.unwrap().status.success());
    assert!(
        Command::new("kill")
            .args(["-TERM", &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    crate::harness::until("it drains", async || {
        let ready = crate::harness::get(format!("http://127.0.0.1:{port}/ready")).await;
        ready.is_ok_and(|ready| ready.status() == 503)
    })
    .await;
    let draining = check(metrics).await.unwrap();
    let text = String::from_utf8(draining.stderr).unwrap();
    assert!(
        !draining.status.success() && text.contains("not ready: draining"),
        "{text}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    let gone = check(metrics).await.unwrap();
    let text = String::from_utf8(gone.stderr).unwrap();
    assert!(
        !gone.status.success() && text.contains(&format!("127.0.0.1:{metrics}/ready")),
        "{text}"
    );
}

#[test]
fn bad_configuration_says_what_is_wrong() {
    for (arguments, part) in [
        (vec!["--nws-base-url=ftp://x"], "NWS_BASE_URL"),
        (
            vec!["--replica-key-file=/nowhere/current", "--pod-ip=127.0.0.1"],
            "/nowhere/current",
        ),
        (vec!["--port=x"], "--port"),
    ] {
        let output = command("http://127.0.0.1:9").args(&arguments).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && text.contains(part),
            "{arguments:?}: {text}"
        );
    }
}
