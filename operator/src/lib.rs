//! The operator of mcp-fleet: runs MCP servers in Kubernetes and registers them in Azure API Management.
//!
//! In: McpServer, McpGateway and McpAccess objects. Out: Deployments, Services and Secrets, documents in API
//! Management, and status. `run` wires the controllers; each of them is a line of steps in a folder of its own.

pub mod access;
pub mod apim;
pub mod args;
pub mod arm_clients;
pub mod azure_environment;
pub mod backoff;
pub mod cache;
pub mod condition;
pub mod constants;
pub mod context;
pub mod controller;
pub mod events;
#[cfg(test)]
mod fake;
pub mod gateway;
pub mod http;
pub mod kube_write;
pub mod lease;
pub mod mcp;
pub mod metrics;
pub mod probe_key;
pub mod run;
pub mod server;
pub mod steady;
pub mod telemetry;
pub mod watches;
