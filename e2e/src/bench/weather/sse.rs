//! A client of the SSE transport: GET /sse, then messages to where the stream says, and their answers from the stream.
//!
//! In: a server's address. Out: a [`Client`] that has done its handshake, and makes calls. Its POST connection is its own and kept.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::call::{ALERTS, INITIALIZE, INITIALIZED, contains_alerts};
use super::chunks::read_chunk;
use super::connection::{Connection, connect};

#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    /// Bytes of the stream that are not a whole chunk yet.
    bytes: Vec<u8>,
    /// Text of the stream that is not a whole event yet.
    text: Vec<u8>,
    posts: Connection,
    /// Method, path and headers up to the length.
    head: String,
}

impl Client {
    /// Opens a stream, from an address of this machine when asked to, and shakes hands.
    pub async fn open(address: SocketAddr, from: Option<Ipv4Addr>) -> Result<Self> {
        let mut stream = connect(address, from).await?;
        let request = format!("GET /sse HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut client = Self {
            stream,
            bytes: Vec::new(),
            text: Vec::new(),
            posts: Connection::on(connect(address, from).await?),
            head: String::new(),
        };
        client.read_head().await?;
        let reference = client.next("endpoint").await?;
        let reference = String::from_utf8(reference).context("an endpoint that is not text")?;
        client.head = format!(
            "POST /{reference} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: "
        );
        client.post(INITIALIZE).await?;
        client.next("message").await?;
        client.post(INITIALIZED).await?;
        Ok(client)
    }

    /// One tool call, to its answer.
    pub async fn call(&mut self) -> Result<()> {
        self.post(ALERTS).await?;
        let answer = self.next("message").await?;
        ensure!(
            contains_alerts(&answer),
            "an answer without alerts: {}",
            String::from_utf8_lossy(&answer)
        );
        Ok(())
    }

    /// Waits until the server has closed the POST connection because nothing was sent on it.
    pub async fn idle(&mut self) -> Result<()> {
        self.posts.closed().await
    }

    async fn post(&mut self, body: &str) -> Result<()> {
        let request = format!("{}{}\r\n\r\n{body}", self.head, body.len());
        let answer = self.posts.call(request.as_bytes()).await?;
        ensure!(
            answer.status == 202,
            "a message was answered {}: {}",
            answer.status,
            String::from_utf8_lossy(answer.body)
        );
        Ok(())
    }

    async fn read_head(&mut self) -> Result<()> {
        loop {
            if let Some(end) = self.bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.bytes.drain(..end + 4).collect();
                ensure!(
                    head.starts_with(b"HTTP/1.1 200"),
                    "not a stream: {}",
                    String::from_utf8_lossy(&head)
                );
                return Ok(());
            }
            self.read().await?;
        }
    }

    /// The data of the next event, which must be of this kind. Comments are passed over.
    async fn next(&mut self, kind: &str) -> Result<Vec<u8>> {
        loop {
            while let Some(end) = self.text.windows(2).position(|window| window == b"\n\n") {
                let block: Vec<u8> = self.text.drain(..end + 2).collect();
                if block.starts_with(b":") {
                    continue;
                }
                let begin = format!("event: {kind}\ndata: ");
                let data = block.strip_prefix(begin.as_bytes());
                let data = data.and_then(|data| data.strip_suffix(b"\n\n"));
                let data =
                    data.with_context(|| format!("no {kind} event: {}", String::from_utf8_lossy(&block)))?;
                return Ok(data.to_vec());
            }
            while let Some(chunk) = read_chunk(&self.bytes)? {
                ensure!(!chunk.data.is_empty(), "the server ended the stream");
                self.text.extend_from_slice(&self.bytes[chunk.data]);
                self.bytes.drain(..chunk.end);
            }
            if !self.text.windows(2).any(|window| window == b"\n\n") {
                self.read().await?;
            }
        }
    }

    async fn read(&mut self) -> Result<()> {
        let read = self.stream.read_buf(&mut self.bytes).await?;
        ensure!(read > 0, "the server closed the stream");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Plays a server that holds the stream in one connection and takes messages on the other.
    async fn serve(listener: TcpListener, stream_pieces: [&'static str; 4]) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut posts, _) = listener.accept().await.unwrap();
        let mut buffer = vec![0; 4096];
        assert!(stream.read(&mut buffer).await.unwrap() > 0);
        let [first, answer, comment, call] = stream_pieces;
        stream.write_all(first.as_bytes()).await.unwrap();
        for said in [Some(answer), None, Some(comment)] {
            let read = posts.read(&mut buffer).await.unwrap();
            assert!(buffer[..read].starts_with(b"POST /messages/a?session_id=a HTTP/1.1\r\n"));
            posts
                .write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")
                .await
                .unwrap();
            stream
                .write_all(said.unwrap_or_default().as_bytes())
                .await
                .unwrap();
        }
        stream.write_all(call.as_bytes()).await.unwrap();
        drop(posts);
        // Until the client goes.
        let _ = stream.read(&mut buffer).await;
    }

    #[tokio::test]
    async fn answers_come_from_the_stream_in_any_pieces() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(
            listener,
            [
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n38\r\nevent: endpoint\ndata: messages/a?session_id=a\n\n: hello\n\n\r\n",
                "18\r\nevent: message\ndata: {}\n\r\n1\r\n\n\r\n",
                "4\r\n: \n\n\r\n1f",
                "\r\nevent: message\ndata: Event: x\n\n\r\n",
            ],
        ));
        let mut client = Client::open(address, Some(Ipv4Addr::LOCALHOST)).await.unwrap();
        client.call().await.unwrap();
        client.idle().await.unwrap();
        drop(client);
        server.await.unwrap();
    }
}
