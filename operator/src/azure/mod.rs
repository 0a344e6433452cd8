//! Everything that speaks to Azure. `apim` is the ARM client and the registration engine and knows nothing of
//! Kubernetes; the rest finds out, for a McpGateway, which Azure it is in, with which credential, and keeps the clients.

pub mod apim;
mod budget;
pub mod clients;
pub mod environment;
pub mod gateway_secret;
pub mod probe_key;
