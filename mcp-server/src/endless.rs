//! An answer without an end, sent past hyper: a socket and a response go in, and it is written until either side ends it.
//!
//! hyper keeps 16 KiB of buffers for each connection, which a stream of small events never needs. Thousands of streams fit into a
//! small limit of memory because what is kept here for one is its socket and its body.

use axum::body::Body;
use bytes::{Buf, Bytes};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{Response, Version};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use std::io::Write as _;
use tokio::io::{self, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Among the extensions of a response, the wish that it is sent like this.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Endless;

/// Bytes that a client may send on its stream. There is nothing that it could say there, and reading more costs more than it is worth.
const DROPPED: usize = 16 << 10;
/// Longest size of a chunk with its line end.
const SIZE: usize = size_of::<usize>() * 2 + 2;

/// Send `response` to a client of this version, which has asked on `socket`. What the client sends meanwhile is dropped, up to a
/// point where the connection is: nothing can be answered before the end, and then the connection ends too.
pub(crate) async fn send<S>(mut socket: S, version: Version, response: Response<Body>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let in_chunks = version >= Version::HTTP_11;
    socket.write_all(&head(&response, in_chunks)).await?;
    let mut body = response.into_body();
    let mut dropped = [0; 64];
    let mut total = 0;
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            read = socket.read(&mut dropped) => {
                let bytes = read?;
                total += bytes;
                if bytes == 0 || total > DROPPED {
                    return Ok(());
                }
                continue;
            }
        };
        let Some(frame) = frame else { break };
        if let Ok(data) = frame.map_err(io::Error::other)?.into_data() {
            write(&mut socket, data, in_chunks).await?;
        }
    }
    if in_chunks {
        socket.write_all(b"0\r\n\r\n").await?;
    }
    socket.shutdown().await
}

/// The status line and the headers. Dates and framing are what hyper would have added.
fn head(response: &Response<Body>, in_chunks: bool) -> Vec<u8> {
    let mut out = format!("HTTP/1.1 {}\r\n", response.status()).into_bytes();
    let headers = response.headers().iter();
    let ours = [CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING];
    for (name, value) in headers.filter(|(name, _)| !ours.contains(name)) {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(date().as_bytes());
    if in_chunks {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(b"connection: close\r\n\r\n");
    out
}

/// The header, with its line end, that an answer with a clock behind it must have (RFC 9110, section 6.6.1).
pub(crate) fn date() -> String {
    let now = DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now());
    // Times that it cannot print are far from now.
    now.map_or_else(|_| String::new(), |date| format!("date: {date}\r\n"))
}

async fn write<S: AsyncWrite + Unpin>(socket: &mut S, data: Bytes, in_chunks: bool) -> io::Result<()> {
    // A chunk of no bytes would be the end.
    if !in_chunks || data.is_empty() {
        return socket.write_all(&data).await;
    }
    let mut size = [0; SIZE];
    let mut rest = &mut size[..];
    write!(rest, "{:x}\r\n", data.len())?;
    let left = rest.len();
    let mut chunk = Buf::chain(&size[..SIZE - left], data).chain(&b"\r\n"[..]);
    socket.write_all_buf(&mut chunk).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt as _;
    use http::header::CONTENT_TYPE;
    use http::{HeaderValue, StatusCode};
    use std::convert::Infallible;
    use tokio::io::duplex;

    fn response(pieces: &[&'static str]) -> Response<Body> {
        let pieces: Vec<_> = pieces
            .iter()
            .map(|piece| Ok::<_, Infallible>(Bytes::from_static(piece.as_bytes())))
            .collect();
        let mut response = Response::new(Body::from_stream(futures::stream::iter(pieces)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("7"));
        response
    }

    async fn sent(version: Version, pieces: &[&'static str]) -> (Vec<String>, String) {
        let (here, mut there) = duplex(16);
        let mut text = String::new();
        let reading = there.read_to_string(&mut text);
        let (sent, read) = tokio::join!(send(here, version, response(pieces)), reading);
        sent.unwrap();
        read.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split("\r\n").map(str::to_owned).collect(), body.to_owned())
    }

    #[tokio::test]
    async fn in_chunks_and_once_each_header() {
        let (head, body) = sent(Version::HTTP_11, &["first", "", "a second that is longer"]).await;
        assert_eq!(head[0], "HTTP/1.1 200 OK");
        assert_eq!(head[1], "content-type: text/event-stream");
        assert!(
            head[2].starts_with("date: ") && head[2].ends_with(" GMT"),
            "{head:?}"
        );
        assert_eq!(head[3..], ["transfer-encoding: chunked", "connection: close"]);
        assert_eq!(body, "5\r\nfirst\r\n17\r\na second that is longer\r\n0\r\n\r\n");
    }

    #[tokio::test]
    async fn as_it_is_for_those_who_know_no_chunks() {
        let (head, body) = sent(Version::HTTP_10, &["first", "second"]).await;
        assert!(
            !head.iter().any(|line| line.starts_with("transfer-encoding")),
            "{head:?}"
        );
        assert_eq!(body, "firstsecond");
    }

    #[tokio::test]
    async fn it_ends_when_the_client_goes_whatever_it_said_before() {
        let (here, mut there) = duplex(1024);
        let quiet = futures::stream::pending::<Result<Bytes, Infallible>>();
        let body = Body::from_stream(futures::stream::iter([Ok(Bytes::from_static(b"x"))]).chain(quiet));
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::OK;
        let sending = tokio::spawn(send(here, Version::HTTP_11, response));
        let mut byte = [0];
        there.read_exact(&mut byte).await.unwrap();
        there.write_all(&[b'x'; 500]).await.unwrap();
        assert!(!sending.is_finished());
        there.shutdown().await.unwrap();
        sending.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_client_that_does_not_stop_talking_is_cut_off() {
        let (here, mut there) = duplex(1024);
        let body = Body::from_stream(futures::stream::pending::<Result<Bytes, Infallible>>());
        let sending = tokio::spawn(send(here, Version::HTTP_11, Response::new(body)));
        let ended = there.write_all(&vec![b'x'; 2 * DROPPED]).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        sending.await.unwrap().unwrap();
    }
}
