//! The actors: thin shells that carry inputs into the machine and outputs out.

pub mod agent;
pub mod link;
pub mod supervisor;
