//! Two replicas with real clients: one is killed, one is told to end, the key changes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mcp_fleet_e2e::clients::{Sdk, WAYS, Way};
use mcp_fleet_e2e::nws::{self, Replay};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::Test;
use crate::proxy::Proxy;
use crate::server::{LIMIT, Replicas};
use crate::session::{Outcome, Session, Stream};
use crate::world::World;

const SSE: Way = WAYS[2];

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("replicas::killing_one_drops_only_its_own_streams", killed),
        Test::new(
            "replicas::one_that_drains_answers_its_calls_and_ends_its_streams",
            drained,
        ),
        Test::new("replicas::a_changed_key_drops_no_stream", rotated),
    ]
}

/// A client whose stream is at the replica whose turn it is.
async fn connect(world: &World, sdk: Sdk, proxy: &Proxy) -> Result<Session> {
    Session::start(world.client(sdk, SSE, &proxy.url)?).await
}

/// Which replica holds each stream, in the order in which they were opened.
fn holders(proxy: &Proxy) -> Vec<usize> {
    let seen = proxy.seen();
    let streams = seen.iter().filter(|seen| seen.path.ends_with("/sse"));
    streams.filter_map(|stream| stream.replica).collect()
}

async fn killed(world: Arc<World>) -> Result<()> {
    let mut replicas = Replicas::start(&world.weather, &world.nws.url, &[]).await?;
    let proxy = Proxy::start(&replicas.addresses()).await?;
    let mut python_lost = connect(&world, Sdk::Python, &proxy).await?;
    let mut python = connect(&world, Sdk::Python, &proxy).await?;
    let mut typescript_lost = connect(&world, Sdk::TypeScript, &proxy).await?;
    let mut typescript = connect(&world, Sdk::TypeScript, &proxy).await?;
    let mut wire_lost = Stream::open(&proxy.url).await?;
    let mut wire = Stream::open(&proxy.url).await?;
    ensure!(holders(&proxy) == [0, 1, 0, 1, 0, 1], "{:?}", proxy.seen());
    for session in [
        &mut python_lost,
        &mut python,
        &mut typescript_lost,
        &mut typescript,
    ] {
        session.check_call("WA").await?;
    }

    replicas.servers[0].signal(Signal::SIGKILL)?;
    replicas.servers[0].ended().await?;
    proxy.forget(0);
    ensure!(
        wire_lost.next().await.is_err(),
        "the dead replica's stream is cut off"
    );
    for round in 0..3 {
        wire.check().await?;
        for session in [&mut python, &mut typescript] {
            session
                .check_call("OR")
                .await
                .with_context(|| format!("round {round} after the death of the other replica"))?;
        }
    }
    let lost = python_lost.call("OR").await?;
    ensure!(
        matches!(lost, Outcome::Failed { .. }),
        "the dead replica's client is told: {lost:?}"
    );
    // This SDK opens a new stream by itself.
    answered_again(&mut typescript_lost).await?;
    // Whoever comes now finds the replica that is left.
    connect(&world, Sdk::Python, &proxy).await?.check_call("OR").await
}

/// Asks until it is answered.
async fn answered_again(session: &mut Session) -> Result<()> {
    let started = Instant::now();
    loop {
        match session.call("OR").await? {
            Outcome::Answered(answer) => return answer.check(),
            Outcome::Failed { failed } => {
                ensure!(
                    started.elapsed() < LIMIT,
                    "the client does not come back: {failed}"
                );
                sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn drained(world: Arc<World>) -> Result<()> {
    // Slow enough that a call is on its way when the signal comes.
    let slow = nws::Options {
        delay: Duration::from_secs(2),
        ..nws::Options::default()
    };
    let nws = Replay::start(slow).await?;
    let settings = [("DRAIN_DELAY_SECONDS", "0.5".to_owned())];
    let mut replicas = Replicas::start(&world.weather, &nws.url, &settings).await?;
    let proxy = Proxy::start(&replicas.addresses()).await?;
    let mut sessions = Vec::new();
    let mut streams = Vec::new();
    for sdk in [Sdk::Python, Sdk::TypeScript] {
        sessions.push(connect(&world, sdk, &proxy).await?);
        streams.push(Stream::open(&proxy.url).await?);
    }
    ensure!(holders(&proxy) == [0, 1, 0, 1], "{:?}", proxy.seen());
    let mut quiet = Stream::open(&proxy.url).await?;

    for (session, state) in sessions.iter_mut().zip(["WA", "OR"]) {
        session.order("get_alerts", &json!({"state": state})).await?;
    }
    let started = Instant::now();
    while nws.requests().len() < 2 {
        ensure!(started.elapsed() < LIMIT, "no call arrived");
        sleep(Duration::from_millis(10)).await;
    }
    replicas.servers[0].signal(Signal::SIGTERM)?;
    for session in &mut sessions {
        match session.outcome().await? {
            Outcome::Answered(answer) => answer.check()?,
            Outcome::Failed { failed } => anyhow::bail!("a call that was under way failed: {failed}"),
        }
    }
    let last = quiet.next().await?.context("a comment before the end")?;
    ensure!(last.starts_with(':'), "a comment before the end: {last}");
    ensure!(quiet.next().await?.is_none(), "and then the end");
    let ended = replicas.servers[0].ended().await?;
    ensure!(ended.success(), "everything was finished in time: {ended}");
    proxy.forget(0);
    for stream in &mut streams {
        stream.check().await.context("a stream of the other replica")?;
    }
    Ok(())
}

async fn rotated(world: Arc<World>) -> Result<()> {
    let replicas = Replicas::start(&world.weather, &world.nws.url, &[]).await?;
    let proxy = Proxy::start(&replicas.addresses()).await?;
    let mut sessions = vec![
        connect(&world, Sdk::Python, &proxy).await?,
        connect(&world, Sdk::TypeScript, &proxy).await?,
    ];
    ensure!(holders(&proxy) == [0, 1], "{:?}", proxy.seen());
    replicas.rotate_key()?;
    for server in &replicas.servers {
        server.logged("replica key changed").await?;
    }
    sessions.push(connect(&world, Sdk::Python, &proxy).await?);
    // Twice, so that each message lands once on either replica.
    for state in ["WA", "OR"] {
        for session in &mut sessions {
            session.check_call(state).await?;
        }
    }
    ensure!(
        holders(&proxy).len() == sessions.len(),
        "no client opened another stream: {:?}",
        proxy.seen()
    );
    Ok(())
}
