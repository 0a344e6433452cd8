//! End-to-end machinery.

pub mod apim;
pub mod bench;
pub mod clients;
pub mod cluster;
pub mod commands;
pub mod demo;
pub mod hostile_server;
pub mod image;
pub mod install;
pub mod nws;
pub mod progress;
pub mod test_server;
