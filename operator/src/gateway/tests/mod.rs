//! The steps one by one, and the driver against an API server and an Azure in memory.

mod driver;
mod probe;
mod secret;
mod steps;
