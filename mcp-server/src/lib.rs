//! A weather MCP server: the default workload of mcp-fleet, and the reference for how a server should behave in a fleet.
//!
//! A request passes `http` (who asks, how long, in what form), `protocol` (one strict gate, then a stateless dispatch), `tools`
//! (arguments become work that cannot be wrong) and `weather` (cache, then `nws`), and comes back as bytes that are copied,
//! not serialised. Below, `accept` takes sockets, `connection` lets hyper read requests from them, and `endless` writes streams
//! past it. `resources`, `prompts` and `completion` offer the same weather in the other forms that MCP has. `sse` is
//! the older transport on top of the same dispatch, `replica` makes it work behind a load balancer. `audit` writes down who
//! called what, `traces` tells a collector. `conformance`, a feature that no image has, puts sessions and the fixture of the
//! conformance suite behind the same gate.

mod accept;
pub mod app;
pub mod audit;
pub mod completion;
pub mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
mod connection;
mod endless;
pub mod health_check;
pub mod http;
pub mod limit;
pub mod metrics;
pub mod nws;
pub mod open_files;
pub mod process;
pub mod prompts;
pub mod protocol;
pub mod replica;
pub mod resources;
mod seldom;
pub mod serve;
pub mod sse;
pub mod tools;
pub mod traces;
mod unread;
mod vital;
pub mod weather;
mod wire;
