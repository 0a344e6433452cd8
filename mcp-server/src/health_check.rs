//! `--health-check`: the server's own /ready is asked, on the metrics port, which no crowd of clients can take, and the answer becomes an exit code. An image without a shell has
//! nothing else to ask with.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// For each step; a probe that takes longer has its answer.
const TIME: Duration = Duration::from_secs(2);
/// An answer of /ready is far shorter.
const LONGEST_ANSWER: u64 = 4096;

/// The server is not ready.
#[derive(Debug, thiserror::Error)]
pub enum HealthCheckError {
    /// Nothing answers.
    #[error("failed to ask http://{address}/ready")]
    Silent {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It says so itself.
    #[error("not ready: {0}")]
    NotReady(String),
}

/// Ask the server that listens on `address`; one that listens on all addresses is asked on loopback.
pub fn ask(address: IpAddr, port: u16) -> Result<(), HealthCheckError> {
    let address = match address {
        IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        one => one,
    };
    let address = SocketAddr::new(address, port);
    let answer = exchange(address).map_err(|source| HealthCheckError::Silent { address, source })?;
    if answer.starts_with("HTTP/1.1 200 ") || answer.starts_with("HTTP/1.0 200 ") {
        return Ok(());
    }
    let body = answer.split_once("\r\n\r\n").map_or(&*answer, |(_, body)| body);
    Err(HealthCheckError::NotReady(body.trim().to_owned()))
}

fn exchange(address: SocketAddr) -> std::io::Result<String> {
    let mut socket = TcpStream::connect_timeout(&address, TIME)?;
    socket.set_read_timeout(Some(TIME))?;
    socket.set_write_timeout(Some(TIME))?;
    write!(
        socket,
        "GET /ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    socket.take(LONGEST_ANSWER).read_to_string(&mut answer)?;
    Ok(answer)
}
