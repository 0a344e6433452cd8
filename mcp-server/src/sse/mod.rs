//! HTTP+SSE (2024-11-05, kept for older clients): GET /sse opens a stream, POST /messages/{session_id} sends a message to it,
//! and the answers come on the stream. A stream is one channel of bytes, bounded in events and in bytes; its messages take the stateless dispatch.

pub mod framing;
pub mod message;
pub mod open;
pub mod streams;
pub mod waiting;
