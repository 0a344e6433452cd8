//! The process around the controllers. In: arguments and a cluster; out: controllers that run while this process leads.
//!
//! Watches and caches, queues and backoff, the lease, Events, metrics and health endpoints: nothing here knows what a
//! McpServer is for.

pub mod autoscalers;
pub mod backoff;
pub mod cache;
pub mod configs;
pub mod context;
pub mod controller;
pub mod definitions;
pub mod events;
pub mod http;
pub mod lease;
pub mod metrics;
pub mod queue;
pub mod run;
pub mod telemetry;
pub mod vital;
pub mod watches;
