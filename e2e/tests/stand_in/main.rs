//! Tests of the API Management stand-in and of the weather replay, on loopback. No cluster is needed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

mod arm;
mod echo;
mod entities;
mod facts;
mod gateway;
mod hosts;
mod nws;
mod operations;
mod policies;
mod policy_refusals;
mod recordings;
mod refusals;
mod support;
mod token;
