//! The weather server from outside: through its router, through its sockets and as a process, against a fake weather service.

// Clippy's exception for tests does not reach the functions that tests share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod allocations;
mod audit;
mod cancel;
#[cfg(feature = "conformance")]
mod conformance;
mod container;
mod drain;
mod fake_nws;
mod flood;
mod gateway;
mod harness;
mod hostile;
mod limits;
mod listen;
mod log;
mod mcp;
mod open_metrics;
mod probes;
mod process;
mod raw;
mod readiness;
mod replicas;
mod settings;
mod sick;
mod sse;
mod stale;
mod status;
mod surface;
mod traces;
mod weather;
