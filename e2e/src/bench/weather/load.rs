//! The load: one request, prepared as bytes, over and over on kept connections. In: address, request and the answer's size.
//! Out: how many answers came in how long, as one line of JSON; any answer that is not 200 or has another size is an error.
//!
//! It writes bytes and looks for the head's end, no more, so that it needs less time for a call than any server does.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use crate::bench::process::cpu_seconds_of;
use crate::bench::statistics::percentile;

/// A stuck server fails the run instead of holding it.
const LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[arg(long)]
    address: SocketAddr,
    /// File with the whole request, head and body
    #[arg(long)]
    request: PathBuf,
    /// Bytes that each answer's body must have
    #[arg(long)]
    body_bytes: usize,
    #[arg(long)]
    connections: usize,
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
    println!("{}", serde_json::to_string(&load(&options).await?)?);
    Ok(())
}

async fn load(options: &Options) -> Result<Seen> {
    let request: Rc<[u8]> = std::fs::read(&options.request)
        .context("failed to read the request")?
        .into();
    let begin = Instant::now() + Duration::from_secs_f64(options.warm_up);
    let window = Window {
        begin,
        end: begin + Duration::from_secs_f64(options.seconds),
    };
    let local = LocalSet::new();
    let tasks: Vec<_> = (0..options.connections)
        .map(|_| {
            let calls = call_repeatedly(options.address, request.clone(), options.body_bytes, window);
            local.spawn_local(calls)
        })
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

/// Answers count that come within it.
#[derive(Debug, Clone, Copy)]
struct Window {
    begin: Instant,
    end: Instant,
}

/// One connection's calls; the microseconds that each counted one took.
async fn call_repeatedly(
    address: SocketAddr,
    request: Rc<[u8]>,
    body_bytes: usize,
    window: Window,
) -> Result<Vec<u32>> {
    let mut connection = Connection::open(address).await?;
    let mut times = Vec::with_capacity(1 << 14);
    loop {
        let started = Instant::now();
        if started >= window.end {
            return Ok(times);
        }
        let answer = tokio::time::timeout(LIMIT, connection.call(&request))
            .await
            .context("no answer within 10 s")??;
        ensure!(answer.status == 200, "the server answered {}", answer.status);
        ensure!(
            answer.body.len() == body_bytes,
            "a body of {} bytes instead of {body_bytes}",
            answer.body.len()
        );
        let ended = Instant::now();
        if ended >= window.begin && ended < window.end {
            times.push(u32::try_from((ended - started).as_micros()).unwrap_or(u32::MAX));
        }
    }
}

/// A kept HTTP/1.1 connection with one request at a time on it.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer, read to its end.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    pub status: u16,
    pub body: &'a [u8],
}

/// What is known once an answer's head is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    bytes: usize,
    status: u16,
    body_bytes: usize,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("failed to connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: vec![0; 64 << 10],
        })
    }

    pub async fn call(&mut self, request: &[u8]) -> Result<Answer<'_>> {
        self.stream.write_all(request).await?;
        let (mut filled, mut head) = (0, None);
        loop {
            ensure!(filled < self.buffer.len(), "an answer of more than 64 KiB");
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            if read == 0 {
                bail!("the server closed the connection");
            }
            filled += read;
            if head.is_none() {
                head = read_head(&self.buffer[..filled])?;
            }
            let Some(head) = head else { continue };
            let end = head.bytes + head.body_bytes;
            ensure!(filled <= end, "more bytes than one answer has");
            if filled == end {
                return Ok(Answer {
                    status: head.status,
                    body: &self.buffer[head.bytes..end],
                });
            }
        }
    }
}

/// None as long as the head is not complete.
fn read_head(bytes: &[u8]) -> Result<Option<Head>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..end]).context("a head that is not text")?;
    let mut lines = text.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    });
    Ok(Some(Head {
        bytes: end + 4,
        status: status.context("an answer that is not HTTP/1.1")?,
        body_bytes: length.with_context(|| format!("an answer without a length: {text}"))?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::weather::bare;
    use tokio::net::TcpListener;

    #[test]
    fn a_head_is_read_when_it_is_complete() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Type: x\r\nCONTENT-length: 5\r\n\r\nhe";
        assert_eq!(
            read_head(text).unwrap(),
            Some(Head {
                bytes: text.len() - 2,
                status: 200,
                body_bytes: 5
            })
        );
        assert_eq!(read_head(&text[..30]).unwrap(), None);
        for bad in ["HTTP/1.1 200 OK\r\n\r\n", "ICY 200\r\ncontent-length: 1\r\n\r\n"] {
            assert!(read_head(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn an_answer_may_come_in_pieces() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4];
            stream.read_exact(&mut request).await.unwrap();
            for piece in [
                "HTTP/1.1 404 Not",
                " Found\r\ncontent-length: 3\r\n\r",
                "\na",
                "bc",
            ] {
                stream.write_all(piece.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
            }
            request
        });
        let mut connection = Connection::open(address).await.unwrap();
        let answer = connection.call(b"ping").await.unwrap();
        assert_eq!(
            answer,
            Answer {
                status: 404,
                body: b"abc"
            }
        );
        assert_eq!(&server.await.unwrap(), b"ping");
    }

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
            request,
            body_bytes: 11,
            connections: 3,
            seconds: 0.2,
            warm_up: 0.0,
        };
        let seen = load(&options).await.unwrap();
        assert!(
            seen.requests > 3 && seen.p50_microseconds <= seen.p99_microseconds,
            "{seen:?}"
        );
        options.body_bytes = 12;
        let wrong = load(&options).await.unwrap_err().to_string();
        assert!(wrong.contains("11 bytes instead of 12"), "{wrong}");
        server.abort();
    }
}
