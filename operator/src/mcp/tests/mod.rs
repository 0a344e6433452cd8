//! The probe against servers of every kind, on real sockets.

mod borders;
mod fixture;
mod good;
mod hostile;
mod trouble;
