//! Tests of the API Management stand-in and of the weather replay, on loopback. No cluster is needed.

mod arm;
mod gateway;
mod hosts;
mod nws;
mod recordings;
mod support;
mod token;
