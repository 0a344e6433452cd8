//! Transport and long operations over real HTTP on loopback.

mod operation;
mod server;
mod transport;
