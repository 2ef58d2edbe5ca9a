//! The portsweep agent: probes what the coordinator leases to it, and only what it may.

pub mod actors;
pub mod clock;
pub mod frames;
pub mod limits;
pub mod privilege;
pub mod probe;
pub mod queue;
pub mod scope;
