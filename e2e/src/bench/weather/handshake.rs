//! The handshake era on POST /mcp: a connection goes in; initialize, notifications/initialized and a call are done on it, and the
//! end of the session, if the server keeps one.

use std::net::SocketAddr;

use anyhow::{Result, ensure};

use super::call::{ALERTS, INITIALIZE, INITIALIZED, REVISION_WITH_HANDSHAKE, contains_alerts};
use super::connection::Connection;

pub async fn call(connection: &mut Connection, address: SocketAddr) -> Result<()> {
    let answer = connection
        .call(&request("POST", address, Stage::First, INITIALIZE))
        .await?;
    ensure!(
        answer.status == 200,
        "initialize was answered {}: {}",
        answer.status,
        String::from_utf8_lossy(answer.body)
    );
    let session = answer.header("mcp-session-id").map(str::to_owned);
    let stage = Stage::Later(session.as_deref());
    let answer = connection
        .call(&request("POST", address, stage, INITIALIZED))
        .await?;
    ensure!(answer.status == 202, "initialized was answered {}", answer.status);
    let answer = connection.call(&request("POST", address, stage, ALERTS)).await?;
    ensure!(
        answer.status == 200 && contains_alerts(answer.body),
        "the call was answered {}: {}",
        answer.status,
        String::from_utf8_lossy(answer.body)
    );
    if session.is_some() {
        let answer = connection.call(&request("DELETE", address, stage, "")).await?;
        ensure!(
            (200..300).contains(&answer.status),
            "DELETE was answered {}",
            answer.status
        );
    }
    Ok(())
}

/// Which headers a request has.
#[derive(Debug, Clone, Copy)]
enum Stage<'s> {
    First,
    /// The revision is agreed on, and perhaps a session.
    Later(Option<&'s str>),
}

fn request(method: &str, address: SocketAddr, stage: Stage<'_>, body: &str) -> Vec<u8> {
    let agreed = match stage {
        Stage::First => String::new(),
        Stage::Later(session) => {
            let session = session.map_or_else(String::new, |id| format!("mcp-session-id: {id}\r\n"));
            format!("mcp-protocol-version: {REVISION_WITH_HANDSHAKE}\r\n{session}")
        }
    };
    format!(
        "{method} /mcp HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\n{agreed}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_named_once_there_is_one() {
        let address = SocketAddr::from(([127, 0, 0, 1], 8000));
        let text = |stage| String::from_utf8(request("POST", address, stage, ALERTS)).unwrap();
        assert!(!text(Stage::First).contains("mcp-"));
        assert!(!text(Stage::Later(None)).contains("mcp-session-id"));
        assert!(text(Stage::Later(Some("s"))).contains("\r\nmcp-session-id: s\r\n"));
    }
}
