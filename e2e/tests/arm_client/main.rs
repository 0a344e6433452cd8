//! The operator's ARM client and registration engine against the APIM stand-in, without a cluster.
//! In: the stand-in on loopback with its switches and faults; out: what it holds afterwards, and how many requests
//! that took.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends where something is not as it should be"
)]

mod access;
mod auth;
mod budget;
mod conflict;
mod create;
mod faults;
mod fixture;
mod gateway;
mod policy_facts;
mod probe;
mod secret;
mod switches;
