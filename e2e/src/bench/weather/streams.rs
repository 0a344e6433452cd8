//! Open SSE streams: an address and a number go in; one line says when all have their first event, and they stay open until
//! standard input ends.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[arg(long)]
    address: SocketAddr,
    #[arg(long)]
    count: usize,
}

/// What is printed when all streams are open.
pub const OPEN: &str = "open";

pub async fn run(options: Options) -> Result<()> {
    let mut streams = Vec::with_capacity(options.count);
    for number in 0..options.count {
        let stream = open(options.address)
            .await
            .with_context(|| format!("failed to open stream {number}"))?;
        streams.push(stream);
    }
    println!("{OPEN}");
    let mut rest = Vec::new();
    tokio::io::stdin().read_to_end(&mut rest).await?;
    Ok(())
}

async fn open(address: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /sse HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = Vec::new();
    // Head and first event may come in any number of pieces.
    while !text.windows(4).any(|window| window == b"\n\n\r\n") {
        ensure!(
            stream.read_buf(&mut text).await? > 0,
            "the server closed the stream"
        );
        ensure!(
            text.len() < 4096 && (text.len() < 12 || text.starts_with(b"HTTP/1.1 200")),
            "not a stream: {}",
            String::from_utf8_lossy(&text)
        );
    }
    Ok(stream)
}
