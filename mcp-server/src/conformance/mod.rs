//! The fixture of the MCP conformance suite, behind the gate of the weather server: sessions, streams, and tools, prompts and
//! resources that the suite knows by name.
//!
//! What the gate lets in goes through `endpoint` (is there such a session, is there room for one more) to rmcp, which keeps
//! sessions and streams and calls `handler`. What the weather server offers is offered here too, by the code that serves it
//! without rmcp, so that both ways can be compared. Only the binary `mcp-weather-conformance` has this, under the feature `conformance`.

mod changes;
mod endpoint;
mod handler;
mod media;
mod prompts;
mod questions;
mod request_state;
mod resources;
mod tools;
mod weather;

pub use endpoint::{Bounds, Sessions};
pub use weather::BuildError;
