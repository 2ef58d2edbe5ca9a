//! The coordinator's decisions, as pure and synchronous state machines, and the store they rest on.
//!
//! The machines obey the contract at the head of `agent-core`.

pub mod control;
pub mod coordinator;
pub mod cutting;
pub mod host;
pub mod maps;
pub mod passes;
pub mod progress;
pub mod resume;
pub mod rows;
pub mod settings;
pub mod stages;
pub mod store;
pub mod tally;
