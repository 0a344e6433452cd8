//! Open SSE streams: an address and a number go in; each stream shakes hands and makes calls, and stays open until standard input
//! ends. Out: a line of JSON for each thing that was done.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

use super::pace::Pace;
use super::sse::Client;
use crate::bench::statistics::percentile;

/// Clients that come at the same time.
const COMING: usize = 64;
/// The server closes idle connections after 10 s.
const IDLE_LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[arg(long)]
    address: SocketAddr,
    #[arg(long)]
    count: usize,
    /// Calls of each stream after its handshake
    #[arg(long, default_value_t = 10)]
    calls: usize,
    /// Then calls on all streams in turn, so many a second; without it, their POST connections are left idle
    #[arg(long)]
    rate: Option<u32>,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of one round
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
}

/// What was done.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Done {
    /// All streams are open and their first calls answered.
    Opened { seconds: f64 },
    /// A round of calls at a fixed rate: from when a call was due to its answer on the stream.
    RoundTrips {
        calls: usize,
        p50_microseconds: u32,
        p99_microseconds: u32,
        max_microseconds: u32,
    },
    /// The server has closed every POST connection.
    Idle { seconds: f64 },
}

pub async fn run(options: Options) -> Result<()> {
    tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        LocalSet::new().block_on(&runtime, hold(&options))
    })
    .await?
}

async fn hold(options: &Options) -> Result<()> {
    let started = Instant::now();
    let mut clients = open_all(options).await?;
    let seconds = started.elapsed().as_secs_f64();
    say(Done::Opened { seconds })?;
    if let Some(rate) = options.rate {
        for _ in 0..options.rounds {
            let (same, done) = round_trips(clients, rate, options.seconds).await?;
            clients = same;
            say(done)?;
        }
    } else {
        let started = Instant::now();
        let idle = tokio::time::timeout(IDLE_LIMIT, async {
            for client in &mut clients {
                client.idle().await?;
            }
            Ok::<_, anyhow::Error>(())
        });
        idle.await
            .context("POST connections are kept for more than 30 s")??;
        let seconds = started.elapsed().as_secs_f64();
        say(Done::Idle { seconds })?;
    }
    let mut rest = Vec::new();
    tokio::io::stdin().read_to_end(&mut rest).await?;
    drop(clients);
    Ok(())
}

fn say(done: Done) -> Result<()> {
    println!("{}", serde_json::to_string(&done)?);
    Ok(())
}

async fn open_all(options: &Options) -> Result<Vec<Client>> {
    let places = Rc::new(Semaphore::new(COMING));
    let tasks: Vec<_> = (0..options.count)
        .map(|number| {
            let (places, address, calls) = (Rc::clone(&places), options.address, options.calls);
            tokio::task::spawn_local(async move {
                let _place = places.acquire().await?;
                let mut client = Client::open(address, None)
                    .await
                    .with_context(|| format!("failed to open stream {number}"))?;
                for _ in 0..calls {
                    client.call().await?;
                }
                Ok::<_, anyhow::Error>(client)
            })
        })
        .collect();
    let mut clients = Vec::with_capacity(options.count);
    for task in tasks {
        clients.push(task.await??);
    }
    Ok(clients)
}

async fn round_trips(clients: Vec<Client>, rate: u32, seconds: f64) -> Result<(Vec<Client>, Done)> {
    let begin = Instant::now();
    let end = begin + Duration::from_secs_f64(seconds);
    let pace = Rc::new(Pace::with_rate(Some(rate), begin));
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let pace = Rc::clone(&pace);
            tokio::task::spawn_local(async move {
                let mut times = Vec::new();
                loop {
                    let due = pace.due().await;
                    if due >= end {
                        return Ok::<_, anyhow::Error>((client, times));
                    }
                    client.call().await?;
                    times.push(u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX));
                }
            })
        })
        .collect();
    let (mut clients, mut times) = (Vec::new(), Vec::new());
    for task in tasks {
        let (client, own) = task.await??;
        clients.push(client);
        times.extend(own);
    }
    times.sort_unstable();
    let at = |percent| percentile(&times, percent).context("no call was due");
    let done = Done::RoundTrips {
        calls: times.len(),
        p50_microseconds: at(50)?,
        p99_microseconds: at(99)?,
        max_microseconds: at(100)?,
    };
    Ok((clients, done))
}

/// Sessions that come and go.
#[derive(Debug, Clone, clap::Args)]
pub struct ChurnOptions {
    #[arg(long)]
    address: SocketAddr,
    #[arg(long)]
    sessions: usize,
    /// Sessions at once
    #[arg(long, default_value_t = 50)]
    clients: u8,
}

/// Opens a stream, shakes hands, makes one call and leaves, so many times.
pub async fn churn(options: ChurnOptions) -> Result<()> {
    tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        LocalSet::new().block_on(&runtime, come_and_go(&options))
    })
    .await?
}

async fn come_and_go(options: &ChurnOptions) -> Result<()> {
    let left = Rc::new(Cell::new(options.sessions));
    let tasks: Vec<_> = (0..options.clients)
        .map(|number| {
            let (left, address) = (Rc::clone(&left), options.address);
            // Each from an address of its own: the side that closes keeps a port for a minute, and an address has some 28,000.
            let from = [127, 0, 1, number].into();
            tokio::task::spawn_local(async move {
                while let Some(rest) = left.get().checked_sub(1) {
                    left.set(rest);
                    Client::open(address, Some(from)).await?.call().await?;
                }
                Ok::<_, anyhow::Error>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}
