//! Larger tests: transport and long operations over real HTTP on loopback, and tables for pure steps.

mod access;
mod error;
mod operation;
mod plan;
mod recordings;
mod server;
mod transport;
mod wire;
