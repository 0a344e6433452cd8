//! Weather server.
