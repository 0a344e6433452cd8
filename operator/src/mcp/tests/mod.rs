//! The probe against servers of every kind, on real sockets.

mod fixture;
mod good;
mod hostile;
mod trouble;
