//! The National Weather Service: paths go out, weather comes back, with how long it stays fresh.

pub mod client;
pub mod error;
pub mod freshness;
mod lane;
pub mod model;
pub mod reach;
