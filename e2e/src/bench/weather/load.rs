//! The load: the same work over and over on kept connections, as fast as answers come or at a fixed rate. In: address and work.
//! Out: how much was done in how long, as one line of JSON; any wrong answer is an error.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tokio::task::LocalSet;

use super::connection::Connection;
use super::handshake;
use super::pace::Pace;
use crate::bench::process::cpu_seconds_of;
use crate::bench::statistics::percentile;

/// A stuck server fails the run instead of holding it.
const LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[arg(long)]
    address: SocketAddr,
    /// File with the whole request, head and body; without it, the work is a handshake and a call
    #[arg(long, requires = "body_bytes")]
    request: Option<PathBuf>,
    /// Bytes that each answer's body must have
    #[arg(long, default_value_t = 0)]
    body_bytes: usize,
    #[arg(long)]
    connections: usize,
    /// Requests that are due in a second, whatever becomes of them; without it, each waits for the answer before
    #[arg(long)]
    rate: Option<u32>,
    /// For so long answers count
    #[arg(long)]
    seconds: f64,
    /// For so long before they do not
    #[arg(long)]
    warm_up: f64,
}

/// What one run saw.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Seen {
    pub requests: usize,
    pub seconds: f64,
    pub p50_microseconds: u32,
    pub p99_microseconds: u32,
    pub max_microseconds: u32,
    /// CPU time that the load itself took, warm-up included.
    pub load_cpu_seconds: f64,
}

pub async fn run(options: Options) -> Result<()> {
    println!("{}", serde_json::to_string(&on_one_thread(options).await?)?);
    Ok(())
}

/// A runtime of several threads would wake one thread from another for every answer.
async fn on_one_thread(options: Options) -> Result<Seen> {
    tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(load(&options))
    })
    .await?
}

/// What is done again and again.
#[derive(Debug)]
enum Work {
    /// One request, prepared as bytes.
    Call { request: Vec<u8>, body_bytes: usize },
    /// initialize, notifications/initialized, tools/call, and the end of the session if there is one.
    Handshake,
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    work: Work,
    pace: Pace,
    begin: Instant,
    end: Instant,
}

async fn load(options: &Options) -> Result<Seen> {
    let work = match &options.request {
        Some(file) => Work::Call {
            request: std::fs::read(file).context("failed to read the request")?,
            body_bytes: options.body_bytes,
        },
        None => Work::Handshake,
    };
    let now = Instant::now();
    let begin = now + Duration::from_secs_f64(options.warm_up);
    let shared = Rc::new(Shared {
        address: options.address,
        work,
        pace: Pace::with_rate(options.rate, now),
        begin,
        end: begin + Duration::from_secs_f64(options.seconds),
    });
    let local = LocalSet::new();
    let tasks: Vec<_> = (0..options.connections)
        .map(|_| local.spawn_local(work_repeatedly(Rc::clone(&shared))))
        .collect();
    let mut times = Vec::new();
    local
        .run_until(async {
            for task in tasks {
                times.extend(task.await??);
            }
            Ok::<_, anyhow::Error>(())
        })
        .await?;
    times.sort_unstable();
    let at = |percent| percentile(&times, percent).context("no answer came in time");
    Ok(Seen {
        requests: times.len(),
        seconds: options.seconds,
        p50_microseconds: at(50)?,
        p99_microseconds: at(99)?,
        max_microseconds: at(100)?,
        load_cpu_seconds: cpu_seconds_of(std::process::id())?,
    })
}

/// One connection's work; the microseconds that each counted piece took.
async fn work_repeatedly(shared: Rc<Shared>) -> Result<Vec<u32>> {
    let mut connection = Connection::open(shared.address).await?;
    let mut times = Vec::with_capacity(1 << 14);
    loop {
        let started = shared.pace.due().await;
        if started >= shared.end {
            return Ok(times);
        }
        tokio::time::timeout(LIMIT, work_once(&mut connection, &shared))
            .await
            .context("no answer within 10 s")??;
        let ended = Instant::now();
        let counts = match shared.pace {
            Pace::AsAnswered => ended >= shared.begin && ended < shared.end,
            // However late the answer was.
            Pace::Fixed(_) => started >= shared.begin,
        };
        if counts {
            times.push(u32::try_from((ended - started).as_micros()).unwrap_or(u32::MAX));
        }
    }
}

async fn work_once(connection: &mut Connection, shared: &Shared) -> Result<()> {
    match &shared.work {
        Work::Call { request, body_bytes } => {
            let answer = connection.call(request).await?;
            ensure!(answer.status == 200, "the server answered {}", answer.status);
            ensure!(
                answer.body.len() == *body_bytes,
                "a body of {} bytes instead of {body_bytes}",
                answer.body.len()
            );
            Ok(())
        }
        Work::Handshake => handshake::call(connection, shared.address).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::weather::bare;
    use tokio::net::TcpStream;

    #[tokio::test]
    async fn only_full_answers_of_the_bare_handler_count() {
        let folder = tempfile::tempdir().unwrap();
        let (answer, request) = (folder.path().join("answer"), folder.path().join("request"));
        std::fs::write(&answer, "{\"ok\":true}").unwrap();
        let port = crate::bench::weather::system::free_port().unwrap();
        std::fs::write(&request, crate::bench::weather::call::request(port)).unwrap();
        let server = tokio::spawn(bare::run(bare::Options { port, answer }));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        while TcpStream::connect(address).await.is_err() {
            assert!(!server.is_finished());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut options = Options {
            address,
            request: Some(request),
            body_bytes: 11,
            connections: 3,
            rate: None,
            seconds: 0.2,
            warm_up: 0.0,
        };
        let seen = on_one_thread(options.clone()).await.unwrap();
        assert!(
            seen.requests > 3 && seen.p50_microseconds <= seen.p99_microseconds,
            "{seen:?}"
        );
        options.rate = Some(100);
        // Due in 0.2 s, the first at once.
        assert_eq!(on_one_thread(options.clone()).await.unwrap().requests, 20);
        options.body_bytes = 12;
        let wrong = on_one_thread(options).await.unwrap_err().to_string();
        assert!(wrong.contains("11 bytes instead of 12"), "{wrong}");
        server.abort();
    }
}
