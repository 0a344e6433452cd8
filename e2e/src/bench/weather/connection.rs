//! A kept HTTP/1.1 connection with one request at a time on it. In: requests as bytes. Out: answers, read to their end.
//!
//! It looks for the head's end and the length, no more, so that it needs less time for a call than any server does.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::chunks::read_chunk;

/// The longest answer; the one that is measured has two thousand bytes.
const LONGEST: usize = 16 << 10;

#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The data of a chunked body.
    joined: Vec<u8>,
}

/// An answer, read to its end.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    pub status: u16,
    head: &'a [u8],
    pub body: &'a [u8],
}

/// What is known once an answer's head is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    bytes: usize,
    status: u16,
    /// None when it comes in chunks.
    body_bytes: Option<usize>,
}

impl Answer<'_> {
    /// The first header of this name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(std::str::from_utf8(self.head).ok()?, name)
    }
}

/// Connects, from an address of this machine when asked to.
pub async fn connect(address: SocketAddr, from: Option<Ipv4Addr>) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(from) = from {
        socket.bind((from, 0).into())?;
    }
    let stream = socket
        .connect(address)
        .await
        .with_context(|| format!("failed to connect to {address}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Result<Self> {
        Ok(Self::on(connect(address, None).await?))
    }

    pub fn on(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: vec![0; LONGEST],
            joined: Vec::new(),
        }
    }

    pub async fn call(&mut self, request: &[u8]) -> Result<Answer<'_>> {
        self.stream.write_all(request).await?;
        let (mut filled, mut head) = (0, None);
        loop {
            ensure!(
                filled < self.buffer.len(),
                "an answer of more than {LONGEST} bytes"
            );
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            if read == 0 {
                bail!("the server closed the connection");
            }
            filled += read;
            if head.is_none() {
                head = read_head(&self.buffer[..filled])?;
            }
            let Some(head) = head else { continue };
            let Some(end) = self.end(head, filled)? else {
                continue;
            };
            ensure!(filled <= end, "more bytes than one answer has");
            if filled == end {
                return Ok(Answer {
                    status: head.status,
                    head: &self.buffer[..head.bytes],
                    body: match head.body_bytes {
                        Some(_) => &self.buffer[head.bytes..end],
                        None => &self.joined,
                    },
                });
            }
        }
    }

    /// Where the answer ends, as far as that is known; chunks are joined on the way.
    fn end(&mut self, head: Head, filled: usize) -> Result<Option<usize>> {
        if let Some(length) = head.body_bytes {
            return Ok(Some(head.bytes + length));
        }
        let mut at = head.bytes;
        self.joined.clear();
        while let Some(chunk) = read_chunk(&self.buffer[at..filled])? {
            if chunk.data.is_empty() {
                return Ok(Some(at + chunk.end));
            }
            self.joined
                .extend_from_slice(&self.buffer[at + chunk.data.start..at + chunk.data.end]);
            at += chunk.end;
        }
        Ok(None)
    }

    /// Waits until the server closes it, without asking for anything.
    pub async fn closed(&mut self) -> Result<()> {
        ensure!(
            self.stream.read(&mut self.buffer).await? == 0,
            "bytes that nobody asked for"
        );
        Ok(())
    }
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.split("\r\n").find_map(|line| {
        let (known, value) = line.split_once(':')?;
        known.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// None as long as the head is not complete.
fn read_head(bytes: &[u8]) -> Result<Option<Head>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..end]).context("a head that is not text")?;
    let status = text
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok());
    let status = status.context("an answer that is not HTTP/1.1")?;
    let body_bytes = match header(text, "content-length") {
        Some(length) => Some(length.parse().context("a length that is no number")?),
        // Has no body by definition (RFC 9110, section 15.3.5).
        None if status == 204 => Some(0),
        None => {
            ensure!(
                header(text, "transfer-encoding") == Some("chunked"),
                "an answer without a length: {text}"
            );
            None
        }
    };
    Ok(Some(Head {
        bytes: end + 4,
        status,
        body_bytes,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn a_head_is_read_when_it_is_complete() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Type: x\r\nCONTENT-length: 5\r\n\r\nhe";
        assert_eq!(
            read_head(text).unwrap(),
            Some(Head {
                bytes: text.len() - 2,
                status: 200,
                body_bytes: Some(5)
            })
        );
        assert_eq!(read_head(&text[..30]).unwrap(), None);
        for bad in ["HTTP/1.1 200 OK\r\n\r\n", "ICY 200\r\ncontent-length: 1\r\n\r\n"] {
            assert!(read_head(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    async fn answered_with(pieces: &'static [&'static str]) -> (u16, String, Option<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4];
            stream.read_exact(&mut request).await.unwrap();
            for piece in pieces {
                stream.write_all(piece.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
            }
            request
        });
        let mut connection = Connection::open(address).await.unwrap();
        let answer = connection.call(b"ping").await.unwrap();
        let body = String::from_utf8(answer.body.to_vec()).unwrap();
        let seen = (
            answer.status,
            body,
            answer.header("mcp-session-id").map(str::to_owned),
        );
        assert_eq!(&server.await.unwrap(), b"ping");
        connection.closed().await.unwrap();
        seen
    }

    #[tokio::test]
    async fn an_answer_may_come_in_pieces() {
        let pieces = &[
            "HTTP/1.1 404 Not",
            " Found\r\nMcp-Session-Id: s\r\ncontent-length: 3\r\n\r",
            "\na",
            "bc",
        ];
        assert_eq!(answered_with(pieces).await, (404, "abc".into(), Some("s".into())));
        let pieces = &[
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\na",
            "b\r\n1\r\nc\r\n0\r\n\r",
            "\n",
        ];
        assert_eq!(answered_with(pieces).await, (200, "abc".into(), None));
    }
}
