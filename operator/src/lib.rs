//! The operator of mcp-fleet: runs MCP servers in Kubernetes and registers them in Azure API Management.
//!
//! In: McpServer, McpGateway and McpAccess objects. Out: Deployments, Services and Secrets, documents in API
//! Management, and status. `runtime::run` wires the controllers; each of them is a line of steps in a folder of its own.

#![cfg_attr(
    test,
    allow(
        clippy::large_stack_arrays,
        clippy::needless_pass_by_value,
        clippy::too_many_lines,
        clippy::type_complexity,
        reason = "tables of cases are long, and read best in one place"
    )
)]

pub mod access;
pub mod args;
pub mod azure;
pub mod claim;
pub mod condition;
pub mod constants;
#[cfg(test)]
mod fake;
pub mod gateway;
pub mod kube_write;
pub mod mcp;
pub mod runtime;
pub mod server;
pub mod steady;
