//! From nothing to ready: a weather server is started again and again. Out: milliseconds until GET /ready says yes, and the memory
//! of a server that nobody has asked anything.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::connection::Connection;
use super::systems::{Setup, WEATHER};
use crate::bench::process::Process;
use crate::bench::statistics::median;
use crate::progress::Progress;

const LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(1);
/// A server may still free what only its start needed.
const SETTLE: Duration = Duration::from_secs(1);

#[derive(Debug, Serialize)]
pub struct Starts {
    /// The median.
    pub ready_milliseconds: f64,
    pub idle_rss_kib: u64,
    pub all_milliseconds: Vec<f64>,
}

pub async fn measure(setup: &Setup, times: usize, progress: &Progress) -> Result<Starts> {
    let step = progress.start(format_args!("starting {WEATHER} {times} times"));
    let (mut all_milliseconds, mut idle_rss_kib) = (Vec::new(), 0);
    for _ in 0..times {
        let (port, command) = setup.weather(None)?;
        let started = Instant::now();
        let mut process = Process::start(WEATHER, command, &setup.folder)?;
        while !is_ready(port).await {
            ensure!(
                !process.has_ended()? && started.elapsed() < LIMIT,
                "{WEATHER} does not get ready"
            );
            tokio::time::sleep(POLL).await;
        }
        all_milliseconds.push(started.elapsed().as_secs_f64() * 1000.0);
        tokio::time::sleep(SETTLE).await;
        idle_rss_kib = process.memory()?.now.max(idle_rss_kib);
        process.end().await?;
    }
    step.done();
    Ok(Starts {
        ready_milliseconds: median(&all_milliseconds).context("no rounds")?,
        idle_rss_kib,
        all_milliseconds,
    })
}

async fn is_ready(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let request = format!("GET /ready HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let Ok(mut connection) = Connection::open(address).await else {
        return false;
    };
    let answer = connection.call(request.as_bytes()).await;
    answer.is_ok_and(|answer| answer.status == 200)
}
