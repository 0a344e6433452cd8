//! The measure for the weather server: an axum handler that parses a JSON body and returns prepared bytes, and nothing else.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, Result};
use axum::extract::State;
use axum::routing::post;
use axum::serve::ListenerExt;
use axum::{Json, Router};
use bytes::Bytes;
use http::HeaderName;
use http::header::CONTENT_TYPE;
use serde_json::Value;
use tokio::net::TcpListener;

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[arg(long)]
    pub(super) port: u16,
    /// File with the body of every answer
    #[arg(long)]
    pub(super) answer: PathBuf,
}

pub async fn run(options: Options) -> Result<()> {
    let answer = Bytes::from(std::fs::read(&options.answer).context("failed to read the answer")?);
    let router = Router::new().route("/mcp", post(respond)).with_state(answer);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port));
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("failed to listen on {address}"))?;
    // As the weather server does, so that neither waits for the other side's acknowledgements.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, router).await?)
}

async fn respond(
    State(answer): State<Bytes>,
    Json(_): Json<Value>,
) -> ([(HeaderName, &'static str); 1], Bytes) {
    ([(CONTENT_TYPE, "application/json")], answer)
}
