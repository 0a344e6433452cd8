//! End-to-end machinery.
