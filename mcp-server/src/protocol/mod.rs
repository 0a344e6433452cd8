//! MCP without a transport: bytes of one message go in, an answer or a tool call to run comes out.
//!
//! Everything is served from here, without rmcp. The server's surface is fixed and small, each answer but a tool's is known
//! at start, and two of its three transports (HTTP+SSE, and both eras on one endpoint without sessions) would need code of
//! our own around rmcp anyway; most of rmcp's cost per call is its own machinery. The official SDK clients judge the result.

pub mod answer;
pub mod dispatch;
pub mod envelope;
pub mod json;
pub mod listing;
pub mod modern;
pub mod revision;
