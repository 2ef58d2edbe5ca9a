//! The actors: thin shells that carry inputs into the machine and outputs out.

pub mod coordinator;
pub mod session;
