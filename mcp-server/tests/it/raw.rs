//! A client that keeps to no rules: bytes as a test wants them, over a socket of its own.

use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// Longest time for anything that should happen.
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Raw {
    pub(crate) socket: TcpStream,
    read: Vec<u8>,
}

impl Raw {
    pub(crate) async fn connect(url: &str) -> Raw {
        let socket = TcpStream::connect(address(url)).await.unwrap();
        Raw {
            socket,
            read: Vec::new(),
        }
    }

    /// With as small a buffer as the system allows for what is not read.
    pub(crate) async fn connect_narrow(url: &str) -> Raw {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(1024).unwrap();
        Raw {
            socket: socket.connect(address(url)).await.unwrap(),
            read: Vec::new(),
        }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Everything up to and with `end`; `None` when the connection ends before.
    pub(crate) async fn read_until(&mut self, end: &str) -> Option<String> {
        loop {
            let found = self
                .read
                .windows(end.len())
                .position(|part| part == end.as_bytes());
            if let Some(at) = found {
                let rest = self.read.split_off(at + end.len());
                let whole = std::mem::replace(&mut self.read, rest);
                return Some(String::from_utf8(whole).unwrap());
            }
            let mut part = [0; 4096];
            let read = tokio::time::timeout(LIMIT, self.socket.read(&mut part)).await;
            match read.expect("nothing came") {
                Ok(0) | Err(_) => return None,
                Ok(length) => self.read.extend_from_slice(&part[..length]),
            }
        }
    }

    /// The status of the next response; `None` when the connection was closed instead.
    pub(crate) async fn status(&mut self) -> Option<u16> {
        let head = self.read_until("\r\n\r\n").await?;
        // The body of the response before may stand in front.
        let (_, head) = head.rsplit_once("HTTP/1.1 ")?;
        head.get(..3)?.parse().ok()
    }

    /// Open a stream: the id that the first event names.
    pub(crate) async fn open_stream(&mut self) -> Option<String> {
        self.send("GET /sse HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n")
            .await;
        if self.status().await? != 200 {
            return None;
        }
        self.read_until("session_id=").await?;
        let id = self.read_until("\n\n").await?;
        Some(id.trim_end().to_owned())
    }
}

fn address(url: &str) -> SocketAddr {
    url.strip_prefix("http://").unwrap_or(url).parse().unwrap()
}

/// Head of a POST to /mcp whose body comes as these further headers say.
pub(crate) fn post_head(more: &str) -> String {
    format!(
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\n{more}\r\n\r\n"
    )
}
