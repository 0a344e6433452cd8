//! The SSE transport of the weather server: how much memory open streams take under a limit, how long a call takes among them, and
//! whether streams that come and go leave something behind. In: the setup. Out: figures.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use super::streams::Done;
use super::system::System;
use super::systems::Setup;
use crate::bench::control_group::ControlGroup;
use crate::bench::process::on_core;
use crate::bench::statistics::median;
use crate::progress::Progress;

/// What a pod of the weather server may use.
const LIMIT_BYTES: u64 = 128 << 20;
/// Streams that are open while a call's way there and back is timed, and calls a second on all of them.
const ROUND_TRIP_STREAMS: usize = 1000;
const ROUND_TRIP_RATE: u32 = 1000;
/// Sessions after which memory has its level.
const WARM_UP_SESSIONS: usize = 5000;
/// For memory that is freed a moment after the last client has left.
const SETTLE: Duration = Duration::from_secs(2);
const SAMPLE: Duration = Duration::from_millis(200);

/// Many streams at once.
#[derive(Debug, Serialize)]
pub struct Streams {
    pub count: usize,
    pub seconds_to_open: f64,
    /// With every stream open and its calls answered.
    pub opened_rss_kib: u64,
    /// And the clients' idle POST connections closed by the server.
    pub idle_rss_kib: u64,
    pub most_rss_kib: u64,
    pub group: Group,
}

/// The control group, or why there was none.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    Limited {
        version: u8,
        limit_bytes: u64,
        peak_bytes: u64,
    },
    Missing(String),
}

#[derive(Debug, Serialize)]
pub struct RoundTrips {
    pub streams: usize,
    pub calls_per_second: u32,
    /// Medians over the rounds.
    pub p50_milliseconds: f64,
    pub p99_milliseconds: f64,
    pub rounds: Vec<Done>,
}

/// Sessions that come and go.
#[derive(Debug, Serialize)]
pub struct Churn {
    pub sessions: usize,
    pub seconds: f64,
    pub warm_up_sessions: usize,
    pub warm_rss_kib: u64,
    /// While sessions came and went, after the warm-up.
    pub most_rss_kib: u64,
    pub end_rss_kib: u64,
    pub end_to_warm: f64,
}

/// A process that holds streams, and what it says.
struct Holder {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Holder {
    fn start(setup: &Setup, weather: &System, arguments: &[String]) -> Result<Self> {
        let mut child = on_core(setup.load_core, &setup.programs.e2e)
            .args(["bench", "streams", "--address", &weather.address.to_string()])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to start the streams")?;
        let output = child.stdout.take().context("failed to listen to the streams")?;
        let lines = BufReader::new(output).lines();
        Ok(Self { child, lines })
    }

    async fn done(&mut self) -> Result<Done> {
        let line = self.lines.next_line().await?;
        let line =
            line.context("the streams ended early; each needs two files on either side (ulimit -n)")?;
        Ok(serde_json::from_str(&line)?)
    }
}

/// Opens them on a server of their own, so that its memory is theirs alone.
pub async fn hold(setup: &Setup, count: usize, progress: &Progress) -> Result<Streams> {
    let step = progress.start(format_args!("opening {count} SSE streams"));
    let name = format!("mcp-fleet-bench-{}", std::process::id());
    let group = ControlGroup::with_memory(&name, LIMIT_BYTES);
    if let Err(error) = &group {
        progress.say(format_args!("  without a limit of memory: {error:#}"));
    }
    let weather = setup.start_weather(group.as_ref().ok()).await?;
    let mut holder = Holder::start(setup, &weather, &["--count".into(), count.to_string()])?;
    let Done::Opened { seconds } = holder.done().await? else {
        bail!("the streams are not opened first");
    };
    let opened = weather.process.memory()?;
    let Done::Idle { .. } = holder.done().await? else {
        bail!("the streams were not left idle");
    };
    let idle = weather.process.memory()?;
    let group = match group {
        Ok(group) => {
            let limited = Group::Limited {
                version: group.version(),
                limit_bytes: LIMIT_BYTES,
                peak_bytes: group.peak()?,
            };
            ensure!(group.killed()? == 0, "the weather server ran out of memory");
            holder.child.kill().await?;
            weather.process.end().await?;
            limited
        }
        Err(error) => {
            holder.child.kill().await?;
            weather.process.end().await?;
            Group::Missing(format!("{error:#}"))
        }
    };
    step.done();
    Ok(Streams {
        count,
        seconds_to_open: seconds,
        opened_rss_kib: opened.now,
        idle_rss_kib: idle.now,
        most_rss_kib: idle.most,
        group,
    })
}

/// Times calls on many streams in turn.
pub async fn round_trips(
    setup: &Setup,
    rounds: usize,
    seconds: f64,
    progress: &Progress,
) -> Result<RoundTrips> {
    let step = progress.start(format_args!("calling on {ROUND_TRIP_STREAMS} SSE streams"));
    let weather = setup.start_weather(None).await?;
    let arguments = [
        format!("--count={ROUND_TRIP_STREAMS}"),
        "--calls=1".into(),
        format!("--rate={ROUND_TRIP_RATE}"),
        format!("--rounds={rounds}"),
        format!("--seconds={seconds}"),
    ];
    let mut holder = Holder::start(setup, &weather, &arguments)?;
    holder.done().await?;
    let (mut done, mut p50, mut p99) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let round = holder.done().await?;
        if let Done::RoundTrips {
            p50_microseconds,
            p99_microseconds,
            ..
        } = round
        {
            p50.push(f64::from(p50_microseconds) / 1000.0);
            p99.push(f64::from(p99_microseconds) / 1000.0);
        }
        done.push(round);
    }
    holder.child.kill().await?;
    weather.process.end().await?;
    step.done();
    Ok(RoundTrips {
        streams: ROUND_TRIP_STREAMS,
        calls_per_second: ROUND_TRIP_RATE,
        p50_milliseconds: median(&p50).context("no rounds")?,
        p99_milliseconds: median(&p99).context("no rounds")?,
        rounds: done,
    })
}

/// Sessions one after the other, as fast as they go.
pub async fn churn(setup: &Setup, sessions: usize, progress: &Progress) -> Result<Churn> {
    let step = progress.start(format_args!("opening and closing {sessions} SSE sessions"));
    let weather = setup.start_weather(None).await?;
    come_and_go(setup, &weather, WARM_UP_SESSIONS).await?;
    tokio::time::sleep(SETTLE).await;
    let warm = weather.process.memory()?.now;
    let started = Instant::now();
    let most = most_while(&weather, come_and_go(setup, &weather, sessions)).await?;
    let seconds = started.elapsed().as_secs_f64();
    tokio::time::sleep(SETTLE).await;
    let end = weather.process.memory()?.now;
    weather.process.end().await?;
    step.done();
    #[expect(clippy::cast_precision_loss, reason = "memory of a process")]
    let end_to_warm = end as f64 / warm as f64;
    Ok(Churn {
        sessions,
        seconds,
        warm_up_sessions: WARM_UP_SESSIONS,
        warm_rss_kib: warm,
        most_rss_kib: most.max(end),
        end_rss_kib: end,
        end_to_warm,
    })
}

/// The most memory that was seen while the work was done.
async fn most_while(weather: &System, work: impl Future<Output = Result<()>>) -> Result<u64> {
    let mut work = std::pin::pin!(work);
    let mut most = 0;
    loop {
        match tokio::time::timeout(SAMPLE, work.as_mut()).await {
            Ok(done) => break done.map(|()| most),
            Err(_) => most = weather.process.memory()?.now.max(most),
        }
    }
}

async fn come_and_go(setup: &Setup, weather: &System, sessions: usize) -> Result<()> {
    let output = on_core(setup.load_core, &setup.programs.e2e)
        .args(["bench", "churn", "--address", &weather.address.to_string()])
        .args(["--sessions", &sessions.to_string()])
        .output()
        .await
        .context("failed to start the sessions")?;
    ensure!(
        output.status.success(),
        "the sessions failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
