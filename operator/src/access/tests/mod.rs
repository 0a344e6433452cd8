//! The steps one by one, and the driver against an API server and an Azure in memory.

mod cut_off;
mod driver;
mod rotation;
mod scenario;
mod selected;
mod steps;
mod trouble;
mod withdrawn;
