//! End-to-end machinery.

pub mod cluster;
pub mod commands;
pub mod image;
pub mod progress;
