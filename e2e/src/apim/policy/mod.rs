//! Policy documents: reading, checking, writing and the expressions inside them.
//! The ARM plane checks and normalises them, the gateway runs them.

pub(crate) mod check;
pub(crate) mod expression;
pub(crate) mod facts;
mod operators;
mod types;
mod values;
pub(crate) mod write;
pub(crate) mod xml;
